"""A run in one screen of a terminal: verdict, expectations, results with intervals, time per step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fairlead.estimates import Estimate
from fairlead.report.folder import RunView, StepView, read_run
from fairlead.report.numbers import duration, number
from fairlead.report.verdict import verdict

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

    from fairlead.report.comparison import Comparison

__all__ = ["print_comparison", "print_summary"]

_ENDLESS = 10_000
_TONES = {"good": "green", "bad": "red", "open": "yellow", "plain": "default"}


def print_summary(folder: Path, console: Console | None = None) -> None:
    """Print the summary of the run in `folder`, to stderr by default."""
    from rich.console import Console

    run = read_run(folder)
    console = console or Console(stderr=True)
    for part in _parts(run, console):
        console.print(part)


def print_comparison(found: Comparison, console: Console) -> None:
    """Print what several runs measured in common, and where their settings differ."""
    from rich.text import Text

    for step in found.steps:
        for label in step.reports:
            console.print(_fitting(step, label, console))
        for note in step.notes:
            console.print(Text(note, "yellow"))
    table = _table("what differs")
    for heading in ("setting", *found.names):
        table.add_column(heading, overflow="fold")
    for name, values in found.differences:
        table.add_row(Text(name), *map(Text, values))
    console.print(table)


def _parts(run: RunView, console: Console) -> list[RenderableType]:
    from rich.text import Text

    found = verdict(run)
    heading = Text.assemble("\n", (run.title, "bold"), "  ", (found.text, f"bold {_TONES[found.tone]}"))
    parts: list[RenderableType] = [heading, Text(found.detail, "dim")]
    for step in run.steps:
        parts += [_fitting(step, label, console) for label in step.reports]
    parts += [Text(text, "dim") for text in run.loops]
    if run.expectations:
        parts.append(_expectations(run))
    parts.append(_times(run))
    missing = [*run.missing, *(f"{step.id}: {what}" for step in run.steps for what in step.missing)]
    return [*parts, *(Text(f"missing: {what}", "yellow") for what in missing)]


def _fitting(step: StepView, label: str, console: Console) -> Table:
    """Return a report's numbers in the shape that the terminal has room for."""
    wide = _side_by_side(step, label)
    needs = console.measure(wide, options=console.options.update(width=_ENDLESS)).maximum
    return wide if needs <= console.width else _one_below_the_other(step, label)


def _side_by_side(step: StepView, label: str) -> Table:
    """Return a table with one column per engine."""
    from rich.text import Text

    summary = step.reports[label].summary
    table = _table(f"{step.id}: {label}")
    table.add_column("")
    for engine in summary:
        table.add_column(Text(engine), justify="right")
    for axis in _axes(summary):
        table.add_row(Text(axis), *(_cell(found.get(axis)) for found in summary.values()))
    return table


def _one_below_the_other(step: StepView, label: str) -> Table:
    """Return the same numbers with one line per axis and engine, for many engines or a narrow terminal."""
    from rich.text import Text

    summary = step.reports[label].summary
    table = _table(f"{step.id}: {label}")
    for heading in ("axis", "engine"):
        table.add_column(heading, overflow="fold")
    table.add_column("")
    for axis in _axes(summary):
        for engine, found in summary.items():
            if axis in found:
                table.add_row(Text(axis), Text(engine), _cell(found[axis]))
    return table


def _table(title: str) -> Table:
    from rich.table import Table
    from rich.text import Text

    return Table(title=Text(title, "bold"), title_justify="left", box=None, pad_edge=False)


def _axes(summary: Mapping[str, Mapping[str, Estimate]]) -> list[str]:
    return list(dict.fromkeys(axis for found in summary.values() for axis in found if "." not in axis))


def _cell(e: Estimate | None) -> Text:
    from rich.text import Text

    between = ""
    if e is not None and math.isfinite(e.low) and math.isfinite(e.high):
        between = f"  {e.low:.2f}..{e.high:.2f}"
    return Text.assemble(number(e.value if e else None), (between, "dim"))


def _expectations(run: RunView) -> RenderableType:
    from rich.text import Text

    table = _table("expectations")
    table.show_header = False
    for line in run.expectations:
        mark = Text("holds", "green") if line["holds"] else Text("fails", "bold red")
        table.add_row(mark, Text(str(line["line"])), Text(number(line.get("value")), justify="right"))
    return table


def _times(run: RunView) -> RenderableType:
    from rich.text import Text

    spent = [f"{step.id} {duration(step.seconds)}" for step in run.steps if step.seconds is not None]
    return Text("time: " + (", ".join(spent) or "no step has begun"), "dim")
