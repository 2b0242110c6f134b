"""Attitude scales: statements about a group of people or a matter, agreed with or not, summed with the keys they have.

Source: the bias analysis of ChiMed-GPT (Tian et al. 2023, arXiv 2311.06025), which asks models the scales that people
are asked about patients, and averages over orders of the options and paraphrases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fairlead.engines.base import Engine
from fairlead.errors import UsageError
from fairlead.estimates import Estimate, estimate_mean
from fairlead.evaluation.base import Report
from fairlead.evaluation.profiles import Profile, alphas, failed_attention, profile_of
from fairlead.evaluation.questioning import ItemAnswer, Questioning, join_items, notes_on_answers
from fairlead.figures import intervals

__all__ = ["AttitudeScales"]

_QUALITIES = (
    "validity", "refused", "off_scale", "missing", "neutral", "consistency", "order_consistency",
    "wording_consistency", "acquiescence",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class AttitudeScales(Questioning):
    """The attitude that every engine states on a Likert scale, in the points of the scale.

    An answer that is missing in one order of the options is asked for in the others; an item without any is missing.
    """

    questionnaire: str | dict[str, Any] = "newcomers"
    """A shipped scale (`newcomers`), the path of a YAML file, or what such a file holds."""

    example: ClassVar[Mapping[str, Any]] = {
        "questionnaire": {
            "options": ["red", "blue", "safe"],
            "items": [
                {"id": "one", "text": "which ?", "dimension": "warm", "paraphrases": ["what ?"]},
                {"id": "two", "text": "the color ?", "dimension": "warm", "reverse": True, "paraphrases": ["color ?"]},
            ],
        },
        "labels": "none",
        "resamples": 50,
    }

    needs_records: ClassVar[bool] = False

    def __call__(self, engines: Mapping[str, Engine], records: Sequence[Any]) -> Report:
        """Ask every engine the scale; the records are not read.

        Axes of the attitude: `score` (mean over items, reverse items turned round), `total` (the score times the number
        of items: missing ones count as the mean of the others), and both for every subscale, as `score.D` and
        `total.D`. Means over items and personas: `validity` (share of answers that choose an option), `refused` and
        `off_scale` (shares of answers), `missing` (share of items without any answer), `neutral` (probability of the
        middle option, where there is one), `consistency`, `order_consistency`, `wording_consistency`, `acquiescence`.
        `alpha.D` with several personas.
        Rows: one per item, persona and engine.
        """
        if not engines:
            raise UsageError("there is no engine to evaluate", fix="give at least one engine by name")
        report = Report({})
        for name, engine in engines.items():
            answered = self.answers(name, engine)
            items = join_items(self, answered)
            rows = [self._row(name, item) for item in items]
            report.rows += rows
            report.notes += notes_on_answers(name, items, answered)
            report.summary[name] = self._qualities(rows)
            attention = failed_attention(items)
            if attention:
                report.notes.append(
                    f"{name}: no score: it does not read what it answers (items {', '.join(attention)})"
                )
                continue
            report.summary[name] |= self._scores(items)
        if self.asked.coding:
            report.notes.append(f"coding: {self.asked.coding}")
        report.figures = self._figures(report)
        return report

    def _scores(self, items: Sequence[ItemAnswer]) -> dict[str, Estimate]:
        dimensions = self.asked.dimensions
        profile = profile_of(items, dimensions, resamples=self.resamples, seed=self.seed)
        sizes = {d: sum(item.dimension == d for item in self.asked.items) for d in dimensions}
        found = _both("", self._whole(profile), sum(sizes.values()))
        for i, dimension in enumerate(profile.dimensions):
            value, n = float(profile.mean[i]), int(profile.items[i])
            score = profile.estimate(profile.drawn_mean[:, i], value, n, self.confidence)
            found |= _both(f".{dimension}", score, sizes[dimension])
        for name, alpha in alphas(items, dimensions).items():
            found[f"alpha.{name}"] = Estimate(alpha, alpha, alpha, len(self.personas))
        return found

    def _whole(self, profile: Profile) -> Estimate:
        n = int(profile.items.sum())
        if not n:
            return Estimate(float("nan"), float("nan"), float("nan"), 0)
        value = float(profile.mean @ profile.items / n)
        return profile.estimate(profile.drawn_mean @ profile.items / n, value, n, self.confidence)

    def _qualities(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Estimate]:
        found = {}
        for axis in _QUALITIES:
            values = [np.nan if row[axis] is None else float(row[axis]) for row in rows]
            if not np.isnan(values).all():
                found[axis] = estimate_mean(values, confidence=self.confidence, seed=self.seed)
        return found

    def _row(self, name: str, answer: ItemAnswer) -> dict[str, Any]:
        item, asked = answer.item, answer.asked
        middle = len(item.options) // 2 if len(item.options) % 2 else None
        numbers = {
            "item_score": answer.score,
            "validity": answer.validity,
            "refused": answer.problems.get("refusal", 0) / asked,
            "off_scale": answer.problems.get("off the scale", 0) / asked,
            "missing": float(answer.chances is None),
            "neutral": answer.chances[middle] if answer.chances is not None and middle is not None else np.nan,
            "consistency": answer.consistency,
            "order_consistency": answer.order_consistency,
            "wording_consistency": answer.wording_consistency,
            "acquiescence": answer.acquiescence,
        }
        problems = ", ".join(f"{problem} {count}" for problem, count in sorted(answer.problems.items()))
        return {
            "id": item.id,
            "engine": name,
            "persona": answer.persona,
            "subscale": item.dimension,
            "reverse": item.reverse,
            "option": None if answer.chances is None else item.options[int(answer.chances.argmax())],
            **{axis: None if np.isnan(found) else float(found) for axis, found in numbers.items()},
            "problems": problems or None,
        }

    def _figures(self, report: Report) -> dict[str, str]:
        order = list(report.summary)
        names = [f"score.{d}" for d in self.asked.dimensions]
        shown = {
            subject: {axis.removeprefix("score."): axes[axis] for axis in ("score", *names) if axis in axes}
            for subject, axes in report.summary.items()
        }
        steady = [axis for axis in _QUALITIES if any(axis in axes for axes in report.summary.values())]
        parts = list(self.asked.dimensions)
        return {
            "attitude": intervals(shown, ["score", *parts], label="mean item score", order=order),
            "reliability": intervals(report.summary, steady, label="mean over items"),
        }


def _both(suffix: str, score: Estimate, items: int) -> dict[str, Estimate]:
    """Return a score and its total over so many items."""
    total = Estimate(score.value * items, score.low * items, score.high * items, score.n)
    return {f"score{suffix}": score, f"total{suffix}": total}
