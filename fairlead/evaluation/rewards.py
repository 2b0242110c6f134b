"""Mean reward of every engine on every axis, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fairlead import catalog
from fairlead.engines.base import Engine, Sampling
from fairlead.errors import UnknownNameError, UsageError
from fairlead.estimates import Estimate, estimate_difference, estimate_mean, estimate_rate, is_binary, per_prompt
from fairlead.evaluation.base import Report
from fairlead.evaluation.samples import GREEDY, draw, prompts_of, sample_rows, texts, value
from fairlead.figures import distribution, intervals
from fairlead.rewards.base import Reward

__all__ = ["RewardAxes"]

_COLUMNS = ("id", "engine", "sample", "answer", "group")


@dataclass(frozen=True)
class RewardAxes:
    """Mean reward per engine and axis; abstentions are left out and counted.

    With several answers per prompt a prompt counts once, by its mean. Axes whose values are 0 or 1 for every engine
    get Wilson intervals, others bootstrap intervals over prompts.
    """

    axes: tuple[str, ...] | dict[str, Any]
    """Names of axes of `reward` (its field `axis`), or a mapping of axis names to rewards of their own."""
    reward: Any = None
    """The reward that has the axes: a catalog name, or {name, fields...}; not with a mapping of axes."""
    baseline: str | None = None
    """An engine that the others are compared with, pair by pair: adds an axis `<axis>_gain` to each of them."""
    by: str | None = None
    """A column of the records' extra columns (such as the kind of task): adds an axis `<axis>.<value>` for each
    that has any value."""
    sampling: Sampling = GREEDY
    """How answers are drawn."""
    confidence: float = 0.95
    """Coverage of the intervals, between 0 and 1."""
    seed: int = 0
    """Randomness of the bootstrap."""

    example: ClassVar[Mapping[str, Any]] = {"reward": "harbor", "axes": ["total", "correct"], "baseline": "base"}

    def __post_init__(self) -> None:
        if not self.axes:
            raise UsageError("rewards.axes is empty", fix="name at least one axis")
        if isinstance(self.axes, Mapping) == (self.reward is not None):
            fix = "write reward: harbor with axes: [total, correct], or axes: {total: {name: harbor, axis: total}}"
            raise UsageError("rewards needs a reward with names of its axes, or a mapping of axes to rewards", fix=fix)
        for axis in self.axes:
            if axis in _COLUMNS or "." in axis:
                fix = f"avoid dots and {', '.join(_COLUMNS)}"
                raise UsageError(f"an axis cannot be called {axis!r}", fix=fix)
        self.build()

    def build(self) -> dict[str, Reward]:
        """Return the rewards by axis."""
        if isinstance(self.axes, Mapping):
            return {axis: catalog.from_spec("reward", spec) for axis, spec in self.axes.items()}
        spec = {"name": self.reward} if isinstance(self.reward, str) else self.reward
        if not isinstance(spec, Mapping):
            fix = "give it by name, or give a mapping of axes to built rewards"
            raise UsageError("rewards.reward must be a catalog name or {name, fields...}", fix=fix)
        return {axis: catalog.from_spec("reward", {**spec, "axis": axis}) for axis in self.axes}

    def __call__(self, engines: Mapping[str, Engine], records: Sequence[Any]) -> Report:
        """Value every engine's answers to the records' prompts.

        Rows: id, engine, sample, answer, one column per axis, and `group` with `by`.
        """
        if self.baseline is not None and self.baseline not in engines:
            raise UnknownNameError("baseline engine", self.baseline, engines)
        prompts = prompts_of(records)
        groups = [_group(record, self.by) for record in records] if self.by else None
        report = Report({})
        found: dict[str, dict[str, np.ndarray]] = {}
        rewards = self.build()
        for name, answers in draw(engines, prompts, self.sampling).items():
            said = texts(answers)
            found[name] = {axis: value(reward, prompts, said) for axis, reward in rewards.items()}
            columns: dict[str, Any] = {"answer": said, **found[name]}
            if groups:
                columns["group"] = [[group] * self.sampling.n for group in groups]
            report.rows += sample_rows(name, records, columns)
        report.summary = {name: self._summary(name, found, groups) for name in engines}
        report.notes = _abstentions(found)
        report.figures = self._figures(report)
        return report

    def _summary(
        self, name: str, found: Mapping[str, Mapping[str, np.ndarray]], groups: list[str] | None
    ) -> dict[str, Estimate]:
        options = {"confidence": self.confidence, "seed": self.seed}
        means = {axis: per_prompt(values) for axis, values in found[name].items()}
        estimate = {axis: _estimator(axis, found) for axis in means}
        summary = {axis: estimate[axis](values, **options) for axis, values in means.items()}
        if self.baseline not in (None, name):
            for axis, values in means.items():
                before = per_prompt(found[self.baseline][axis])
                summary[f"{axis}_gain"] = estimate_difference(values, before, **options)
        for group in sorted(set(groups or ())):
            chosen = np.array([g == group for g in groups or ()])
            for axis, values in means.items():
                if not np.isnan(values[chosen]).all():
                    summary[f"{axis}.{group}"] = estimate[axis](values[chosen], **options)
        return summary

    def _figures(self, report: Report) -> dict[str, str]:
        axes = list(self.axes)
        first = {
            name: [row[axes[0]] for row in report.rows if row["engine"] == name and row[axes[0]] is not None]
            for name in report.summary
        }
        return {
            "mean reward per axis": intervals(report.summary, axes, label="mean reward"),
            f"distribution of {axes[0]}": distribution(first, label=axes[0], unit="share of answers"),
        }


def _estimator(axis: str, found: Mapping[str, Mapping[str, np.ndarray]]) -> Callable[..., Estimate]:
    return estimate_rate if all(is_binary(axes[axis]) for axes in found.values()) else estimate_mean


def _group(record: Any, column: str) -> str:
    if column not in record.extra:
        fix = f"use one of {sorted(record.extra)}, or leave `by` out"
        raise UsageError(f"the record has no column {column!r}", place=f"record {record.id}", fix=fix)
    return str(record.extra[column])


def _abstentions(found: Mapping[str, Mapping[str, np.ndarray]]) -> list[str]:
    first = next(iter(found.values()))
    silent = {axis: {name: int(np.isnan(axes[axis]).sum()) for name, axes in found.items()} for axis in first}
    said = []
    for axis, counts in silent.items():
        if any(counts.values()):
            each = ", ".join(f"{name} {count}" for name, count in counts.items())
            said.append(f"{axis} {max(counts.values())}" if len(set(counts.values())) == 1 else f"{axis} ({each})")
    total = next(iter(first.values())).size
    return [f"abstained, out of {total} answers of each engine: {'; '.join(said)}"] if said else []
