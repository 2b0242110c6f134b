"""What the best of N draws would reach and cost in KL, foretold from one engine's draws and held against real answers.

Sources: Yang et al. 2024, "Asymptotics of Language Model Alignment" (arXiv 2404.01730); Beirami et al. 2024 (arXiv
2401.01879). The estimators are `fairlead.theory.samples`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from scipy import stats

from fairlead import catalog
from fairlead.engines.base import Completion, Engine, Prompt, Sampling
from fairlead.errors import UnknownNameError, UnsupportedError, UsageError
from fairlead.estimates import Estimate, estimate_mean
from fairlead.evaluation.base import Report
from fairlead.evaluation.drift import log_ratios as token_log_ratios
from fairlead.evaluation.samples import check_plain, draw, prompts_of, texts, value
from fairlead.rewards.base import RewardSpec
from fairlead.theory.best_of_n import kl_bound
from fairlead.theory.drawings import draw_estimates
from fairlead.theory.samples import (
    LEAST_DRAWS,
    best_frontier,
    kl_of_best,
    log_ratios,
    policy_distance,
    reward_of_best,
    tilt_curve,
    win_rate_of_best,
)

__all__ = ["BestOfNCurve"]

_FRESH = 1_000_003
"""Added to the seed for the base's draws: those of one seed would be among the ones that a decoder chooses from."""
_PARTS = 50
_NOTHING = Estimate(math.nan, math.nan, math.nan, 0)


