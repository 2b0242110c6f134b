"""Where rows come from: files, `datasets` folders, the hub, Harbor. Every row comes with its place, for errors.

A source is a text: a place, and options behind a question mark, as in `pairs.jsonl?bad_rows=drop` or
`harbor:preferences?n=500`. An option that the reader does not have goes to Harbor, or is an error.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any
from urllib.parse import parse_qsl

from fairlead.errors import DataError, UnknownFieldError, UsageError, nearest
from fairlead.records.check import Problem

__all__ = ["MAX_LINE", "Located", "open_rows", "split_options"]

MAX_LINE = 1_000_000
"""Most bytes of one JSONL row; a longer line is nearly always a file that is not line by line."""

Located = tuple[str, Mapping[str, Any] | Problem]
"""A row with its place ("line 3"), or what kept it from being read."""

_HUB = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")
_JSON_CELLS = ("messages", "completions", "scores")
"""CSV columns whose cells are JSON."""


def split_options(source: str, known: tuple[str, ...]) -> tuple[str, dict[str, str]]:
    """Return a source without its reader's options, and these.

    Raises:
        UnknownFieldError, UsageError: an option that nothing knows, or given twice.
    """
    place, mark, query = source.partition("?")
    if not mark or Path(source).exists():
        return source, {}
    options: dict[str, str] = {}
    rest: list[str] = []
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in known and place.startswith("harbor:"):
            rest.append(f"{key}={value}")
        elif key not in known:
            raise UnknownFieldError("a source", key, known, place=source)
        elif key in options:
            raise UsageError(f"option {key!r} is given twice", place=source, fix=f"keep one {key}=...")
        else:
            options[key] = value
    return (f"{place}?{'&'.join(rest)}" if rest else place), options


def open_rows(source: str, *, subset: str | None = None) -> Iterator[Located]:
    """Yield the rows of a source (without options of the reader).

    Args:
        source: `harbor:SET`, a path, or a hub id with its split: `org/name:train`.
        subset: configuration of a hub data set.

    Raises:
        DataError: no such file, unknown suffix, not UTF-8, a data set that cannot be loaded.
    """
    if source.startswith("harbor:"):
        from fairlead import harbor

        rows = harbor.rows(source.removeprefix("harbor:"))
        return ((f"row {number}", row) for number, row in enumerate(rows, start=1))
    path = Path(source).expanduser()
    folder, _, split = source.rpartition(":")
    if path.is_dir():
        return _arrow_folder(path, "")
    if folder and Path(folder).expanduser().is_dir():
        return _arrow_folder(Path(folder).expanduser(), split)
    opener = _opener(path)
    if path.is_file():
        if opener is None:
            raise DataError("its suffix says no known format", place=source, fix=f"name it {', '.join(_OPENERS)}")
        return opener(path)
    if opener is None and _HUB.fullmatch(source):
        return _hub(source, subset)
    near = nearest(path.name, [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else [])
    fix = f"did you mean {str(path.parent / near)!r}?" if near else "check the path, or use harbor:SET or a hub id"
    raise DataError("no such file", place=source, fix=fix)


def _opener(path: Path) -> Callable[[Path], Iterator[Located]] | None:
    name = path.name.lower().removesuffix(".gz")
    return next((opener for suffix, opener in _OPENERS.items() if name.endswith(suffix)), None)


def _bytes(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")  # type: ignore[return-value]


def _checked_text(raw: bytes, path: Path, line: int) -> str:
    if raw.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")) and line == 1:
        raise DataError("begins with a byte-order mark", place=str(path), fix="save it as UTF-8 without BOM")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        bad = f"byte {raw[error.start]:#04x} at position {error.start} is not UTF-8"
        raise DataError(bad, place=f"{path}:{line}", fix="save the file as UTF-8") from error


def _jsonl(path: Path) -> Iterator[Located]:
    with _bytes(path) as file:
        number = 0
        while raw := _taken(file.readline, path, MAX_LINE + 1):
            number += 1
            place = f"line {number}"
            size = len(raw)
            while size > MAX_LINE and not raw.endswith(b"\n") and (raw := _taken(file.readline, path, MAX_LINE + 1)):
                size += len(raw)
            size -= raw.endswith(b"\n")
            if size > MAX_LINE:
                fix = "split the document; if the whole file is one JSON list, name it .json"
                yield place, Problem(place, "row", f"at most {MAX_LINE:,} bytes", f"{size:,} bytes", fix)
            elif (text := _checked_text(raw, path, number)).strip():
                yield place, _json_row(text.rstrip(), place)


def _taken(read: Callable[..., bytes], path: Path, *size: int) -> bytes:
    try:
        return read(*size)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot be read: {error}", place=str(path), fix="check the file; is it complete?") from error


def _json_row(text: str, place: str) -> Mapping[str, Any] | Problem:
    try:
        row = json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        near = text[max(0, error.pos - 20) : error.pos + 20]
        found = f"{error.msg[0].lower()}{error.msg[1:]} at column {error.colno}, near {near!r}"
        return Problem(place, "row", "JSON", found, "correct the line")
    except _TwiceError as error:
        return Problem(place, str(error), "each key once", "the key twice", "keep one of them")
    if not isinstance(row, dict):
        return Problem(place, "row", "an object {...}", f"{type(row).__name__} {text[:40]!r}", "one object per line")
    return row


class _TwiceError(ValueError):
    """A JSON object has a key twice; caught where rows are parsed."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _TwiceError(next(key for key in keys if keys.count(key) > 1))
    return made


