"""A run in one screen of a terminal: verdict, expectations, results with intervals, time per step."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from fairlead.report.folder import RunView, StepView, read_run
from fairlead.report.numbers import duration, number
from fairlead.report.verdict import verdict

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = ["print_summary"]

_TONES = {"good": "green", "bad": "red", "open": "yellow", "plain": "default"}


def print_summary(folder: Path, console: Console | None = None) -> None:
    """Print the summary of the run in `folder`, to stderr by default."""
    from rich.console import Console

    run = read_run(folder)
    for part in _parts(run):
        (console or Console(stderr=True)).print(part)


def _parts(run: RunView) -> list[RenderableType]:
    from rich.text import Text

    found = verdict(run)
    heading = Text.assemble("\n", (run.title, "bold"), "  ", (found.text, f"bold {_TONES[found.tone]}"))
    parts: list[RenderableType] = [heading, Text(found.detail, "dim")]
    for step in run.steps:
        parts += [_results(step, label) for label, report in step.reports.items() if report.summary]
    if run.expectations:
        parts.append(_expectations(run))
    parts.append(_times(run))
    missing = [*run.missing, *(f"{step.id}: {what}" for step in run.steps for what in step.missing)]
    return [*parts, *(Text(f"missing: {what}", "yellow") for what in missing)]


def _results(step: StepView, label: str) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    summary = step.reports[label].summary
    table = Table(title=Text(f"{step.id}: {label}", "bold"), title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    for engine in summary:
        table.add_column(Text(engine), justify="right")
    for axis in dict.fromkeys(axis for found in summary.values() for axis in found if "." not in axis):
        cells = []
        for found in summary.values():
            e = found.get(axis)
            known = e is not None and math.isfinite(e.low) and math.isfinite(e.high)
            between = f"  {e.low:.2f}..{e.high:.2f}" if known else ""
            cells.append(Text.assemble(number(e.value if e else None), (between, "dim")))
        table.add_row(Text(axis.replace("_", " ")), *cells)
    return table


def _expectations(run: RunView) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text("expectations", "bold"), title_justify="left", box=None, show_header=False, pad_edge=False)
    for line in run.expectations:
        mark = Text("holds", "green") if line["holds"] else Text("fails", "bold red")
        table.add_row(mark, Text(str(line["line"])), Text(number(line.get("value")), justify="right"))
    return table


def _times(run: RunView) -> RenderableType:
    from rich.text import Text

    spent = [f"{step.id} {duration(step.seconds)}" for step in run.steps if step.seconds is not None]
    return Text("time: " + (", ".join(spent) or "no step has begun"), "dim")
