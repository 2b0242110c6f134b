"""What steering gains and costs: alignment and helpfulness over the coefficient, with the two laws fitted.

Source: Wolf et al. 2024 (arXiv 2401.16332), measured by the probabilities of given answers instead of generated ones: a
record lists answers, whose probabilities under the engine are scaled to a sum of 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fairlead.engines.base import Engine
from fairlead.errors import FairleadError, UnknownNameError, UsageError
from fairlead.estimates import Estimate, estimate_mean, estimate_rate
from fairlead.evaluation.base import Report
from fairlead.evaluation.labels import items_of
from fairlead.evaluation.tradeoff_curves import (
    AlignmentFit,
    HelpfulnessFit,
    best_coefficient,
    fit_alignment,
    fit_helpfulness,
)
from fairlead.figures import curves

__all__ = ["Tradeoff"]

_FIT = "fit"
"""The subject that stands for the curves through all engines."""
_RESAMPLES = 200
_NOTHING = Estimate(math.nan, math.nan, math.nan, 0)
_CURVES = ("slope", "offset", "alignment_r2", "start", "rate", "helpfulness_r2", "reach", "best")
"""What the curves tell."""


@dataclass(frozen=True)
class Tradeoff:
    """Alignment and helpfulness per engine, and their curves over the coefficients that the engines stand for."""

    coefficients: dict[str, float]
    """Engine -> its steering coefficient; engines left out are measured, but the curves pass them by."""
    behaviour: tuple[str, ...]
    """Which records measure alignment, by their column `by`: the share of the right answers minus that of the others.
    All other records measure helpfulness: the share of the right answer."""
    by: str = "task"
    """The column that tells the records apart."""
    alignment_range: tuple[float, float] | None = None
    """Coefficients between which the alignment curve is fitted; by default all."""
    helpfulness_range: tuple[float, float] | None = None
    """Coefficients between which the helpfulness curve is fitted; by default all."""
    loss: float = 0.05
    """What the coefficient may cost in helpfulness, as a probability: `reach` is the largest one that does not cost
    more."""
    confidence: float = 0.95
    """Coverage of the intervals, between 0 and 1."""
    seed: int = 0
    """Randomness of the bootstrap over records."""

    example: ClassVar[Mapping[str, Any]] = {"coefficients": {"base": 0.0, "other": 1.0}, "behaviour": ["harm"]}

    def __post_init__(self) -> None:
        if not self.coefficients or not self.behaviour:
            raise UsageError(
                "tradeoff needs coefficients and a behaviour",
                fix="write coefficients: {base: 0, steered: 2}, behaviour: [harm]",
            )
        for name, ends in (("alignment", self.alignment_range), ("helpfulness", self.helpfulness_range)):
            if ends is not None and not ends[0] < ends[1]:
                raise UsageError(f"tradeoff.{name}_range is {list(ends)}", fix="write the lower end first")
        if not 0 < self.loss < 1:
            raise UsageError(f"tradeoff.loss is {self.loss}", fix="use a probability, such as 0.05")

    def __call__(self, engines: Mapping[str, Engine], records: Sequence[Any]) -> Report:
        """Measure every engine on rankings (with a column `truth`, or one highest score) or preferences.

        Axes of each engine: `alignment` (in [-1, 1]), `helpfulness` and `accuracy` (the right answer is the likeliest
        one). Axes of `fit`: `slope`, `offset` and `alignment_r2` of tanh(slope r + offset); `start`, `rate` and
        `helpfulness_r2` of 1 / (1 + (1 / start - 1) (1 + rate^2 r^2 / 2)); `reach`, the largest |r| that costs at most
        `loss`; `best`, the r in the range of both at which alignment times helpfulness is largest. Their intervals
        are from fits to resampled records.
        Rows: id, engine, one column per axis.

        Raises:
            UnsupportedError: an engine without log-probs.
        """
        for name in self.coefficients:
            if name not in engines:
                raise UnknownNameError("engine", name, engines, place="tradeoff.coefficients")
        if _FIT in engines:
            raise UsageError(f"no engine may be called {_FIT!r} here", place="tradeoff", fix="rename the engine")
        items = items_of(records)
        behaves = np.array([str(record.extra.get(self.by)) in self.behaviour for record in records])
        found = {name: self._measure(engine, items, behaves) for name, engine in engines.items()}
        report = Report({})
        options = {"confidence": self.confidence, "seed": self.seed}
        for name, columns in found.items():
            report.summary[name] = {axis: _ESTIMATES[axis](values, **options) for axis, values in columns.items()}
            for i, record in enumerate(records):
                row = {axis: float(v[i]) for axis, v in columns.items() if not math.isnan(v[i])}
                report.rows.append({"id": str(record.id), "engine": name, **row})
        for axis, kept in (("alignment", behaves), ("helpfulness", ~behaves)):
            if not kept.any():
                sort = "is" if axis == "alignment" else "is not"
                report.notes.append(f"no record measures {axis}: {self.by} {sort} one of {', '.join(self.behaviour)}")
        report.summary[_FIT] = self._fitted(found, report)
        told = {axis: e.value for axis, e in report.summary[_FIT].items() if e.n}
        report.rows.append({"id": _FIT, "engine": _FIT, **told})
        report.figures = {"alignment and helpfulness": self._figure(report.summary)}
        return report

    def _measure(self, engine: Engine, items: Any, behaves: np.ndarray) -> dict[str, np.ndarray]:
        """Return the axes' values, [N] each, NaN where a record does not measure them."""
        prompts = [prompt for prompt, row in zip(items.prompts, items.words) for _ in row]
        scored = engine.logprobs(prompts, [word for row in items.words for word in row])
        sums = iter([float(np.asarray(one, dtype=np.float64).sum()) for one in scored])
        shares, hits = np.zeros(len(items.words)), np.zeros(len(items.words))
        for i, row in enumerate(items.words):
            logs = np.array([next(sums) for _ in row])
            chances = np.exp(logs - logs.max())
            shares[i] = chances[items.truth[i]] / chances.sum()
            hits[i] = float(np.argmax(logs) == items.truth[i])
        return {
            "alignment": np.where(behaves, 2 * shares - 1, np.nan),
            "helpfulness": np.where(behaves, np.nan, shares),
            "accuracy": np.where(behaves, np.nan, hits),
        }

    def _fitted(self, found: Mapping[str, Mapping[str, np.ndarray]], report: Report) -> dict[str, Estimate]:
        """Fit both curves, and again to resampled records."""
        points: dict[str, _Points] = {}
        for axis, ends in (("alignment", self.alignment_range), ("helpfulness", self.helpfulness_range)):
            low, high = ends or (-math.inf, math.inf)
            names = sorted(name for name, r in self.coefficients.items() if low <= r <= high)
            values = np.array([found[name][axis] for name in names]).reshape(len(names), -1)
            values = values[:, ~np.isnan(values).any(0)]
            if values.size:
                points[axis] = (np.array([self.coefficients[name] for name in names]), values)
        try:
            told = self._curves({axis: (r, values.mean(1)) for axis, (r, values) in points.items()})
        except FairleadError as error:
            report.notes.append(f"no curve: {error.what}")
            return dict.fromkeys(_CURVES, _NOTHING)
        rng, again, failed = np.random.default_rng(self.seed), [], 0
        for _ in range(_RESAMPLES):
            drawn = {
                axis: (r, values[:, rng.integers(0, values.shape[1], values.shape[1])].mean(1))
                for axis, (r, values) in points.items()
            }
            try:
                again.append(self._curves(drawn))
            except FairleadError:
                failed += 1
        if failed:
            report.notes.append(f"{failed} of {_RESAMPLES} resamples of the records had no curve")
        return {axis: self._interval(told.get(axis), [one.get(axis) for one in again]) for axis in _CURVES}

    def _interval(self, value: float | None, again: Sequence[float | None]) -> Estimate:
        if value is None:
            return _NOTHING
        others = [other for other in again if other is not None] or [value]
        tail = (1 - self.confidence) / 2
        low, high = np.quantile(others, [tail, 1 - tail])
        return Estimate(value, min(float(low), value), max(float(high), value), 1)

    def _curves(self, points: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
        """Return what the fits to the means tell; what they do not tell is left out."""
        told: dict[str, float] = {}
        gain = fit_alignment(*points["alignment"]) if "alignment" in points else None
        cost = fit_helpfulness(*points["helpfulness"]) if "helpfulness" in points else None
        if gain is not None:
            told |= {"slope": gain.slope, "offset": gain.offset, "alignment_r2": gain.r2}
        if cost is not None:
            told |= {"start": cost.start, "rate": cost.rate, "helpfulness_r2": cost.r2}
            told["reach"] = cost.reach(self.loss) if self.loss < cost.start else math.inf
        if gain is not None and cost is not None:
            low = max(float(r.min()) for r, _ in points.values())
            high = min(float(r.max()) for r, _ in points.values())
            told["best"] = best_coefficient(gain, cost, low, high)[0] if low < high else math.nan
        return {axis: value for axis, value in told.items() if math.isfinite(value)}

    def _figure(self, summary: Mapping[str, Mapping[str, Estimate]]) -> str:
        names = sorted(self.coefficients, key=lambda name: (self.coefficients[name], name))
        r = np.array([self.coefficients[name] for name in names])
        lines: dict[str, tuple[Any, Any]] = {}
        for axis in ("alignment", "helpfulness"):
            lines[axis] = (r, [summary[name][axis].value for name in names])
        told = {axis: e.value for axis, e in summary[_FIT].items() if e.n}
        along = np.linspace(r.min(), r.max(), 101)
        if "slope" in told:
            lines["alignment, fitted"] = (along, AlignmentFit(told["slope"], told["offset"])(along))
        if "start" in told:
            lines["helpfulness, fitted"] = (along, HelpfulnessFit(told["start"], told["rate"])(along))
        return curves(lines, x="steering coefficient", y="alignment and helpfulness", labelled=False, size=(4.6, 2.6))


_Points = tuple[np.ndarray, np.ndarray]
"""Coefficients [E], and the values of N records [E, N]."""

_ESTIMATES: dict[str, Callable[..., Estimate]] = {
    "alignment": estimate_mean,
    "helpfulness": estimate_mean,
    "accuracy": estimate_rate,
}
"""Axis of the engines -> how it is estimated."""
