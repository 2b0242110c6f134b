"""Turns run folders into one HTML page: the templates decide how it looks, this module what they are given."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairlead.estimates import Estimate
from fairlead.evaluation.base import Report
from fairlead.report import numbers
from fairlead.report.card import card_of
from fairlead.report.comparison import Comparison
from fairlead.report.drawings import Panel, inline, training_panels
from fairlead.report.folder import MEASURING, RunView, StepView, read_run
from fairlead.report.verdict import headline, verdict

if TYPE_CHECKING:
    from jinja2 import Environment

    from fairlead.records import Records

__all__ = ["render", "render_comparison", "write_card", "write_comparison", "write_page"]

_SAMPLES = 200
"""Most samples of a step that a page holds."""


def write_page(folder: Path) -> Path:
    """Write `report.html` into the run folder, whole or not at all, and return its path."""
    return _written(render(read_run(folder)), folder / "report.html")


def write_comparison(found: Comparison, path: Path) -> Path:
    """Write the page of several runs, whole or not at all, and return its path."""
    return _written(render_comparison(found), path)


def write_card(records: Records, path: Path) -> Path:
    """Write the card of a data set, whole or not at all, and return its path."""
    card = card_of(records)
    return _written(_page("card.html.jinja", title=card.source, source="these records", card=card, colours={}), path)


def _written(text: str, path: Path) -> Path:
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)
    return path


def render_comparison(found: Comparison) -> str:
    """Return the page of several runs."""
    together = RunView(" and ".join(found.names), steps=found.steps)
    first = headline(together)
    if first is not None:  # a change from the model before would be one from run to run
        first = replace(first, rows=tuple((name, estimate, None) for name, estimate, _ in first.rows))
    return _page(
        "compare.html.jinja",
        title=" · ".join(found.names),
        source="these run folders",
        found=found,
        headline=first,
        beside=2,
        colours=_colours(together),
        kinds=list(dict.fromkeys(kind for cost in found.costs for kind in cost.seconds)),
        missing=[
            f"{name}, {what}"
            for name, run in zip(found.names, found.runs)
            for what in [*run.missing, *(f"{step.id}: {what}" for step in run.steps for what in step.missing)]
        ],
    )


def render(run: RunView) -> str:
    """Return the page of a run."""
    begun = [step for step in run.steps if step.status != "not started"]
    return _page(
        "page.html.jinja",
        title=run.title,
        source="this run folder",
        run=run,
        beside=4,
        results=[step for step in begun if step.kind in MEASURING],
        work=[step for step in begun if step.kind not in MEASURING],
        verdict=verdict(run),
        headline=headline(run),
        colours=_colours(run),
        total_seconds=sum(step.seconds or 0.0 for step in run.steps),
        missing=[*run.missing, *(f"{step.id}: {what}" for step in run.steps for what in step.missing)],
    )


def _page(template: str, **given: Any) -> str:
    from fairlead import __version__

    scripts = {name: _part(f"{name}.js") for name in ("early", "page")}
    return (
        _environment()
        .get_template(template)
        .render(
            version=__version__,
            style=_part("theme.css") + _part("page.css"),
            scripts=scripts,
            hashes={name: _hash(text) for name, text in scripts.items()},
            **given,
        )
    )


def _hash(script: str) -> str:
    """Return what a content security policy asks for to let a script run."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


@cache
def _environment() -> Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fairlead.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in numbers.__all__:
        environment.filters[name] = getattr(numbers, name)
    environment.filters |= {"figures": _figures, "panels": _panels, "table": _table, "groups": _groups}
    environment.filters |= {"shown": _shown, "lengths": _lengths, "picked": _picked, "flat": _flat, "turns": _turns}
    environment.filters |= {
        "sample_axes": _sample_axes,
        "breakable": _breakable,
        "drawn": _drawn,
        "ends": _ends,
        "zip": zip,
    }
    return environment


def _part(name: str) -> str:
    return resources.files("fairlead.report").joinpath("templates", name).read_text(encoding="utf-8")


def _colours(run: RunView) -> dict[str, int]:
    """Give every engine of a run one place in the palette: as its evaluation lists the models, then as met."""
    names: list[str] = []
    for step in run.steps:
        listed = step.config.get("models")
        names += listed if isinstance(listed, Mapping) else ()
        names += [engine for report in step.reports.values() for engine in report.summary]
    return {name: place for place, name in enumerate(dict.fromkeys(names))}


