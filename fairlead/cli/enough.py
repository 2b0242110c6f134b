"""`fairlead data enough`: from scores by number of records, how many records are enough."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

if TYPE_CHECKING:
    from fairlead.estimates import Estimate
    from fairlead.plateau import GrowthStudy

__all__ = ["enough"]


def enough(
    path: Annotated[str, Parameter(help="JSON Lines, JSON, CSV or Parquet with one row per training.")],
    /,
    *,
    size: Annotated[str, Parameter(help="Column with the number of records.")] = "n",
    score: Annotated[str, Parameter(help="Column with what was reached.")] = "y",
    weight: Annotated[str | None, Parameter(help="Column with how much a row counts, such as 1 / variance.")] = None,
    share: Annotated[float, Parameter(help="Share of the way to the ceiling that is called enough.")] = 0.95,
    at: Annotated[tuple[float, ...], Parameter(help="Numbers of records whose score is predicted.")] = (),
    gain: Annotated[
        float | None, Parameter(help="Least gain per 1,000 further records that is worth collecting them.")
    ] = None,
    confidence: Annotated[float, Parameter(help="Coverage of the intervals.")] = 0.95,
    seed: Annotated[int, Parameter(help="Randomness of the intervals.")] = 0,
    figure: Annotated[str | None, Parameter(help="SVG file for the curve.")] = None,
    json_: Annotated[bool, Parameter(name="--json", help="Print JSON.", negative="")] = False,
) -> int:
    """Say how many records are enough, from at least six trainings on five different numbers of records.

    Fits an exponential plateau with intervals, compares it with a logarithm and a power law, and says when no plateau
    may be claimed; the exit code is 1 then.

    For example:

    ```
    fairlead data enough scores.csv
    fairlead data enough scores.jsonl --size records --score reward --at 20000 --figure curve.svg
    fairlead data enough scores.csv --gain 0.01 --json
    ```
    """
    from fairlead.errors import UsageError
    from fairlead.plateau import draw_growth, study_growth

    if not 0 < share < 1:
        raise UsageError(f"share is {share}", fix="use a share of the way, such as 0.95")
    if gain is not None and not gain > 0:
        raise UsageError(f"gain is {gain}", fix="use a gain above 0 per 1,000 records")
    if any(not 0 <= n < math.inf for n in at):
        raise UsageError(f"at is {', '.join(map(str, at))}", fix="use numbers of records, from 0")
    sizes, scores, weights = _read(path, size, score, weight)
    study = study_growth(sizes, scores, weights, confidence=confidence, seed=seed)
    found = _found(study, share, at, gain)
    if figure is not None:
        Path(figure).write_text(draw_growth(study, x=size, y=score, beyond=max(at, default=0.0)), encoding="utf-8")
    print(json.dumps(found, indent=1) if json_ else _said(found, share, gain))
    return 0 if study.claimed else 1


def _read(path: str, size: str, score: str, weight: str | None) -> tuple[list[float], list[float], list[float] | None]:
    from fairlead.errors import DataError
    from fairlead.records.check import Problem
    from fairlead.records.sources import open_rows

    columns: dict[str, list[float]] = {name: [] for name in (size, score, *([weight] if weight else []))}
    for place, row in open_rows(path):
        if isinstance(row, Problem):
            raise DataError(str(row), place=path, fix="mend or remove this row")
        for name, values in columns.items():
            try:
                values.append(float(row[name]))
            except (KeyError, TypeError, ValueError) as error:
                what = f"no number in column {name!r}; the columns are {', '.join(map(str, row))}"
                fix = "name the columns with --size and --score"
                raise DataError(what, place=f"{path}, {place}", fix=fix) from error
    return columns[size], columns[score], columns[weight] if weight else None


def _found(study: GrowthStudy, share: float, at: tuple[float, ...], gain: float | None) -> dict[str, Any]:
    names = ("start", "ceiling", "rate") if study.claimed else ("start", "rate")
    found: dict[str, Any] = {
        "verdict": study.verdict,
        "because": study.because,
        "rows": len(study.sizes),
        **{name: _plain(study.parameter(name)) for name in names},
        "r2": study.fit.r2 if math.isfinite(study.fit.r2) else None,
        "aicc": {law: value if math.isfinite(value) else None for law, value in study.aicc.items()},
        "at": {f"{n:g}": _plain(study.at(n)) for n in at},
    }
    if study.claimed:
        found |= {"half": _plain(study.enough(0.5)), "enough": _plain(study.enough(share))}
        if gain is not None:
            found["worth"] = study.fit.worth(gain / 1000)
    return found


def _plain(estimate: Estimate) -> dict[str, float]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def _said(found: dict[str, Any], share: float, gain: float | None) -> str:
    laws = ", ".join(f"{law} {'-' if value is None else f'{value:.1f}'}" for law, value in found["aicc"].items())
    lines = [
        f"{found['verdict']}: {found['because']}",
        f"AICc of {found['rows']} rows: {laws}",
        *(f"{name} {_told(found[name])}" for name in ("start", "ceiling", "rate") if name in found),
    ]
    if "enough" in found:
        lines += [f"half of the way: {_told(found['half'])} records"]
        lines += [f"enough, {share:.0%} of the way: {_told(found['enough'])} records"]
    if "worth" in found:
        lines += [f"1,000 further records bring less than {gain:g} from {found['worth']:,.0f} records on"]
    lines += [f"at {n} records: {_told(estimate)}" for n, estimate in found["at"].items()]
    return "\n".join(lines)


def _told(estimate: dict[str, float]) -> str:
    return f"{estimate['value']:.4g} ({estimate['low']:.4g} to {estimate['high']:.4g})"
