"""What the prompts of one call begin with in common, so that it is computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["Beginning", "find_beginnings"]

_LEAST = 32
"""Shortest beginning that is shared, in tokens."""
_WORTH = 256
"""Fewest tokens that sharing must save, for it costs a forward and splits batches."""


@dataclass(frozen=True, eq=False)
class Beginning:
    """Tokens that some prompts begin with."""

    ids: tuple[int, ...]
    """The tokens; each of the prompts has at least one more."""


def find_beginnings(prompts: Sequence[Sequence[int]]) -> list[Beginning | None]:
    """Return for each prompt (token ids) what it shares with others; None where that is not worth it."""
    ids = [tuple(prompt) for prompt in prompts]
    order = sorted(range(len(ids)), key=ids.__getitem__)
    alike = [_alike(ids[one], ids[other]) for one, other in pairwise(order)]
    found: list[Beginning | None] = [None] * len(ids)
    # Prompts with a common beginning stand together once sorted.
    ends = [0, *(k + 1 for k, length in enumerate(alike) if length < _LEAST), len(ids)]
    runs = list(pairwise(ends))
    while runs:
        first, last = runs.pop()
        saved = _saved(alike, first, last)
        if not saved:
            continue
        length = min(alike[first : last - 1])
        middle = 1 + alike.index(length, first)
        parts = ((first, middle), (middle, last))
        if sum(_saved(alike, *part) for part in parts) > saved:
            runs += parts
        elif saved >= _WORTH:
            shared = Beginning(ids[order[first]][:length])
            for place in range(first, last):
                found[order[place]] = shared
    return found


def _alike(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """Return how many tokens two prompts share at their beginnings, short of the whole of either."""
    low, high = 0, max(0, min(len(one), len(other)) - 1)
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _saved(alike: Sequence[int], first: int, last: int) -> int:
    """Return how many tokens need not be computed if the prompts from `first` to `last` share their beginning."""
    return (last - first - 1) * min(alike[first : last - 1], default=0)
