"""The contract of evaluators: engines and records in, a report out; and how a report is kept in a folder."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from fairlead.engines.base import Engine
from fairlead.errors import DataError, UsageError
from fairlead.estimates import Estimate

__all__ = ["Evaluator", "Report"]


@dataclass
class Report:
    """What an evaluator found."""

    summary: dict[str, dict[str, Estimate]]
    """subject (an engine's name) -> axis -> estimate."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """One flat dict per sample and subject; written as Parquet."""
    figures: dict[str, str] = field(default_factory=dict)
    """title -> SVG text."""
    notes: list[str] = field(default_factory=list)
    """What a reader must know: abstentions, missing cases."""

    def metrics(self) -> Mapping[str, float]:
        """Flat point estimates: "subject.axis" -> value."""
        return {f"{subject}.{axis}": e.value for subject, axes in self.summary.items() for axis, e in axes.items()}

    def save(self, folder: str | Path, name: str) -> None:
        """Write `<name>.json` (summary, notes, figure files), `<name>.parquet` (rows) and `<name>-<title>.svg`.

        The JSON is written last, so a report that has it is whole. NaN becomes null.

        Raises:
            UsageError: rows whose values of one column do not share a type.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        _write_rows(self.rows, folder / f"{name}.parquet")
        files = _figure_files(name, self.figures)
        for title, file in files.items():
            (folder / file).write_text(self.figures[title], encoding="utf-8")
        summary = {
            subject: {axis: {k: _null(v) for k, v in asdict(e).items()} for axis, e in axes.items()}
            for subject, axes in self.summary.items()
        }
        text = json.dumps({"summary": summary, "notes": self.notes, "figures": files}, indent=1, ensure_ascii=False)
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path, name: str, *, rows: bool = True) -> Report:
        """Read what `save` wrote; without `rows` the table is left unread, which is fast however long it is.

        Raises:
            DataError: a file that is missing or not what `save` writes.
        """
        folder = Path(folder)
        place = folder / f"{name}.json"
        try:
            found = json.loads(place.read_text(encoding="utf-8"))
            summary = {
                subject: {axis: _estimate(e) for axis, e in axes.items()} for subject, axes in found["summary"].items()
            }
            figures = {title: (folder / file).read_text(encoding="utf-8") for title, file in found["figures"].items()}
            table = _read_rows(folder / f"{name}.parquet") if rows else []
            return cls(summary, table, figures, [str(note) for note in found["notes"]])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            what = f"no whole report here ({type(error).__name__}: {error})"
            raise DataError(what, place=str(place), fix="run the evaluation again") from error


@runtime_checkable
class Evaluator(Protocol):
    """A frozen dataclass whose call measures engines on records."""

    example: ClassVar[Mapping[str, Any]]
    """Plain field values that build a working instance for engines called `base` and `other`; docs and tests use it."""

    def __call__(self, engines: Mapping[str, Engine], records: Sequence[Any]) -> Report:
        """Measure every engine, by name, on the records (see `fairlead.records`)."""
        ...


def _null(value: float) -> float | None:
    return None if math.isnan(value) else value


def _estimate(plain: Mapping[str, Any]) -> Estimate:
    value, low, high = (math.nan if plain[k] is None else float(plain[k]) for k in ("value", "low", "high"))
    return Estimate(value, low, high, int(plain["n"]))


def _figure_files(name: str, titles: Mapping[str, str]) -> dict[str, str]:
    files: dict[str, str] = {}
    for title in titles:
        slug = base = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "figure"
        number = 1
        while f"{name}-{slug}.svg" in files.values():
            number += 1
            slug = f"{base}-{number}"
        files[title] = f"{name}-{slug}.svg"
    return files


def _write_rows(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = list(dict.fromkeys(key for row in rows for key in row))
    columns = {}
    for column in names:
        try:
            columns[column] = pa.array([row.get(column) for row in rows])
        except pa.ArrowException as error:
            fix = "give every value of a column the same type, or None"
            raise UsageError(f"column {column!r} of the rows: {error}", place=str(path), fix=fix) from error
    pq.write_table(pa.table(columns), path)


def _read_rows(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    return pq.read_table(path).to_pylist()