@dataclass(frozen=True)
class BestOfNCurve:
    """Reward and KL of the best of N, foretold from one engine's draws, beside the tilt and engines that are there."""

    base: str
    """The engine that answers are drawn from; every other engine is measured against it."""
    reward: RewardSpec = "harbor"
    """What chooses: a catalog name, or {name, fields...}."""
    best_of: dict[str, int] | None = None
    """Engine -> N, for engines that keep the best of N answers of the base: what they reach is held against what is
    foretold. Engines left out here are policies of their own, whose distance from the tilt is measured."""
    draws: int = 128
    """Answers of the base per prompt, M; 50 or more."""
    at: tuple[int, ...] = ()
    """The N that are foretold, each at most a quarter of the draws; by default 1, 2, 4 and so on."""
    sampling: Sampling = Sampling(temperature=1.0, n=16)
    """How the other engines' answers are drawn, and with `draws` for n the base's; plain sampling only."""
    confidence: float = 0.95
    """Coverage of the intervals, between 0 and 1."""
    seed: int = 0
    """Randomness of the bootstrap."""

    example: ClassVar[Mapping[str, Any]] = {
        "base": "base",
        "best_of": {"other": 4},
        "draws": 50,
        "sampling": {"temperature": 1.0, "n": 4, "max_tokens": 24},
    }

    def __post_init__(self) -> None:
        check_plain(self.sampling, "best_of_n_curve")
        if self.draws < LEAST_DRAWS:
            raise UsageError(f"best_of_n_curve.draws is {self.draws}", fix=f"use {LEAST_DRAWS} or more, such as 128")
        for n in (*self.at, *(self.best_of or {}).values()):
            if not 1 <= n <= self.draws // 4:
                what = f"the best of {n} from {self.draws} draws"
                raise UsageError(what, place="best_of_n_curve", fix=f"use N from 1 to {self.draws // 4}, or more draws")
        if self.base in (self.best_of or {}):
            raise UsageError(f"{self.base!r} is the base and a best of N", place="best_of_n_curve", fix="name it once")
        catalog.from_spec("reward", self.reward)

    @property
    def ns(self) -> tuple[int, ...]:
        """The N that are foretold, ascending."""
        doubled = tuple(2**k for k in range(int(math.log2(self.draws // 4)) + 1))
        return tuple(sorted({*(self.at or doubled), *(self.best_of or {}).values()}))

    def __call__(self, engines: Mapping[str, Engine], records: Sequence[Any]) -> Report:
        """Foretell from the base's draws, and measure the other engines.

        Axes of the base, for every N: `reward_N`, `kl_N` (nats), `win_N` (against one draw) and `bound_N`. Of a best of
        N: `reward`, `kl` (mean log-ratio of its answers under the base's reward levels), `predicted`, `predicted_kl`,
        `reward_gap`, `kl_gap` (measured less foretold, prompt by prompt), and `agrees`: 1 when both gaps' intervals,
        made wide enough to hold all at once, hold 0. Of other engines: `reward`, `kl` (from log-probs), `alpha` and
        `distance` (nats from the tilt at alpha). Rows: id, engine, and these of one prompt. Prompts on which the reward
        abstains are left out, and noted.

        Raises:
            UnknownNameError: the base, or an engine of `best_of`, is not there.
        """
        for name in (self.base, *(self.best_of or {})):
            if name not in engines:
                raise UnknownNameError("engine", name, engines, place="best_of_n_curve")
        prompts, reward = prompts_of(records), catalog.from_spec("reward", self.reward)
        fresh = replace(self.sampling, n=self.draws, seed=self.sampling.seed + _FRESH, logprobs=False)
        drawn = draw({self.base: engines[self.base]}, prompts, fresh)[self.base]
        found = _Draws(prompts, value(reward, prompts, texts(drawn)), [str(record.id) for record in records])
        report = Report({})
        points: dict[str, tuple[Any, Any]] = {}
        self._foretell(found, report, points)
        others = {name: engine for name, engine in engines.items() if name != self.base}
        for name, answers in (draw(others, prompts, self.sampling) if others else {}).items():
            values = value(reward, prompts, texts(answers))
            if name in (self.best_of or {}):
                self._hold(name, values, found, report)
            else:
                self._place(name, engines, answers, values, found, report)
            axes = report.summary[name]
            points[name] = ([axes["kl"].value], [axes["reward"].value])
        if found.kept.any():
            report.figures["reward by KL"] = draw_estimates(points, tilt_curve(found.values[found.kept]))
        return report

    def _mean(self, values: np.ndarray, confidence: float | None = None) -> Estimate:
        return estimate_mean(values, confidence=confidence or self.confidence, seed=self.seed)

    def _foretell(self, found: _Draws, report: Report, points: dict[str, tuple[Any, Any]]) -> None:
        axes: dict[str, np.ndarray] = {}
        for n in self.ns:
            axes |= {f"reward_{n}": found.reward(n), f"kl_{n}": found.kl(n), f"win_{n}": found.win(n)}
        report.summary[self.base] = {axis: self._mean(values) for axis, values in axes.items()}
        told = int(found.kept.sum())
        for n in self.ns:
            bound = float(kl_bound(n))
            report.summary[self.base][f"bound_{n}"] = _known(bound, told) if told else _NOTHING
        report.rows += found.rows(self.base, axes)
        if told < len(found.kept):
            report.notes.append(f"{len(found.kept) - told} prompts are left out: the reward abstains on some draw")
        if told:
            best = best_frontier(found.values[found.kept])
            points["best of N"] = (best.kl, best.reward)

    def _hold(self, name: str, values: np.ndarray, found: _Draws, report: Report) -> None:
        n = (self.best_of or {})[name]
        reward = np.where(found.kept, np.nan_to_num(values).mean(1), np.nan)
        reward[np.isnan(values).any(1)] = np.nan
        kl = np.full(len(reward), np.nan)
        for i in np.flatnonzero(~np.isnan(reward)):
            kl[i] = log_ratios(found.values[i], values[i], n).mean()
        predicted, predicted_kl = (np.where(np.isnan(reward), np.nan, v) for v in (found.reward(n), found.kl(n)))
        gaps = {"reward_gap": reward - predicted, "kl_gap": kl - predicted_kl}
        axes = {"reward": reward, "kl": kl, "predicted": predicted, "predicted_kl": predicted_kl, **gaps}
        report.summary[name] = {axis: self._mean(v) for axis, v in axes.items()}
        together = 1 - (1 - self.confidence) / (2 * len(self.best_of or {}))
        agrees = [_holds(self._mean(v, together), report.summary[self.base]["reward_1"].n) for v in gaps.values()]
        report.summary[name]["agrees"] = _known(float(all(agrees)), 1) if None not in agrees else _NOTHING
        if None in agrees:
            report.notes.append(f"{name}: too few prompts to say whether it agrees with what is foretold")
        unseen = sum(
            int((~np.isin(np.round(values[i], 9), np.round(found.values[i], 9))).sum())
            for i in np.flatnonzero(~np.isnan(reward))
        )
        if unseen:
            what = f"{unseen} of its answers have a reward that no draw of {self.base} has; each counts log {n} nats"
            report.notes.append(f"{name}: {what}")
        report.rows += found.rows(name, axes)

    def _place(
        self,
        name: str,
        engines: Mapping[str, Engine],
        answers: Sequence[Sequence[Completion]],
        values: np.ndarray,
        found: _Draws,
        report: Report,
    ) -> None:
        usable = found.kept & ~np.isnan(values).any(1)
        kept: list[int] = np.flatnonzero(usable).tolist()
        ratio = np.full(values.shape, np.nan)
        try:
            if len(kept):
                asked, said = [found.prompts[i] for i in kept], [answers[i] for i in kept]
                ratio[kept] = token_log_ratios(engines[name], engines[self.base], asked, said)
        except UnsupportedError as error:
            report.notes.append(f"{name}: its distance is unknown, for log-probs are missing ({error.what})")
            kept = []
        axes = {"reward": np.where(usable, np.nan_to_num(values).mean(1), np.nan), "kl": ratio.mean(1)}
        report.summary[name] = {axis: self._mean(v) for axis, v in axes.items()}
        report.rows += found.rows(name, axes)
        if not kept:
            report.notes.append(f"{name}: there is no prompt to place it by")
        report.summary[name] |= self._distance(ratio[kept], values[kept], found.values[kept])

    def _distance(self, ratio: np.ndarray, values: np.ndarray, base: np.ndarray) -> dict[str, Estimate]:
        """Estimate alpha and distance; their errors from a jackknife over up to 50 parts of the prompts."""
        count = len(ratio)
        if ratio.size < 2:
            return {"alpha": _NOTHING, "distance": _NOTHING}

        def of(rows: np.ndarray) -> tuple[float, float]:
            prompts = np.repeat(np.arange(len(rows)), values.shape[1])
            to = policy_distance(ratio[rows].ravel(), values[rows].ravel(), base[rows], prompts=prompts)
            return to.alpha, to.distance

        whole, parts = of(np.arange(count)), min(count, _PARTS)
        half = np.full(2, math.nan)
        if parts > 1 and (count - math.ceil(count / parts)) * values.shape[1] >= 2:
            without = np.array([of(np.flatnonzero(np.arange(count) % parts != k)) for k in range(parts)])
            spread = ((without - without.mean(0)) ** 2).sum(0) * (parts - 1) / parts
            half = np.sqrt(spread) * float(stats.norm.isf((1 - self.confidence) / 2))
        return {
            axis: Estimate(v, v - h, v + h, count)
            for axis, v, h in zip(("alpha", "distance"), whole, half.tolist(), strict=True)
        }


@dataclass(frozen=True)
class _Draws:
    """The base's draws: prompts [P], their rewards [P, M] (NaN where abstained), ids [P]."""

    prompts: Sequence[Prompt]
    values: np.ndarray
    ids: Sequence[str]

    @property
    def kept(self) -> Any:
        return np.isfinite(self.values).all(axis=1)

    def reward(self, n: int) -> np.ndarray:
        return self._of_kept(reward_of_best, n)

    def kl(self, n: int) -> np.ndarray:
        return self._of_kept(kl_of_best, n)

    def win(self, n: int) -> np.ndarray:
        return self._of_kept(win_rate_of_best, n)

    def rows(self, name: str, axes: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
        """Return one row per prompt; NaN becomes None."""
        columns = {axis: [None if math.isnan(v) else float(v) for v in values] for axis, values in axes.items()}
        return [
            {"id": own, "engine": name, **{axis: column[i] for axis, column in columns.items()}}
            for i, own in enumerate(self.ids)
        ]

    def _of_kept(self, estimator: Any, n: int) -> np.ndarray:
        found = np.full(len(self.values), np.nan)
        if self.kept.any():
            found[self.kept] = estimator(self.values[self.kept], n)
        return found


def _known(value: float, n: int) -> Estimate:
    return Estimate(value, value, value, n)


def _holds(gap: Estimate, prompts: int) -> bool | None:
    """Say whether an interval holds 0, rounding apart; None where there is no interval."""
    if prompts < 2 or math.isnan(gap.low):
        return None
    return gap.low - 1e-9 <= 0 <= gap.high + 1e-9
