"""Prompts with their complements, as examples for who writes more."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from fairlead import fields
from fairlead.errors import DataError, FairleadError, UsageError

__all__ = ["Pair", "read_pairs"]


@dataclass(frozen=True)
class Pair:
    """A prompt and what is to stand beside it."""

    prompt: str
    """The prompt."""
    complement: str
    """What a good answer takes into account."""
    category: str = ""
    """What kind of prompt it is."""

    def __post_init__(self) -> None:
        if not self.prompt.strip() or not self.complement.strip():
            raise UsageError("a pair has an empty prompt or complement", fix="give both")


def read_pairs(path: str | None = None) -> tuple[Pair, ...]:
    """Read pairs from a YAML list of mappings; without a path those that are shipped.

    Raises:
        UsageError: a file that cannot be read.
        DataError: anything in it that is no pair.
    """
    place = path or "prompt_augmentation/pairs.yaml"
    try:
        shipped = resources.files("fairlead.prompts").joinpath(place)
        rows: Any = yaml.safe_load((shipped if path is None else Path(path).expanduser()).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"pairs cannot be read: {error}", place=place, fix="give a YAML list") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError("holds no list of pairs", place=place, fix='write "- prompt: ..." and "  complement: ..."')
    found = []
    for number, row in enumerate(rows, 1):
        try:
            found.append(fields.build(Pair, row, owner="a pair", place=f"{place}, pair {number}"))
        except FairleadError as error:
            raise DataError(error.what, place=f"{place}, pair {number}", fix=error.fix) from error
    return tuple(found)
