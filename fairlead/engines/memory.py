"""What a model has read lately, so that the next prompt that begins alike need not be read from its start."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from fairlead.engines.shifts import Shift, agreement

__all__ = ["Memory", "Stored", "shared"]

Stored: TypeAlias = Sequence[tuple[Tensor, Tensor]]
"""Keys and values [1, heads, T, D] of each layer of T tokens."""


def shared(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many tokens two sequences begin with in common."""
    length = min(len(one), len(other))
    if one[:length] == other[:length]:
        return length
    return next(k for k, (a, b) in enumerate(zip(one, other)) if a != b)


@dataclass(frozen=True, eq=False)
class _Entry:
    ids: list[int]
    shifts: tuple[Shift, ...]
    stored: Stored


class Memory:
    """Keys and values of token sequences, the least lately used of which are forgotten.

    Args:
        most: tokens kept in all; a sequence that is longer is not kept.
    """

    def __init__(self, most: int):
        self.most, self.tokens = most, 0
        """`tokens`: tokens kept now."""
        self._entries: OrderedDict[int, _Entry] = OrderedDict()

    def put(self, ids: Sequence[int], shifts: tuple[Shift, ...], stored: Stored) -> None:
        """Keep a sequence, in the place of those that it continues."""
        if not 0 < len(ids) <= self.most:
            return
        for key, known in list(self._entries.items()):
            if known.shifts == shifts and shared(known.ids, ids) == len(known.ids):
                self._forget(key)
        entry = _Entry(list(ids), shifts, [(keys.clone(), values.clone()) for keys, values in stored])
        self._entries[id(entry)] = entry
        self.tokens += len(entry.ids)
        while self.tokens > self.most:
            self._forget(next(iter(self._entries)))

    def find(self, ids: Sequence[int], shifts: tuple[Shift, ...], least: int) -> tuple[Stored, int] | None:
        """Return what is kept of the most tokens that `ids` begin with, and how many these are, if at least `least`."""
        have = {key: int(min(shared(e.ids, ids), agreement(e.shifts, shifts))) for key, e in self._entries.items()}
        best = max(have, key=have.__getitem__, default=None)
        if best is None or have[best] < least:
            return None
        self._entries.move_to_end(best)
        return self._entries[best].stored, have[best]

    def _forget(self, key: int) -> None:
        self.tokens -= len(self._entries.pop(key).ids)
