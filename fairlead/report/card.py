"""The card of a data set: what is in it, how long, how tagged, how often the same, from where, and samples."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fairlead.figures import distribution
from fairlead.records import Record, Records, to_row

__all__ = ["Card", "Spread", "Tag", "card_of"]

_VALUES = 24
"""Most different values of a column that is shown as a tag."""
_SAMPLES = 24
_ORIGIN = ("method", "models", "templates", "seed", "parent")
_COMPLETE = ("id", "prompt", "completion", "messages", "chosen", "rejected", "completions", "scores", "label", "text")


@dataclass(frozen=True)
class Spread:
    """How a column of numbers lies."""

    n: int
    """Rows that have a finite number."""
    low: float
    """The least."""
    median: float
    """Half are at most this."""
    p95: float
    """95 % are at most this."""
    high: float
    """The most."""
    mean: float
    """The mean."""


@dataclass(frozen=True)
class Tag:
    """How often the values of a column are there."""

    counts: tuple[tuple[str, int], ...]
    """(value, rows), the most frequent first."""
    missing: int
    """Rows without the column, or with None in it."""


@dataclass(frozen=True)
class Card:
    """What a page says of a data set."""

    source: str
    """Where it is from."""
    kind: str
    """Its kind of record."""
    rows: int
    """How many."""
    fingerprint: str
    """Hash of all records in order."""
    same_rows: int
    """Rows whose content an earlier row has."""
    same_prompts: int
    """Rows whose prompt an earlier row has."""
    left_out: tuple[str, ...]
    """Rows that could not be read, and why."""
    lengths: Mapping[str, Spread]
    """Part of a record -> characters."""
    numbers: Mapping[str, Spread]
    """Column -> how its numbers lie."""
    tags: Mapping[str, Tag]
    """Column -> how often its values are there."""
    others: Mapping[str, int]
    """Column that is neither -> rows that have it."""
    origin: Mapping[str, Tag]
    """What the rows say of their making."""
    figures: Mapping[str, str]
    """title -> SVG text."""
    samples: tuple[tuple[str, tuple[tuple[str, Any], ...]], ...]
    """(id, parts as (name, prompt-like value)) of rows spread evenly."""


def card_of(records: Records) -> Card:
    """Describe records."""
    rows = [to_row(record) for record in records]
    parts = _parts(records)
    contents = Counter(_same({k: v for k, v in row.items() if k in _COMPLETE and k != "id"}) for row in rows)
    prompts = Counter(_same(row["prompt"]) for row in rows if row.get("prompt"))
    names = list(dict.fromkeys(name for record in records for name in record.extra))
    columns = {name: [record.extra.get(name) for record in records] for name in names}
    numbers = {name: _spread(values) for name, values in columns.items() if name not in _ORIGIN and _numeric(values)}
    tags = {n: _tag(v) for n, v in columns.items() if n not in numbers and n not in _ORIGIN and _few(v)}
    origin = {name: _tag(columns[name]) for name in _ORIGIN if name in columns and name != "parent"}
    figures = {"characters": distribution(parts, label="characters", unit="rows")}
    for name in numbers:
        figures[name] = distribution({name: _finite(columns[name])}, label=name.replace("_", " "), unit="rows")
    step = max(1, len(records) // _SAMPLES)
    return Card(
        source=records.source,
        kind=records.kind,
        rows=len(records),
        fingerprint=records.fingerprint,
        same_rows=len(records) - len(contents),
        same_prompts=sum(prompts.values()) - len(prompts),
        left_out=tuple(map(str, records.dropped)),
        lengths={name: _spread(values) for name, values in parts.items()},
        numbers=numbers,
        tags=tags,
        others={n: sum(v is not None for v in columns[n]) for n in names if n not in {*numbers, *tags, *origin}},
        origin=origin,
        figures=figures,
        samples=tuple(_sample(row) for row in rows[::step][:_SAMPLES]),
    )


def _parts(records: Sequence[Record]) -> dict[str, list[float]]:
    """Return part of a record -> characters of each record that has it."""
    found: dict[str, list[float]] = {}
    for record in records:
        row = to_row(record)
        for name in _COMPLETE:
            value = row.get(name)
            for part in value if name == "completions" and isinstance(value, list) else [value]:
                if isinstance(part, str | list):
                    found.setdefault(name, []).append(float(_characters(part)))
    return {name: lengths for name, lengths in found.items() if name != "id" and any(lengths)}


def _characters(part: Any) -> int:
    return len(part) if isinstance(part, str) else sum(len(t["content"]) for t in part if isinstance(t, Mapping))


def _sample(row: Mapping[str, Any]) -> tuple[str, tuple[tuple[str, Any], ...]]:
    parts = [
        (name, row[name]) for name in ("prompt", "messages", "completion", "chosen", "rejected", "text") if name in row
    ]
    scores = row.get("scores") or []
    parts += [(f"score {score:g}", one) for score, one in zip(scores, row.get("completions") or [], strict=False)]
    return str(row["id"]), tuple(parts)


def _finite(values: Sequence[Any]) -> list[float]:
    return [float(v) for v in values if isinstance(v, int | float) and math.isfinite(v)]


def _numeric(values: Sequence[Any]) -> bool:
    present = [value for value in values if value is not None]
    return bool(_finite(present)) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in present)


def _few(values: Sequence[Any]) -> bool:
    plain = [v for v in values if v is not None]
    return bool(plain) and all(isinstance(v, str | bool) for v in plain) and len(set(plain)) <= _VALUES


def _spread(values: Sequence[Any]) -> Spread:
    finite = np.array(_finite(values))
    low, median, p95, high = np.percentile(finite, [0, 50, 95, 100]).tolist()
    return Spread(len(finite), low, median, p95, high, float(finite.mean()))


def _tag(values: Sequence[Any]) -> Tag:
    counts = Counter(_shown(value) for value in values if value is not None)
    return Tag(tuple(counts.most_common(_VALUES)), sum(value is None for value in values))


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {str(inner)[:12]}" for key, inner in value.items()) or "none"
    return str(value)


def _same(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
