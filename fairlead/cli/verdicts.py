"""`fairlead verdicts`: a leaderboard from files of judged pairs."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from fairlead.estimates import Estimate
    from fairlead.evaluation.base import Report

__all__ = ["verdicts"]

_COLUMNS = {
    "rate": "wins, %",
    "length_controlled": "at equal lengths",
    "style_controlled": "at equal style",
    "elo": "Elo",
    "length": "length",
}
_PERCENT = ("rate", "length_controlled", "style_controlled")
_WHOLE = ("elo", "length")
"""Axes that are told without decimals and, so that a table fits, without their interval."""


def verdicts(
    files: Annotated[tuple[str, ...], Parameter(help="Files of judged pairs: JSON Lines, JSON, Parquet, CSV; .gz.")],
    /,
    *,
    people: Annotated[str | None, Parameter(help="A file of people's verdicts on some of the same pairs.")] = None,
    reference: Annotated[
        str | None, Parameter(help="CSV of AlpacaEval's items, for its win rate at equal lengths.")
    ] = None,
    c: Annotated[
        float, Parameter(help="Inverse strength of the penalty at equal lengths; AlpacaEval cross-validates it.")
    ] = 21.5443,
    out: Annotated[str | None, Parameter(help="Folder for the report: JSON, Parquet, figures.")] = None,
    resamples: Annotated[int, Parameter(help="Fits behind the intervals of ratings and at equal lengths.")] = 1000,
    confidence: Annotated[float, Parameter(help="Coverage of the intervals.")] = 0.95,
    seed: Annotated[int, Parameter(help="Randomness of the intervals.")] = 0,
    json_: Annotated[bool, Parameter(name="--json", help="Print JSON.", negative="")] = False,
) -> int:
    """Summarise judged pairs: win rates, also at equal lengths, ratings, and how far the judge can be trusted.

    Reads AlpacaEval's annotations (`preference`, `generator_1`, `generator_2`, `output_1`, `output_2`) and the rows of
    Fairlead's own reports.

    For example:

    ```
    fairlead verdicts annotations.json
    fairlead verdicts runs/mine/steps/evaluation/pairwise_judge.parquet --out leaderboard
    fairlead verdicts annotations.json --reference lc_reference.csv --people people.jsonl --json
    ```
    """
    from rich.console import Console

    from fairlead.errors import UsageError
    from fairlead.evaluation.preferences import LengthReference, read_verdicts, summarise

    if resamples < 0:
        raise UsageError(f"resamples is {resamples}", fix="use 0 or more")
    report = summarise(
        read_verdicts(files),
        people=None if people is None else read_verdicts(people),
        reference=None if reference is None else LengthReference.read(reference),
        c=c,
        resamples=resamples,
        confidence=confidence,
        seed=seed,
    )
    if out is not None:
        report.save(out, "verdicts")
    if json_:
        summary = {s: {axis: _plain(e) for axis, e in axes.items()} for s, axes in report.summary.items()}
        print(json.dumps({"summary": summary, "notes": report.notes}, indent=1, ensure_ascii=False))
    else:
        _show(report, Console(highlight=False))
        if out is not None:
            print(f"{out}/verdicts.json")
    return 0


def _plain(estimate: Estimate) -> dict[str, float | int | None]:
    values = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    return {k: None if math.isnan(v) else v for k, v in values.items()} | {"n": estimate.n}


def _show(report: Report, console: Console) -> None:
    from rich.text import Text

    models = {s: axes for s, axes in report.summary.items() if {"rate", "elo"} & axes.keys()}
    columns = [axis for axis in _COLUMNS if any(axis in axes for axes in models.values())]
    best = "length_controlled" if "length_controlled" in columns else "rate"
    order = sorted(models, key=lambda s: -_worth(models[s].get(best) or models[s].get("rate")))
    table = _table("model", *(_COLUMNS[axis] for axis in columns), "n")
    for subject in order:
        axes = models[subject]
        counted = axes.get("rate") or axes["elo"]
        cells = [_cell(axis, axes.get(axis)) for axis in columns]
        table.add_row(*map(Text, (subject, *cells, f"{counted.n:,}")))
    console.print(table)
    for subject, axes in report.summary.items():
        if subject not in models and axes:
            table = _table(subject, "", "n")
            for axis, estimate in axes.items():
                table.add_row(*map(Text, (axis.replace("_", " "), _cell(axis, estimate), f"{estimate.n:,}")))
            console.print(table)
    for note in report.notes:
        console.print(f"note: {note}", markup=False)


def _table(first: str, *headings: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _cell(axis: str, estimate: Estimate | None) -> str:
    if estimate is None or math.isnan(estimate.value):
        return ""
    if axis in _WHOLE:
        return f"{estimate.value:.0f}"
    known = not (math.isnan(estimate.low) or math.isnan(estimate.high))
    if axis in _PERCENT:
        ends = f" [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]" if known else ""
        return f"{100 * estimate.value:.1f}{ends}"
    return f"{estimate.value:.3f}" + (f" [{estimate.low:.3f}, {estimate.high:.3f}]" if known else "")


def _worth(estimate: Estimate | None) -> float:
    return 2.0 if estimate is None else -1.0 if math.isnan(estimate.value) else estimate.value
