"""A random sample: the baseline that every other selector has to beat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from fairlead.selection.base import Selection, Selector, best_first, check_keep, chosen, number_kept
from fairlead.selection.lots import lots_of
from fairlead.selection.pool import Pool

__all__ = ["RandomSample"]


@dataclass(frozen=True)
class RandomSample(Selector):
    """Keep records drawn at random without replacement."""

    keep: float = 0.1
    """Records kept: a number of them, or a share of the pool below 1."""
    seed: int = 0
    """Randomness of the draw. A record's lot depends on this and its id alone, so that a larger sample begins with the
    smaller one, and records that others join keep their places among each other."""

    example: ClassVar[Mapping[str, Any]] = {"keep": 0.25}

    def __post_init__(self) -> None:
        check_keep(self.keep, "random")

    def choose(self, pool: Pool) -> Selection:
        """Draw."""
        lots = lots_of([record.id for record in pool], self.seed)
        return chosen(len(pool), best_first(lots)[: number_kept(self.keep, len(pool))], lots, {}, "not drawn")
