"""What engines reach in several rewards at once: who is beaten by nobody, and how much they and sets of them cover."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fairlead import catalog
from fairlead.engines.base import Engine, Sampling
from fairlead.errors import DataError, UnknownNameError, UsageError
from fairlead.estimates import Estimate, estimate_mean, per_prompt
from fairlead.evaluation.base import Report
from fairlead.evaluation.samples import GREEDY, draw, prompts_of, sample_rows, texts, value
from fairlead.figures import THEME, Canvas, add_legend, colour_of
from fairlead.theory.pareto import hypervolume, pareto_front

__all__ = ["Pareto"]

_RESAMPLES = 500
_COLUMNS = ("id", "engine", "sample", "answer", "front", "hypervolume", "mean_hypervolume")


@dataclass(frozen=True)
class Pareto:
    """Mean rewards per engine, the front of those that no other beats in all, and hypervolumes above a reference."""

    axes: dict[str, Any]
    """Name -> reward, two or more; every reward is better when higher."""
    reference: str | dict[str, float]
    """Where the volume starts: an engine, which is then no point itself, or a number per axis."""
    sets: dict[str, tuple[str, ...]] | None = None
    """Name -> engines that are taken together, such as one method's runs with several seeds."""
    sampling: Sampling = GREEDY
    """How answers are drawn."""
    confidence: float = 0.95
    """Coverage of the intervals, between 0 and 1."""
    seed: int = 0
    """Randomness of the bootstrap."""

    example: ClassVar[Mapping[str, Any]] = {
        "axes": {
            "polite": {"name": "harbor_proxy", "proxy": "polite_count"},
            "brief": {"name": "harbor_proxy", "proxy": "brevity"},
        },
        "reference": {"polite": 0.0, "brief": -3.0},
        "sets": {"both": ["base", "other"]},
    }

    def __post_init__(self) -> None:
        if len(self.axes) < 2:
            raise UsageError("pareto.axes has fewer than two rewards", fix="name two or more")
        for axis in self.axes:
            if axis in _COLUMNS or "." in axis:
                raise UsageError(f"an axis cannot be called {axis!r}", fix=f"avoid dots and {', '.join(_COLUMNS)}")
        if isinstance(self.reference, Mapping) and (
            set(self.reference) != set(self.axes) or not all(map(math.isfinite, self.reference.values()))
        ):
            what = f"pareto.reference has {sorted(self.reference)}, and the axes are {sorted(self.axes)}"
            raise UsageError(what, fix="give one finite number per axis, or the name of an engine")
        for name, members in (self.sets or {}).items():
            if not members:
                raise UsageError(f"pareto.sets.{name} is empty", fix="name its engines")
            if self.reference in members:
                raise UsageError(f"pareto.sets.{name} has the reference", fix="leave it out: the volume starts there")
        for spec in self.axes.values():
            catalog.from_spec("reward", spec)

    def __call__(self, engines: Mapping[str, Engine], records: Sequence[Any]) -> Report:
        """Value every engine's answers to the records' prompts.

        Axes of an engine: those of `axes`, `front` (1 where no other engine beats it) and `hypervolume` (of the box
        between the reference and its means; 0 unless it is above in every axis). Axes of a set: `hypervolume` (of the
        union of its engines' boxes) and `mean_hypervolume` (of one engine). Intervals are of means over prompts, and
        for fronts and hypervolumes from resampled prompts. Rows: id, engine, sample, answer, one column per axis; and
        one row per set with its axes.

        Raises:
            UnknownNameError: the reference or a set names an engine that is not there.
            UsageError: a set is called as an engine.
            DataError: a reward that values none of an engine's answers.
        """
        self._check(engines)
        prompts = prompts_of(records)
        rewards = {axis: catalog.from_spec("reward", spec) for axis, spec in self.axes.items()}
        report, table = Report({}), {}
        for name, answers in draw(engines, prompts, self.sampling).items():
            said = texts(answers)
            values = {axis: value(reward, prompts, said) for axis, reward in rewards.items()}
            report.rows += sample_rows(name, records, {"answer": said, **values})
            table[name] = np.stack([per_prompt(column) for column in values.values()], axis=-1)
            for axis, column in zip(self.axes, table[name].T):
                if np.isnan(column).all():
                    raise DataError(f"{axis} values none of {name}'s answers", fix="use a reward that applies here")
            options = {"confidence": self.confidence, "seed": self.seed}
            report.summary[name] = {
                axis: estimate_mean(column, **options) for axis, column in zip(self.axes, table[name].T)
            }
        self._compare(report, table)
        report.figures = {
            f"{second} against {first}": self._figure(report, first, second)
            for first, second in itertools.combinations(self.axes, 2)
        }
        return report

    def _check(self, engines: Mapping[str, Engine]) -> None:
        named = [self.reference] if isinstance(self.reference, str) else []
        for name in (*named, *itertools.chain(*(self.sets or {}).values())):
            if name not in engines:
                raise UnknownNameError("engine", name, engines, place="pareto")
        for name in self.sets or ():
            if name in engines:
                raise UsageError(f"pareto.sets: {name} is an engine too", fix="give the set a name of its own")

    @property
    def _groups(self) -> dict[str, tuple[str, ...]]:
        return dict(self.sets or {})

    def _compare(self, report: Report, table: Mapping[str, np.ndarray]) -> None:
        """Add fronts and hypervolumes, from the means and from means over resampled prompts."""
        points = [name for name in table if name != self.reference]
        if not points:
            raise UsageError("the reference is the only engine", place="pareto", fix="evaluate another engine")
        means = {name: _means(values)[0] for name, values in table.items()}
        rng = np.random.default_rng(self.seed)
        number = len(next(iter(table.values())))
        counts = rng.multinomial(number, np.full(number, 1 / number), size=_RESAMPLES)
        drawn = {name: _means(values, counts) for name, values in table.items()}
        again = [self._compared({name: drawn[name][k] for name in drawn}, points) for k in range(_RESAMPLES)]
        tails = np.array([(1 - self.confidence) / 2, (1 + self.confidence) / 2])
        for (subject, axis), found in self._compared(means, points).items():
            low, high = np.quantile([one[subject, axis] for one in again], tails)
            many = 1 if subject in self._groups else number
            estimate = Estimate(found, min(float(low), found), max(float(high), found), many)
            report.summary.setdefault(subject, {})[axis] = estimate
        for name in self._groups:
            report.rows.append(
                {"id": name, "engine": name, **{axis: e.value for axis, e in report.summary[name].items()}}
            )

    def _compared(self, means: Mapping[str, np.ndarray], points: Sequence[str]) -> dict[tuple[str, str], float]:
        """Return (subject, axis) -> value, of fronts and volumes."""
        start = self._start(means)
        front = pareto_front([means[name] for name in points])
        found = {(name, "front"): float(best) for name, best in zip(points, front)}
        found |= {(name, "hypervolume"): hypervolume([means[name]], start) for name in points}
        for name, members in self._groups.items():
            inside = [means[member] for member in members]
            found[name, "hypervolume"] = hypervolume(inside, start)
            found[name, "mean_hypervolume"] = float(np.mean([hypervolume([point], start) for point in inside]))
        return found

    def _start(self, means: Mapping[str, np.ndarray]) -> np.ndarray:
        if isinstance(self.reference, str):
            return means[self.reference]
        return np.array([self.reference[axis] for axis in self.axes])

    def _figure(self, report: Report, first: str, second: str) -> str:
        """Draw the engines' means on two axes, a set in one colour with the staircase of its own front."""
        engines = [name for name in report.summary if first in report.summary[name]]
        at = {name: tuple(report.summary[name][axis].value for axis in (first, second)) for name in engines}
        kept = [name for name in engines if name != self.reference]
        grouped = {name for members in self._groups.values() for name in members}
        shown = {**self._groups, **{name: (name,) for name in kept if name not in grouped}}
        with Canvas(2.6, f"{second} by {first}") as canvas:
            plot = canvas.plot
            for i, (name, members) in enumerate(shown.items()):
                places = np.array([at[member] for member in members if member in kept])
                plot.plot(*places.T, "o", markersize=4.5, color=colour_of(i + 1), label=name)
                best = places[pareto_front(places)]
                best = best[np.argsort(best[:, 0])]
                plot.step(*best.T, where="pre", color=colour_of(i + 1), linewidth=0.9, alpha=0.7)
            if isinstance(self.reference, str):
                across, up = at[self.reference]
                plot.plot([across], [up], "x", markersize=6, color=colour_of(0), label=self.reference)
            else:
                across, up = (self.reference[axis] for axis in (first, second))
            plot.axvline(across, color=THEME["soft"], linewidth=0.7, linestyle=(0, (3, 3)))
            plot.axhline(up, color=THEME["soft"], linewidth=0.7, linestyle=(0, (3, 3)))
            plot.set_xlabel(first)
            plot.set_ylabel(second)
            add_legend(canvas.figure, plot)
            return canvas.svg()


def _means(values: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
    """Return the means [B, D] of values [N, D] over prompts, each counted as often as counts [B, N] say."""
    counts = np.ones((1, len(values))) if counts is None else counts
    known = ~np.isnan(values)
    return (counts @ np.where(known, values, 0.0)) / np.maximum(counts @ known, 1)
