"""What a run folder says, for people: `build` writes its HTML report, `terminal` prints its summary.

Both read nothing but the folder, and both accept one that is unfinished, failed or incomplete.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["build", "terminal"]


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
