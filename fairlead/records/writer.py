"""Writes records as JSONL, in the columns that `read` takes."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path

from fairlead.errors import UsageError
from fairlead.records.schema import Record, to_row

__all__ = ["write"]


def write(records: Iterable[Record], path: str | Path) -> int:
    """Write records to `path` (.jsonl or .jsonl.gz), replacing what is there, and return how many.

    Reading the file gives equal records. A killed write leaves the old file.

    Raises:
        UsageError: another suffix, or an extra column that JSON cannot hold.
    """
    path = Path(path)
    if not path.name.endswith((".jsonl", ".jsonl.gz")):
        raise UsageError("records are written as JSONL", place=str(path), fix="name the file .jsonl or .jsonl.gz")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    count = 0
    with (
        gzip.open(partial, "wt", encoding="utf-8") if path.suffix == ".gz" else partial.open("w", encoding="utf-8") as f
    ):
        for record in records:
            try:
                f.write(json.dumps(to_row(record), ensure_ascii=False) + "\n")
            except TypeError as error:
                fix = "remove the column, or turn it into text or numbers"
                raise UsageError(f"record {record.id}: {error}", place=str(path), fix=fix) from error
            count += 1
    partial.replace(path)
    return count
