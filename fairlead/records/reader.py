"""Reads records from any source; what is wrong is collected and told at once, with its place and fix."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, overload

from fairlead.errors import DataError, UnknownNameError, UsageError
from fairlead.records.check import COLUMNS, Problem, check_row, kinds_of
from fairlead.records.formats import FORMATS
from fairlead.records.schema import CLASSES, Conversation, Record, texts, to_row
from fairlead.records.sources import open_rows, split_options

__all__ = ["OPTIONS", "BadRows", "Records", "read", "survey", "tell"]

BadRows = Literal["error", "drop"]
OPTIONS = ("format", "kind", "limit", "bad_rows", "part", "held_out", "subset")
"""What may stand behind the question mark of a source."""

_SHOWN = 5
_log = logging.getLogger("fairlead")


class Records(Sequence[Record]):
    """Records of one kind, in the order of their source."""

    kind: str
    """conversation, preference, feedback, ranking, prompt or text."""
    source: str
    """Where they are from."""
    dropped: tuple[Problem, ...]
    """Why rows were left out, one problem or more for each; empty unless asked to with `bad_rows="drop"`."""

    def __init__(
        self,
        records: Sequence[Record],
        *,
        kind: str,
        source: str,
        dropped: Sequence[Problem] = (),
        places: Mapping[str, str] | None = None,
    ):
        self._records = list(records)
        self.kind, self.source, self.dropped = kind, source, tuple(dropped)
        self._places = dict(places or {})

    @cached_property
    def fingerprint(self) -> str:
        """64 hex digits that change with any record, column or their order."""
        digest = hashlib.sha256()
        for record in self._records:
            row = json.dumps([record.kind, to_row(record)], sort_keys=True, ensure_ascii=False, default=str)
            digest.update(row.encode("utf-8", "surrogatepass") + b"\n")
        return digest.hexdigest()

    def place(self, id: str) -> str:
        """Return where the record called `id` stands: its line or row, with the source."""
        return self._places.get(id, f"{self.source}, record {id}")

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Records: ...
    def __getitem__(self, index: int | slice) -> Record | Records:
        if isinstance(index, slice):
            parts = {"kind": self.kind, "source": self.source, "dropped": self.dropped, "places": self._places}
            return Records(self._records[index], **parts)
        return self._records[index]

    def __repr__(self) -> str:
        return f"Records({len(self)} {self.kind} records from {self.source})"


@dataclass(frozen=True)
class _Options:
    """How one source is read."""

    format: str | None = None
    kind: str | None = None
    limit: int | None = None
    bad_rows: str = "error"
    part: str | None = None
    held_out: float = 0.1
    subset: str | None = None


def read(
    source: str | Path | Sequence[str | Path],
    *,
    kind: str | None = None,
    format: str | None = None,
    limit: int | None = None,
    bad_rows: BadRows = "error",
) -> Records:
    """Read records.

    Args:
        source: `harbor:SET`; a file (.jsonl, .json, .csv, each also .gz; .parquet); a folder written by the datasets
            library (`DIR` or `DIR:split`); a hub id (`org/name` or `org/name:split`); or several of them. Options
            behind a question mark hold for that source only: those below; `part=train` or `part=held_out`, told
            apart by a hash of a row's first user message, raw prompt or document, where `held_out=0.1` is the share
            held out; and `subset=NAME` (hub).
        kind: what to read rows as; by default what their columns say. Any kind with prompts can be read as
            "prompt"; a preference as "conversation" (the chosen answer) or as two of "feedback" (ids ending with
            -chosen and -rejected); both kinds of chat as "text" (contents, parted by blank lines).
        format: shape of rows that are not Fairlead's own: hh, alpaca, sharegpt, bbq, arena.
        limit: read only the first so many records (of all sources together).
        bad_rows: "error" stops at the end with all problems; "drop" leaves the rows out, counts them in
            `Records.dropped` and logs a warning.

    Raises:
        DataError: rows that are not what they should be: the first five problems and the totals; no rows; a source
            that cannot be read.
        UnknownNameError, UnknownFieldError, UsageError: an unknown kind, format or option.
    """
    found = survey(source, kind=kind, format=format, limit=limit, bad_rows=bad_rows)
    if found.dropped:
        left_out = len({problem.place for problem in found.dropped})
        _log.warning("%s: %d rows left out\n%s", found.source, left_out, tell(found.dropped))
    return found


def survey(
    source: str | Path | Sequence[str | Path],
    *,
    kind: str | None = None,
    format: str | None = None,
    limit: int | None = None,
    bad_rows: BadRows = "drop",
) -> Records:
    """Read records as `read` does, for a caller that tells of `Records.dropped` itself."""
    sources = [str(source)] if isinstance(source, str | Path) else [str(part) for part in source]
    if not sources:
        raise UsageError("no data source was given", fix="give a path, harbor:SET or hub id")
    if limit is not None and limit < 1:
        raise UsageError(f"limit is {limit}", place=", ".join(sources), fix="use a value >= 1")
    options = _Options(format, kind, None, bad_rows)
    reading = _Reading(several=len(sources) > 1)
    for text in sources:
        place, given = split_options(text, OPTIONS)
        reading.read(place, _overridden(options, given, text), limit)
    return reading.finish(", ".join(sources))


class _Reading:
    """Collects the records and problems of one or several sources."""

    def __init__(self, *, several: bool):
        self._several = several
        self._records: list[Record] = []
        self._problems: list[Problem] = []
        self._dropped: list[Problem] = []
        self._places: dict[str, str] = {}
        self._rows = self._bad = 0
        self._kind: str | None = None

    def read(self, source: str, options: _Options, limit: int | None) -> None:
        """Read one source until `limit` records are there in all."""
        here = 0
        for row_place, row in open_rows(source, subset=options.subset):
            if len(self._records) == limit or here == options.limit:
                break
            place = f"{source} {row_place}" if self._several else row_place
            self._rows += 1
            found, part = self._found(row, place, options)
            if isinstance(found, list):
                problems = [replace(problem, place=place) for problem in found]
                dropping = options.bad_rows == "drop"
                (self._dropped if dropping else self._problems).extend(problems)
                self._bad += not dropping
            elif options.part is None or options.part == part:
                room = [most - had for most, had in ((limit, len(self._records)), (options.limit, here)) if most]
                found = found[: min(room, default=None)]
                self._records.extend(found)
                here += len(found)

    def finish(self, source: str) -> Records:
        """Return the records, or raise with what is wrong."""
        if self._problems:
            what = f"{self._bad} of {self._rows} rows cannot be read\n{tell(self._problems)}"
            raise DataError(what, place=source, fix="correct the rows, or leave them out with bad_rows=drop")
        if self._kind is None or not self._records:
            what = f"no rows are left of {self._rows}" if self._rows else "there are no rows"
            if self._dropped:
                what += f"\n{tell(self._dropped)}"
            raise DataError(what, place=source, fix="check the source and its options")
        places = self._places if self._several else {id: f"{source}, {at}" for id, at in self._places.items()}
        return Records(self._records, kind=self._kind, source=source, dropped=self._dropped, places=places)

    def _found(
        self, row: Mapping[str, Any] | Problem, place: str, options: _Options
    ) -> tuple[tuple[Record, ...] | list[Problem], str]:
        """Return a row's records, or what is wrong with it, and the part that the row belongs to."""
        if not isinstance(row, Problem) and options.format is not None:
            made = FORMATS[options.format](dict(row), place)
            if isinstance(made, list):
                return made, ""
            row = made
        if isinstance(row, Problem):
            return [row], ""
        natural = _natural_kind(row, options.kind)
        if natural is None:
            wanted = "; ".join(" + ".join(columns) for columns in COLUMNS.values()) + "; messages"
            fix = f"rename the columns, or give a format ({', '.join(FORMATS)})"
            return [Problem(place, "row", f"columns: {wanted}", f"columns: {', '.join(row) or 'none'}", fix)], ""
        record = check_row(row, natural, place)
        if isinstance(record, list):
            return record, ""
        part = _part_of(record, options.held_out)  # of the row as it is: reading it as another kind moves no row
        records = _as_kind(record, options.kind)
        wanted = self._kind or options.kind or record.kind
        if records[0].kind != wanted:
            expected = f"a {wanted} row, as the ones before or as asked"
            fix = f"one kind per source; kind= can read it as {', '.join(_readable(natural))}"
            return [Problem(place, "row", expected, f"a {record.kind} row", fix)], ""
        self._kind = wanted
        return self._unique(records, place, given=row.get("id") is not None), part

    def _unique(self, records: Sequence[Record], place: str, *, given: bool) -> tuple[Record, ...] | list[Problem]:
        """Equal rows without ids get numbers behind their hash; equal ids in the data are a problem."""
        unique = []
        for record in records:
            if record.id in self._places:
                if given:
                    found = f"{record.id!r}, as at {self._places[record.id]}"
                    return [Problem(place, "id", "an id of its own", found, "rename or remove one of the two")]
                number = next(n for n in range(2, self._rows + 2) if f"{record.id}-{n}" not in self._places)
                record = replace(record, id=f"{record.id}-{number}")
            self._places[record.id] = place
            unique.append(record)
        return tuple(unique)


