"""What run folders say, for people: `build` writes a run's HTML report, `terminal` prints its summary, `compare` puts
several runs on one page, `data_card` describes a data set.

All read nothing but the folders, and accept runs that are unfinished, failed or incomplete.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from fairlead.records import Records

__all__ = ["build", "compare", "data_card", "terminal"]


def build(folder: str | Path) -> Path:
    """Write `report.html` into a run folder and return its path: one file, no outside request, light and dark.

    Raises:
        DataError: `folder` is not a folder.
    """
    from fairlead.report.page import write_page

    return write_page(Path(folder))


def terminal(folder: str | Path, console: Console | None = None) -> None:
    """Print a run's summary: status, expectations, results with intervals, time per step (to stderr by default).

    Raises:
        DataError: `folder` is not a folder.
    """
    from fairlead.report.summary import print_summary

    print_summary(Path(folder), console)


def compare(folders: Sequence[str | Path], out: str | Path) -> Path:
    """Write one page about several runs to `out` and return its path: one file, no outside request, light and dark.

    Raises:
        UsageError: fewer than two runs, or one twice.
        DataError: a folder that is none, or runs that have no evaluation in common.
    """
    from fairlead.report.comparison import compare_runs
    from fairlead.report.page import write_comparison

    return write_comparison(compare_runs([Path(folder) for folder in folders]), Path(out))


def data_card(records: Records, out: str | Path) -> Path:
    """Write one page about a data set to `out` and return its path: one file, no outside request, light and dark."""
    from fairlead.report.page import write_card

    return write_card(records, Path(out))
