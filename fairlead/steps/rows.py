"""What several steps share: rows appended one by one, files written whole or not at all, and a progress bar."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from fairlead.errors import DataError

__all__ = ["Advance", "append_rows", "progress", "read_rows", "write_rows", "write_text"]


class Advance(Protocol):
    """Moves a progress bar on."""

    def __call__(self, count: int, said: str = "") -> None:
        """Tell that `count` more are done, and what else there is to say."""
        ...


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a JSONL file that this module wrote; none when there is no file.

    A last line that was cut off by a killed process is removed from the file: it was never finished.
    """
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as stream:
            stream.truncate(whole)
    return [json.loads(line) for line in content[:whole].splitlines()]


def append_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Append rows to a JSONL file and put them on disk before returning.

    Raises:
        DataError: the disk is full, or cannot be written for another reason.
    """
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    try:
        with path.open("ab") as stream:
            stream.write(text.encode("utf-8", "surrogatepass"))
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        fix = "free some space and start again: what was finished is kept"
        raise DataError(f"cannot be written: {error}", place=str(path), fix=fix) from error


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write a JSONL file whole, or leave what was there."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write_text(path: Path, text: str) -> None:
    """Write a text file whole, or leave what was there."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)


@contextmanager
def progress(label: str, total: int, *, start: int = 0, quiet: bool = False) -> Iterator[Advance]:
    """Show a bar with the time left while the block runs; yields what moves it on."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[said]}"),
    ]
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bars:
        task = bars.add_task(label, total=total, completed=start, said="")

        def advance(count: int, said: str = "") -> None:
            bars.update(task, advance=count, said=said)

        yield advance