def _overridden(options: _Options, given: Mapping[str, str], source: str) -> _Options:
    """Return the options with those of one source, checked."""
    values: dict[str, Any] = dict(given)
    try:
        values |= {name: kind(given[name]) for name, kind in (("limit", int), ("held_out", float)) if name in given}
    except ValueError as error:
        raise UsageError(
            f"an option is no number: {error}", place=source, fix="write limit=100, held_out=0.1"
        ) from None
    options = replace(options, **values)
    for name, known in (
        ("format", FORMATS),
        ("kind", CLASSES),
        ("bad_rows", ("error", "drop")),
        ("part", ("train", "held_out")),
    ):
        value = getattr(options, name)
        if value is not None and value not in known:
            raise UnknownNameError(name, value, known, place=source)
    if not 0 < options.held_out < 1:
        raise UsageError(f"held_out is {options.held_out}", place=source, fix="give a share between 0 and 1")
    return options


def _part_of(record: Any, held_out: float) -> str:
    """Return the side of a record, by what it opens with: a document, a raw prompt, the first user message.

    Rows that are longer and shorter cuts of one conversation are so on one side, in any file and order.
    """
    opening = record.text if record.kind == "text" else record.prompt or record.completion
    if not isinstance(opening, str):
        opening = next(message["content"] for message in opening if message["role"] == "user")
    digest = hashlib.sha256(opening.encode("utf-8", "surrogatepass")).digest()
    return "held_out" if int.from_bytes(digest[:8], "big") < held_out * 2**64 else "train"


