"""What the prompts of one call begin with in common, so that it is computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile

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
    """Return for each prompt (token ids, no two equal) what it shares with others; None where that is not worth it."""
    order = sorted(range(len(prompts)), key=lambda k: tuple(prompts[k]))
    alike = [_alike(prompts[one], prompts[other]) for one, other in pairwise(order)]
    found: list[Beginning | None] = [None] * len(prompts)
    # Prompts with a common beginning stand together once sorted; a run is split where that lets its parts share more.
    runs = [(0, len(order))]
    while runs:
        first, last = runs.pop()
        if last - first < 2:
            continue
        length = min(alike[first : last - 1])
        middle = 1 + alike.index(length, first, last - 1)
        parts = ((first, middle), (middle, last))
        if length < _LEAST or sum(_saved(alike, *part) for part in parts) > _saved(alike, first, last):
            runs += parts
        elif _saved(alike, first, last) >= _WORTH:
            shared = Beginning(tuple(prompts[order[first]][:length]))
            for place in range(first, last):
                found[order[place]] = shared
    return found


def _alike(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many tokens two prompts share at their beginnings, short of the whole of either."""
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other)))
    return min(same, len(one) - 1, len(other) - 1)


def _saved(alike: Sequence[int], first: int, last: int) -> int:
    """Return how many tokens need not be computed if the prompts from `first` to `last` share their beginning."""
    length = min(alike[first : last - 1], default=0)
    return (last - first - 1) * length if length >= _LEAST else 0
