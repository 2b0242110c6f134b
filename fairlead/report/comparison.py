"""Several runs side by side: what they measured in common, how their settings differ, what they cost.

A model of a run is shown as "run · model". One that every run measured alike, such as a base model, is shown once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fairlead.errors import DataError, UsageError
from fairlead.estimates import Estimate, estimate_rate
from fairlead.evaluation.base import Report
from fairlead.figures import intervals
from fairlead.report.folder import RunView, StepView, read_run
from fairlead.report.numbers import setting

__all__ = ["Comparison", "Cost", "Matrix", "compare_runs"]

_DRAWN = 6
"""Most axes of one figure."""


@dataclass(frozen=True)
class Matrix:
    """How often each subject's answer has more on an axis than each other's answer to the same prompt."""

    label: str
    """The evaluator's label."""
    axis: str
    """The axis."""
    subjects: tuple[str, ...]
    """Rows and columns."""
    rates: tuple[tuple[Estimate | None, ...], ...]
    """Row beats column, a tie counting half; None on the diagonal and where no prompt is in common."""


@dataclass(frozen=True)
class Cost:
    """What a run took."""

    seconds: dict[str, float]
    """By kind of step."""
    tokens: int
    """Tokens trained on."""
    device: str
    """Where."""


@dataclass
class Comparison:
    """Runs beside each other."""

    names: list[str]
    """Of the runs, all different."""
    runs: list[RunView]
    """The runs, in the order given."""
    steps: list[StepView] = field(default_factory=list)
    """One merged evaluation per id."""
    own_figures: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)
    """Step id -> label -> title with its run -> the run's own figure."""
    matrices: dict[str, Matrix] = field(default_factory=dict)
    """Step id -> win rates on the first axis that was scored answer by answer."""
    differences: list[tuple[str, list[str]]] = field(default_factory=list)
    """Settings that are not the same everywhere, with every run's value."""
    costs: list[Cost] = field(default_factory=list)
    """One per run."""


def compare_runs(folders: Sequence[Path]) -> Comparison:
    """Read runs and put them side by side.

    Raises:
        UsageError: fewer than two runs, or one twice.
        DataError: a folder that is none, or runs without a finished evaluation of the same id.
    """
    places = [folder.resolve() for folder in folders]
    if len(places) < 2 or len(set(places)) < len(places):
        raise UsageError(f"{len(set(places))} different runs to compare", fix="give two run folders or more")
    found = Comparison(_names(places), [read_run(place) for place in places])
    runs = dict(zip(found.names, found.runs))
    ids = dict.fromkeys(step.id for run in found.runs for step in run.steps if step.reports)
    for id_ in ids:
        steps = {name: step for name, run in runs.items() for step in run.steps if step.id == id_ and step.reports}
        if len(steps) > 1:
            merged = _merged(id_, steps)
            found.steps.append(merged)
            found.own_figures[id_] = _own_figures(steps)
            matrix = _matrix(id_, steps, dict(zip(found.names, places)))
            if matrix is not None:
                found.matrices[id_] = matrix
    if not found.steps:
        have = "; ".join(f"{name}: {', '.join(_evaluated(run)) or 'none'}" for name, run in runs.items())
        fix = "compare runs of recipes that call their evaluation alike"
        raise DataError(f"no two of these runs have an evaluation of one name ({have})", place="compare", fix=fix)
    found.differences = _differences(found.runs)
    found.costs = [_cost(run) for run in found.runs]
    return found


def _names(places: Sequence[Path]) -> list[str]:
    """Return the shortest ends of the paths that tell them apart."""
    depth = 1
    while len({place.parts[-depth:] for place in places}) < len(places):
        depth += 1
    return ["/".join(place.parts[-depth:]) for place in places]


def _evaluated(run: RunView) -> list[str]:
    return [step.id for step in run.steps if step.reports]


def _merged(id_: str, steps: Mapping[str, StepView]) -> StepView:
    """Return one evaluation that holds every run's subjects."""
    merged = StepView(id_, "evaluate", "finished", sum(step.seconds or 0.0 for step in steps.values()))
    shared = _shared(steps)
    order = list(
        dict.fromkeys(
            _subject(name, engine, shared)
            for name, step in steps.items()
            for report in step.reports.values()
            for engine in report.summary
        )
    )
    for label in dict.fromkeys(label for step in steps.values() for label in step.reports):
        reports = {name: step.reports[label] for name, step in steps.items() if label in step.reports}
        summary = {
            _subject(name, engine, shared): axes
            for name, report in reports.items()
            for engine, axes in report.summary.items()
        }
        notes = [f"{name}: {note}" for name, report in reports.items() for note in report.notes]
        merged.reports[label] = Report(summary, figures=_figures(summary, order), notes=notes)
    merged.samples = _samples(steps, shared)
    data = {name: _data_of(step) for name, step in steps.items()}
    if len(set(data.values())) > 1:
        told = ", ".join(f"{name}: {what[0]}" for name, what in data.items())
        merged.notes.append(f"The runs were measured on different data ({told}): a difference may be the data's.")
    return merged


def _shared(steps: Mapping[str, StepView]) -> set[str]:
    """Return the engines that every run has and that came out alike under every evaluator."""
    first, *others = steps.values()
    names = {engine for report in first.reports.values() for engine in report.summary}
    return {name for name in names if all(_summaries(first, name) == _summaries(step, name) for step in others)}


def _summaries(step: StepView, engine: str) -> dict[str, Any]:
    return {label: repr(report.summary.get(engine)) for label, report in step.reports.items()}