def _asked(record: Any) -> Any:
    """Return the prompt of a record; of a whole conversation, what comes before its last answer."""
    if record.prompt:
        return record.prompt
    last = max(i for i, message in enumerate(record.completion) if message["role"] == "assistant")
    return record.completion[:last]


_CONVERSIONS: dict[tuple[str, str], Callable[[Any], dict[str, Any]]] = {
    ("conversation", "prompt"): lambda r: {"prompt": _asked(r)},
    ("preference", "prompt"): lambda r: {"prompt": r.prompt},
    ("feedback", "prompt"): lambda r: {"prompt": r.prompt},
    ("ranking", "prompt"): lambda r: {"prompt": r.prompt},
    ("preference", "conversation"): lambda r: {"prompt": r.prompt, "completion": r.chosen},
    ("preference", "text"): lambda r: {"text": "\n\n".join(texts(Conversation(r.id, r.prompt, r.chosen)))},
    ("conversation", "text"): lambda r: {"text": "\n\n".join(texts(r))},
}
"""(from, to) -> the content of the record as the other kind."""
_SPLITS: dict[tuple[str, str], Callable[[Any], dict[str, dict[str, Any]]]] = {
    ("preference", "feedback"): lambda r: {
        "chosen": {"prompt": r.prompt, "completion": r.chosen, "label": True},
        "rejected": {"prompt": r.prompt, "completion": r.rejected, "label": False},
    },
}
"""(from, to) -> the contents of the records that one record falls into, under what their ids end with."""


def _natural_kind(row: Mapping[str, Any], wanted: str | None) -> str | None:
    """Return the kind that a row's columns speak for most, unless only another one leads to `wanted`."""
    kinds = kinds_of(row)
    if wanted in kinds and wanted not in _readable(kinds[0]):
        return wanted
    return kinds[0] if kinds else None


def _readable(natural: str) -> list[str]:
    return [natural, *(to for of, to in (*_CONVERSIONS, *_SPLITS) if of == natural)]


def _as_kind(record: Record, kind: str | None) -> tuple[Record, ...]:
    """Return the record as another kind where that is defined, else as it is; one record may become several."""
    way = (record.kind, kind or record.kind)
    if kind is None or way not in (*_CONVERSIONS, *_SPLITS):
        return (record,)
    if way in _SPLITS:
        contents = {f"{record.id}-{end}": content for end, content in _SPLITS[way](record).items()}
    else:
        contents = {record.id: _CONVERSIONS[way](record)}
    return tuple(CLASSES[kind](id=id, **content, extra=record.extra) for id, content in contents.items())


def tell(problems: Sequence[Problem]) -> str:
    """Word the first problem of each of the first five rows, and how many problems there are of each field."""
    first = {problem.place: problem for problem in reversed(problems)}
    rows = list(dict.fromkeys(problem.place for problem in problems))
    lines = [f"  {first[place]}" for place in rows[:_SHOWN]]
    if len(rows) > _SHOWN:
        lines.append(f"  ... and {len(rows) - _SHOWN} more rows")
    totals = Counter(re.sub(r"\d+", "*", problem.field) for problem in problems)
    return "\n".join([*lines, "  in all: " + ", ".join(f"{name} {count}" for name, count in totals.most_common())])