def _json(path: Path) -> Iterator[Located]:
    with _bytes(path) as file:
        text = _checked_text(_taken(file.read, path), path, 1)
    try:
        rows = json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        fix = "one object per line? Name it .jsonl" if error.msg == "Extra data" else "correct the file"
        raise DataError(f"is not JSON: {error.msg}", place=f"{path}:{error.lineno}", fix=fix) from error
    except _TwiceError as error:
        raise DataError(f"has the key {error} twice in one object", place=str(path), fix="keep one of them") from error
    if not isinstance(rows, list):
        raise DataError(f"is {type(rows).__name__}, not a list of rows", place=str(path), fix="write [{...}, {...}]")
    for number, row in enumerate(rows, start=1):
        place = f"row {number}"
        whole = isinstance(row, dict)
        yield (
            place,
            row if whole else Problem(place, "row", "an object {...}", repr(row)[:40], "write every row as one"),
        )


def _csv(path: Path) -> Iterator[Located]:
    with _bytes(path) as file:
        text = _checked_text(_taken(file.read, path), path, 1)
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, [])
        if len(set(header)) < len(header):
            raise DataError(f"has two columns of one name: {header}", place=f"{path}:1", fix="rename one")
        for cells in reader:
            place = f"line {reader.line_num}"
            if cells and len(cells) != len(header):
                found, fix = f"{len(cells)} cells", "quote cells that contain commas"
                yield place, Problem(place, "row", f"{len(header)} cells", found, fix)
            elif cells:
                yield place, _csv_row(dict(zip(header, cells)), place)
    except csv.Error as error:
        raise DataError(f"is not CSV: {error}", place=f"{path}:{reader.line_num}", fix="check the quotes") from error


def _csv_row(cells: dict[str, str], place: str) -> Mapping[str, Any] | Problem:
    row: dict[str, Any] = {name: cell for name, cell in cells.items() if cell != ""}
    for name in row.keys() & set(_JSON_CELLS):
        try:
            row[name] = json.loads(row[name], object_pairs_hook=_unique)
        except (json.JSONDecodeError, _TwiceError) as error:
            return Problem(place, name, "JSON in the cell", str(error), 'write it as JSON: ["...", "..."]')
    if "label" in row:
        row["label"] = {"true": True, "false": False}.get(row["label"].lower(), row["label"])
    return row


def _parquet(path: Path) -> Iterator[Located]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        number = 0
        for batch in file.iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield f"row {number}", row
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"is not Parquet: {error}", place=str(path), fix="check the file; is it complete?") from error


def _arrow_folder(path: Path, split: str) -> Iterator[Located]:
    import datasets

    try:
        loaded = datasets.load_from_disk(str(path))
    except (OSError, ValueError, KeyError) as error:
        fix = "name a file in it, or a folder written by Dataset.save_to_disk"
        raise DataError("is no folder of the datasets library", place=str(path), fix=fix) from error
    return _numbered(_one_split(loaded, split, str(path)))


def _hub(source: str, subset: str | None) -> Iterator[Located]:
    import datasets

    name, _, split = source.partition(":")
    try:
        loaded = datasets.load_dataset(name, subset)
    except (OSError, ValueError, RuntimeError) as error:
        what = f"no such file, and the hub data set could not be loaded: {str(error).splitlines()[0]}"
        raise DataError(what, place=source, fix="check the name and the network; `subset=` picks a part") from error
    return _numbered(_one_split(loaded, split, source))


def _one_split(loaded: Any, split: str, place: str) -> Any:
    splits = list(loaded) if isinstance(loaded, dict) else []
    if not splits and not split:
        return loaded
    if not splits:
        raise DataError(f"has no splits, and {split!r} was asked for", place=place, fix="leave the split out")
    if not split and len(splits) == 1:
        return loaded[splits[0]]
    if split not in splits:
        what = f"has no split {split!r}" if split else "has several splits"
        raise DataError(what, place=place, fix=f"write {place.partition(':')[0]}:SPLIT with one of {', '.join(splits)}")
    return loaded[split]


def _numbered(rows: Any) -> Iterator[Located]:
    return ((f"row {number}", row) for number, row in enumerate(rows, start=1))


_OPENERS: dict[str, Callable[[Path], Iterator[Located]]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".parquet": _parquet,
    ".csv": _csv,
}
"""Suffix -> how such a file is read; all but Parquet may be packed (.gz)."""
