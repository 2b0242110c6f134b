"""Which groups a step trains on, and how they are split into forward passes: pure functions of seed and step.

Nothing is remembered between steps, so a resumed run needs only its step number to go on with the same data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fairlead.forward.layout import Group, pack

__all__ = ["Order", "Pass", "split"]


@dataclass(frozen=True)
class Order:
    """The endless shuffled stream of groups, cut into steps."""

    groups: int
    """How many groups there are."""
    batch_size: int
    """Groups per step."""
    epochs: float
    """Passes over the groups; the last step may be smaller."""
    max_steps: int | None
    """Overrides `epochs`."""
    seed: int
    """Order of the stream."""
    repeats: int = 1
    """Optimizer steps for each batch of the stream."""

    @property
    def total(self) -> int:
        """Groups trained on, repeats counted."""
        if self.max_steps is not None:
            return self.max_steps * self.batch_size
        return max(1, round(self.groups * self.epochs)) * self.repeats

    @property
    def steps(self) -> int:
        """Optimizer steps."""
        return math.ceil(self.total / self.batch_size)

    def at(self, step: int) -> list[int]:
        """Return the group numbers of a step, counted from 0."""
        start = step * self.batch_size
        end = min(start + self.batch_size, self.total)
        return [self.item(p) for p in range(start, end)]

    def item(self, place: int) -> int:
        """Return the group at a place of the endless stream."""
        return self._epoch(place // self.groups)[place % self.groups]

    def _epoch(self, number: int) -> list[int]:
        return _permutation(self.groups, self.seed, number)


@lru_cache(maxsize=4)
def _permutation(groups: int, seed: int, epoch: int) -> list[int]:
    return np.random.default_rng([seed, epoch]).permutation(groups).tolist()


@dataclass(frozen=True)
class Pass:
    """One forward pass of one rank."""

    groups: list[int]
    """Positions in the list of groups that was split."""
    counts: bool
    """False for filler: a rank with nothing left repeats a pass whose loss is multiplied by zero."""


def split(groups: Sequence[Group], budget: int, layout: str, *, rank: int = 0, ranks: int = 1) -> list[Pass]:
    """Split a step's groups into forward passes of at most `budget` tokens, as many for every rank.

    Every rank calls this with the same groups and takes its own share, so no message is needed.
    """
    packs = pack(groups, budget, layout)
    while len(packs) % ranks and any(len(p) > 1 for p in packs):
        largest = max(range(len(packs)), key=lambda k: (len(packs[k]), -k))
        whole = packs.pop(largest)
        packs += [whole[: len(whole) // 2], whole[len(whole) // 2 :]]
    passes = [Pass(p, True) for p in packs]
    passes += [Pass(packs[0], False)] * (-len(passes) % ranks)
    return passes[rank::ranks]
