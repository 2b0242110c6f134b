"""How often an engine's answer beats the baseline's answer to the same prompt, under a reward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fairlead import catalog
from fairlead.engines.base import Engine, Sampling
from fairlead.errors import UsageError
from fairlead.estimates import Estimate, estimate_mean, estimate_rate, per_prompt
from fairlead.evaluation.base import Report
from fairlead.evaluation.samples import GREEDY, draw, other_engines, prompts_of, sample_rows, texts, value
from fairlead.figures import shares

__all__ = ["WinRate"]


@dataclass(frozen=True)
class WinRate:
    """Win rate of every engine against a baseline engine; a tie counts half.

    Sample i of the engine meets sample i of the baseline. Intervals are over prompts: Wilson's where a rate has no
    ties, bootstrap otherwise.
    """

    reward: Any
    """The reward that judges: a catalog name, or {name, fields...}."""
    baseline: str
    """Name of the engine that the others are compared with."""
    tie_margin: float = 0.0
    """Rewards that differ by no more than this are a tie, in units of the reward."""
    sampling: Sampling = GREEDY
    """How answers are drawn."""
    confidence: float = 0.95
    """Coverage of the intervals, between 0 and 1."""
    seed: int = 0
    """Randomness of the bootstrap."""

    example: ClassVar[Mapping[str, Any]] = {"reward": "harbor", "baseline": "base"}

    def __post_init__(self) -> None:
        if not self.tie_margin >= 0:
            raise UsageError(f"win_rate.tie_margin is {self.tie_margin}", fix="use 0 or more")
        self.build()

    def build(self) -> Any:
        """Return the reward that judges."""
        return catalog.from_spec("reward", self.reward)

    def __call__(self, engines: Mapping[str, Engine], records: Sequence[Any]) -> Report:
        """Compare every other engine with the baseline on the records' prompts.

        Axes: `rate` (wins plus half the ties), `wins`, `ties`, `losses` (shares), `margin` (mean difference of the
        rewards). Rows: id, engine, sample, reward, baseline_reward, margin, outcome,
        rate (1, .5 or 0).
        """
        others = other_engines(engines, self.baseline, "baseline")
        prompts, reward = prompts_of(records), self.build()
        answers = draw(engines, prompts, self.sampling)
        before = value(reward, prompts, texts(answers[self.baseline]))
        report = Report({})
        for name in others:
            after = value(reward, prompts, texts(answers[name]))
            margin = after - before
            points = np.where(np.abs(margin) <= self.tie_margin, 0.5, (margin > 0).astype(float))
            points[np.isnan(margin)] = np.nan
            columns = {
                "reward": after,
                "baseline_reward": before,
                "margin": margin,
                "outcome": [[_OUTCOMES.get(p) for p in row] for row in points],
                "rate": points,
            }
            report.rows += sample_rows(name, records, columns)
            report.summary[name] = self._summary(points, margin)
            missing = int(np.isnan(points).sum())
            if missing:
                report.notes.append(f"{name}: {missing} of {points.size} comparisons have no reward on one side")
        parts = {"won": "wins", "tied": "ties", "lost": "losses"}
        bars = {name: {part: axes[axis].value for part, axis in parts.items()} for name, axes in report.summary.items()}
        report.figures = {f"against {self.baseline}": shares(bars, label=f"share of comparisons with {self.baseline}")}
        return report

    def _summary(self, points: np.ndarray, margin: np.ndarray) -> dict[str, Estimate]:
        options = {"confidence": self.confidence, "seed": self.seed}
        rates = {"rate": points}
        for axis, worth in (("wins", 1.0), ("ties", 0.5), ("losses", 0.0)):
            rates[axis] = np.where(np.isnan(points), np.nan, points == worth)
        summary = {axis: estimate_rate(per_prompt(values), **options) for axis, values in rates.items()}
        return summary | {"margin": estimate_mean(per_prompt(margin), **options)}


_OUTCOMES = {1.0: "win", 0.5: "tie", 0.0: "loss"}
