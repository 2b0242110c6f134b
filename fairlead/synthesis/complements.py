"""Prompts with their complements, as examples for who writes more."""

from __future__ import annotations

from dataclasses import dataclass

from fairlead.errors import UsageError
from fairlead.prompts import read_entries

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
    return read_entries(Pair, "prompt_augmentation/pairs.yaml", path, called="pair")
