"""How instructions are drawn: mixes of temperature and top_p, and which draw belongs to which number.

    draws = Draws.of("pro", Sampling(), block=64)
    draws.place(70)        # the request that number 70 is part of, and its place among that request's completions

The numbers of a block that share a temperature are one request of several completions, so that what precedes them is
read once. Which draw is a number's own depends on the number, the mix, the block's size and the seed alone.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, TypeAlias

from fairlead.engines.base import Sampling
from fairlead.errors import UnknownNameError, UsageError

__all__ = ["MIXES", "Draws", "Mix", "Place"]

Mix: TypeAlias = tuple[tuple[float, float, int], ...]
"""Temperature, top_p and weight of every way of drawing; weights are whole numbers."""

MIXES: dict[str, Mix] = {
    "air": (
        *((temperature, top_p, 300_000) for temperature in (1.0, 1.1, 1.2) for top_p in (1.0, 0.995, 0.99)),
        *((1.25, top_p, 100_000) for top_p in (1.0, 0.995, 0.99)),
    ),
    "pro": ((1.0, 1.0, 300_000), (1.1, 0.995, 300_000), (1.2, 0.995, 300_000), (1.25, 0.99, 100_000)),
}
"""The mixes of Magpie-Air (3M instructions) and Magpie-Pro (1M)."""


class Place(NamedTuple):
    """Where a number's draw is found."""

    block: int
    """The block of numbers that it is in."""
    way: int
    """Which way of drawing it has."""
    rank: int
    """Its place among the numbers of its block that are drawn in the same way."""


@dataclass(frozen=True)
class Draws:
    """The draws of all numbers."""

    mix: Mix
    """The ways of drawing."""
    sampling: Sampling
    """All else about a draw."""
    block: int
    """Numbers in a block."""

    @classmethod
    def of(cls, mix: str | Mix | None, sampling: Sampling, block: int) -> Draws:
        """Return the draws of a mix: one of `MIXES`, one's own, or None for the sampling's own temperature.

        Raises:
            UnknownNameError, UsageError: a mix that is not known or makes no sense.
        """
        if isinstance(mix, str) and mix not in MIXES:
            raise UnknownNameError("mix", mix, MIXES, place="magpie.mix")
        found = MIXES[mix] if isinstance(mix, str) else mix
        ways = ((sampling.temperature, sampling.top_p, 1),) if found is None else found
        if not ways or any(weight < 1 for *_, weight in ways):
            fix = "give temperature, top_p and a whole weight of 1 or more for every way of drawing"
            raise UsageError("magpie.mix has a way of drawing without weight", fix=fix)
        if block < 1:
            raise UsageError(f"magpie.block is {block}", fix="use a value >= 1")
        made = cls(tuple(ways), sampling, block)
        for way in range(len(ways)):
            _ = made.sampling_of(0, way, 1)
        return made

    @cached_property
    def cycle(self) -> tuple[int, ...]:
        """The ways of drawing of the numbers 0, 1, 2..., which begin anew behind the last one."""
        shared = math.gcd(*(weight for *_, weight in self.mix))
        return tuple(way for way, (*_, weight) in enumerate(self.mix) for _ in range(weight // shared))

    def way_of(self, number: int) -> int:
        """Return which way of drawing a number has."""
        return self.cycle[number % len(self.cycle)]

    def place(self, number: int) -> Place:
        """Return where the draw of a number is found."""
        block, way = number // self.block, self.way_of(number)
        before = range(block * self.block, number)
        return Place(block, way, sum(self.way_of(other) == way for other in before))

    def counts(self, total: int) -> tuple[int, ...]:
        """Return how many of the first `total` numbers are drawn in each way."""
        whole, rest = divmod(total, len(self.cycle))
        begun = self.cycle[:rest]
        return tuple(whole * self.cycle.count(way) + begun.count(way) for way in range(len(self.mix)))

    def sampling_of(self, block: int, way: int, n: int, turn: int = 0) -> Sampling:
        """Return how the numbers of a block that share a way are drawn, as `n` completions of one request."""
        temperature, top_p, _ = self.mix[way]
        said = f"magpie {self.sampling.seed} {block} {way} {turn}".encode()
        seed = int.from_bytes(hashlib.blake2b(said, digest_size=4).digest()) >> 1
        return replace(self.sampling, temperature=temperature, top_p=top_p, n=n, seed=seed)

    def grouped(self, numbers: Iterable[int]) -> dict[tuple[int, int], list[tuple[int, int]]]:
        """Return (block, way) -> (position among `numbers`, rank) of its members."""
        groups: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for position, number in enumerate(numbers):
            place = self.place(number)
            groups.setdefault((place.block, place.way), []).append((position, place.rank))
        return groups