def _subject(run: str, engine: str, shared: set[str]) -> str:
    return engine if engine in shared else f"{run} · {engine}"


def _figures(summary: Mapping[str, Mapping[str, Estimate]], order: Sequence[str]) -> dict[str, str]:
    axes = list(dict.fromkeys(axis for found in summary.values() for axis in found if "." not in axis))
    groups = [axes[start : start + _DRAWN] for start in range(0, len(axes), _DRAWN)]
    return {", ".join(group).replace("_", " "): intervals(summary, group, label="", order=order) for group in groups}


def _own_figures(steps: Mapping[str, StepView]) -> dict[str, dict[str, str]]:
    """Return what each run drew itself, figures of one title beside each other."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for name, step in steps.items():
        for label, report in step.reports.items():
            for title, svg in report.figures.items():
                found.setdefault(label, {}).setdefault(title, {})[f"{title} · {name}"] = svg
    return {label: {k: v for titled in own.values() for k, v in titled.items()} for label, own in found.items()}


def _samples(steps: Mapping[str, StepView], shared: set[str]) -> list[dict[str, Any]]:
    """Return the prompts that several runs answered, with all answers."""
    cards: dict[str, dict[str, Any]] = {}
    met: dict[str, int] = {}
    for name, step in steps.items():
        for sample in step.samples:
            key = repr(sample.get("prompt"))
            card = cards.setdefault(key, {**sample, "answers": {}, "scores": {}})
            met[key] = met.get(key, 0) + 1
            for part in ("answers", "scores"):
                for engine, value in (sample.get(part) or {}).items():
                    card[part].setdefault(_subject(name, engine, shared), value)
    return [card for key, card in cards.items() if met[key] > 1]


def _data_of(step: StepView) -> tuple[str, str]:
    """Return what a step was measured on: as it says, and what tells different contents apart."""
    data = step.config.get("data")
    names = [data] if isinstance(data, str) else list(data or ())
    prints = [str(entry.get("fingerprint")) for entry in step.inputs if entry.get("name") in names]
    return ", ".join(map(str, names)), f"{prints} {step.config.get('limit')}"


def _matrix(id_: str, steps: Mapping[str, StepView], places: Mapping[str, Path]) -> Matrix | None:
    """Compare the answers to the prompts that the runs have in common."""
    if len({_data_of(step) for step in steps.values()}) > 1:
        return None
    shared = _shared(steps)
    for label in dict.fromkeys(label for step in steps.values() for label in step.reports):
        tables = {
            name: Report.load(places[name] / "steps" / id_, label).rows
            for name, step in steps.items()
            if label in step.reports
        }
        columns = {key for rows in tables.values() for row in rows for key, value in row.items() if _number(value)}
        axes = (a for name in tables for found in steps[name].reports[label].summary.values() for a in found)
        axis = next((a for a in axes if a in columns), None)
        if axis is None:
            continue
        scores: dict[str, dict[tuple[Any, Any], float]] = {}
        for name, rows in tables.items():
            for row in rows:
                if _number(row.get(axis)) and "engine" in row:
                    subject = _subject(name, row["engine"], shared)
                    scores.setdefault(subject, {})[row.get("id"), row.get("sample")] = float(row[axis])
        if len(scores) > 1:
            subjects = tuple(scores)
            rates = tuple(tuple(_rate(scores[one], scores[other]) for other in subjects) for one in subjects)
            return Matrix(label, axis, subjects, rates)
    return None


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _rate(one: Mapping[Any, float], other: Mapping[Any, float]) -> Estimate | None:
    if one is other:
        return None
    margins = np.array([one[key] - other[key] for key in one if key in other])
    return estimate_rate(0.5 + 0.5 * np.sign(margins)) if len(margins) else None


def _differences(runs: Sequence[RunView]) -> list[tuple[str, list[str]]]:
    """Return the settings of which not every run has the same, as the resolved recipes say them."""
    told: list[dict[str, str]] = []
    for run in runs:
        own = {key: setting(run.state.get(key)) for key in ("title", "seed")}
        for part in ("machine", "versions"):
            own |= {f"{part}.{key}": setting(value) for key, value in dict(run.state.get(part) or {}).items()}
        for step in run.steps:
            own |= _flat(step.config, step.id)
        told.append(own)
    names = dict.fromkeys(name for own in told for name in own)
    rows = [(name, [own.get(name, "") for own in told]) for name in names]
    return [(name, values) for name, values in rows if len(set(values)) > 1]


def _flat(value: Any, name: str) -> dict[str, str]:
    if isinstance(value, Mapping) and value:
        return {k: v for key, inner in value.items() for k, v in _flat(inner, f"{name}.{key}").items()}
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        return {k: v for i, item in enumerate(value) for k, v in _flat(item, f"{name}.{_called(item, i)}").items()}
    return {name: setting(value)}


def _called(item: Any, place: int) -> str:
    return str(item.get("name", place)) if isinstance(item, Mapping) else str(item)


def _cost(run: RunView) -> Cost:
    seconds: dict[str, float] = {}
    for step in run.steps:
        if step.seconds is not None and math.isfinite(step.seconds):
            seconds[step.kind] = seconds.get(step.kind, 0.0) + step.seconds
    lines = [line.get("tokens") for step in run.steps for line in step.history]
    tokens = sum(int(value) for value in lines if isinstance(value, int | float))
    return Cost(seconds, tokens, str(dict(run.state.get("machine") or {}).get("device", "")))