def _figures(report: Report, prefix: str) -> list[Panel]:
    return _drawn(report.figures, prefix)


def _drawn(figures: Mapping[str, str], prefix: str) -> list[Panel]:
    """Return figures by title, safe and ready to stand in the page; an unsafe one is an empty panel."""
    from markupsafe import Markup

    found = ((title, inline(svg, f"{prefix}-{i}")) for i, (title, svg) in enumerate(figures.items()))
    return [Panel(title, Markup(svg) if svg else "") for title, svg in found]


def _panels(step: StepView) -> list[Panel]:
    from markupsafe import Markup

    drawn = training_panels(step.history)
    return [Panel(p.title, Markup(inline(p.svg, f"{step.id}-curve-{i}") or "")) for i, p in enumerate(drawn)]


def _table(report: Report) -> list[tuple[str, list[Estimate | None]]]:
    """Return (axis, one estimate per subject) for the axes that stand for all records."""
    axes = dict.fromkeys(axis for found in report.summary.values() for axis in found if "." not in axis)
    return [(axis, [found.get(axis) for found in report.summary.values()]) for axis in axes]


def _groups(report: Report) -> list[tuple[str, list[tuple[str, list[Estimate | None]]]]]:
    """Return (axis, [(group, one estimate per subject)]) for the axes that are broken down."""
    split = dict.fromkeys(axis for found in report.summary.values() for axis in found if "." in axis)
    tables: dict[str, list[tuple[str, list[Estimate | None]]]] = {}
    for name in split:
        axis, _, group = name.partition(".")
        tables.setdefault(axis, []).append((group, [found.get(name) for found in report.summary.values()]))
    return list(tables.items())


def _shown(samples: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return at most `_SAMPLES` samples, spread evenly."""
    if len(samples) <= _SAMPLES:
        return list(samples)
    return [samples[i * len(samples) // _SAMPLES] for i in range(_SAMPLES)]


def _sample_axes(step: StepView) -> list[str]:
    """Return the axes shown under the answers: those of the step's first report."""
    first = next(iter(step.reports.values()), Report({}))
    return [axis for axis, _ in _table(first)]


def _picked(sample: Mapping[str, Any], engine: str, axes: Sequence[str]) -> list[tuple[str, float]]:
    """Return the scores of a sample's answer on the given axes."""
    scores = (sample.get("scores") or {}).get(engine) or {}
    return [(axis, scores[axis]) for axis in axes if isinstance(scores.get(axis), int | float)]


def _ends(drawn: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the completions of a run's first rollout and of its last."""
    steps = [row.get("step") for row in drawn]
    return [row for row in drawn if row.get("step") in (steps[0], steps[-1])] if steps else []


def _turns(prompt: Any) -> list[tuple[str, str]]:
    """Return a prompt as (role, text) pairs; raw text has no role."""
    if isinstance(prompt, str):
        return [("", prompt)]
    return [(str(m.get("role", "")), str(m.get("content", ""))) for m in prompt or () if isinstance(m, Mapping)]


def _lengths(report: Mapping[str, Any]) -> dict[str, Any]:
    """Split a length report into spreads (a table) and plain facts."""
    spreads = {k: v for k, v in report.items() if isinstance(v, Mapping) and "max" in v}
    columns = dict.fromkeys(column for spread in spreads.values() for column in spread)
    facts = {k: v for k, v in report.items() if k not in spreads}
    for key, value in facts.items():
        if isinstance(value, Mapping) and "count" in value:
            named = ", ".join(map(str, value.get("first") or ()))
            facts[key] = f"{value['count']} (first: {named})" if named else value["count"]
    return {"spreads": spreads, "columns": list(columns), "facts": facts}


def _breakable(line: Any) -> Any:
    """Let a dotted line break after its dots."""
    from markupsafe import Markup, escape

    return Markup(".<wbr>").join(escape(part) for part in str(line).split("."))


def _flat(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return settings as (dotted name, text)."""
    pairs: list[tuple[str, str]] = []
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            pairs += [(f"{key}.{inner}", text) for inner, text in _flat(value)]
        else:
            pairs.append((str(key), numbers.setting(value)))
    return pairs
