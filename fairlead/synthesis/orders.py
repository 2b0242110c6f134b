"""Orders of answers: read from a judge's letters, ties allowed, and how far two of them agree.

    read_order("C > A = B", "ABC").value        # [[2], [0, 1]]
    common([[2], [0], [3], [1]], [0, 2, 3, 1])  # [2, 3, 1]

An order is a list of groups from the best to the worst; the members of a group are equally good.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from math import factorial, prod
from typing import TypeAlias

from fairlead.verdicts import Reading

__all__ = ["Order", "by_chance", "common", "order_of", "ranks", "read_order"]

Order: TypeAlias = list[list[int]]
"""Groups of equally good answers, by their numbers, the best first."""

_ITEM = r"""(?:\d+[.):]\s*)?[\[(*_`"']*(?<![A-Za-z0-9])[A-Z](?![A-Za-z0-9])[\])*_`"']*"""
_CHAIN = re.compile(rf"(?:^|(?<=[\s:\[(*`\"']))({_ITEM}(?:(?:\s*[>=,]\s*|\s+){_ITEM})+)[\s.\])]*$")
_SINGLE = re.compile(rf"^(?:[-*]\s+)?(?:[A-Za-z0-9 ]+:\s*)?({_ITEM}(?:\s*=\s*{_ITEM})*)[\s.]*$")
_LETTER = re.compile(r"(?<![A-Za-z0-9])[A-Z](?![A-Za-z0-9])")


def read_order(reply: str, letters: str) -> Reading:
    """Read an `Order` of all `letters`, as places in them, from the last line or block of a reply that holds one.

    A line may end in letters that stand alone, joined by `>` (better than), `=` (as good as), commas or blanks, each in
    brackets or behind a number if it likes; or every line of a block may hold one letter, or equals with `=`. A letter
    that comes twice, is none of `letters` or is missing makes the reply no verdict: nothing is completed by guessing.
    """
    if not reply.strip():
        return Reading(problem="empty")
    groups = _groups(reply)
    said = [letter for group in groups for letter in group]
    if not said:
        return Reading(problem="no verdict")
    if any(letter not in letters for letter in said):
        return Reading(problem="off the scale")
    if len(set(said)) < len(said):
        return Reading(problem="several verdicts")
    if len(said) < len(letters):
        return Reading(problem="incomplete")
    return Reading([[letters.index(letter) for letter in group] for group in groups])


def order_of(values: Sequence[float]) -> Order:
    """Return the order of items by their values, the highest first; equal values are one group."""
    levels = sorted(set(values), reverse=True)
    return [[i for i, value in enumerate(values) if value == level] for level in levels]


def ranks(order: Order) -> list[float]:
    """Return a score per item that orders it so: how many groups lie behind its own, plus one."""
    found = {item: float(len(order) - place) for place, group in enumerate(order) for item in group}
    return [found[item] for item in range(len(found))]


def common(first: Order, second: Sequence[int]) -> list[int]:
    """Return the longest list of items that both orders put in the same sequence (of equals, at most one).

    Of several longest ones it is the one whose items stand earliest in the first order: its highest-ranked are kept.
    """
    items = [(item, level) for level, group in enumerate(first) for item in group]
    place = {item: at for at, item in enumerate(second)}

    def follows(i: int, j: int) -> bool:
        return items[j][1] > items[i][1] and place[items[j][0]] > place[items[i][0]]

    length = [1] * len(items)
    for i in reversed(range(len(items))):
        length[i] = 1 + max((length[j] for j in range(i + 1, len(items)) if follows(i, j)), default=0)
    found: list[int] = []
    for left in range(max(length, default=0), 0, -1):
        before = found[-1:]
        fitting = (j for j in range(len(items)) if length[j] == left and all(follows(i, j) for i in before))
        found.append(next(j for j in fitting if not before or j > before[0]))
    return [items[i][0] for i in found]


def by_chance(order: Order) -> float:
    """Return the mean length of `common` for an order and a random one of the same items."""
    return _by_chance(tuple(sorted(map(len, order))))


def _groups(reply: str) -> list[list[str]]:
    """Return the letters, by groups, of the last line with several or of the last block of lines with one each."""
    block: list[list[str]] = []
    for line in reversed([line.strip() for line in reply.splitlines() if line.strip()]):
        if single := _SINGLE.match(line):
            block.append(_LETTER.findall(single[1]))
        elif block:
            break
        elif chain := _CHAIN.search(line):
            parts = re.split(r"\s*[>,]\s*|(?<![=\s])\s+(?![=\s])", chain[1])
            return [found for part in parts if (found := _LETTER.findall(part))]
    return block[::-1]


@lru_cache(maxsize=4096)
def _by_chance(sizes: tuple[int, ...]) -> float:
    """Return the mean longest strictly rising part of random words with so many of each letter.

    By Robinson, Schensted and Knuth: the words whose reverse has a shape are as many as the pairs of a standard tableau
    and one of the word's content, and the shape has as many rows as the longest rising part has letters.
    """
    n = sum(sizes)
    words = factorial(n) // prod(map(factorial, sizes))
    pairs = ((len(shape), _tableaux(shape, (1,) * n) * _tableaux(shape, sizes)) for shape in _shapes(n, n))
    return sum(rows * many for rows, many in pairs) / words


def _shapes(n: int, most: int) -> list[tuple[int, ...]]:
    """Return the partitions of n into falling parts of at most `most`."""
    if n == 0:
        return [()]
    return [(part, *rest) for part in range(min(n, most), 0, -1) for rest in _shapes(n - part, part)]


@lru_cache(maxsize=65536)
def _tableaux(shape: tuple[int, ...], content: tuple[int, ...]) -> int:
    """Return how many semistandard tableaux have a shape and so many of each number (Kostka's number)."""
    if not content:
        return int(not shape)
    found = 0
    for rows in product(*(range(low, high + 1) for high, low in zip(shape, (*shape[1:], 0), strict=True))):
        if sum(shape) - sum(rows) == content[-1]:
            found += _tableaux(tuple(row for row in rows if row), content[:-1])
    return found
