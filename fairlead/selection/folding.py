"""Rows of length 1, and the same rows folded: fewer numbers whose products are never below the cosine.

A folded row is the first numbers of the row and, as one more, the length of the rest. By the inequality of Cauchy and
Schwarz the rests' product is at most the product of their lengths, so what two folded rows' product clears is clear.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

__all__ = ["CHUNK", "Block", "Shelf", "folded", "head_of", "taken"]

CHUNK = 4096
"""Kept rows that one product goes over; a row that they reject is spared the chunks behind."""
_FOLD = 2.5
"""Numbers in a folded row: this, times 1 - limit, times those of a whole one. Of rows whose numbers are alike in size,
pairs are cleared whose cosine is below 1 - 1 / this, at any limit."""
_LEAST = 128
"""Rows of fewer numbers are not folded."""


@dataclass(frozen=True)
class Block:
    """Some rows of length 1, and where they come from."""

    rows: np.ndarray
    """int64 [B]."""
    whole: torch.Tensor
    """[B, D]."""
    short: torch.Tensor | None
    """The same folded, [B, head + 1]; None where they are not."""

    def taken(self, places: np.ndarray) -> Block:
        """Return some of them, in order; all of them are not copied."""
        if len(places) == len(self.rows):
            return self
        short = None if self.short is None else taken(self.short, places)
        return Block(self.rows[places], taken(self.whole, places), short)


class Shelf:
    """The accepted rows, whole and folded, in chunks."""

    def __init__(self, size: int, head: int, dtype: torch.dtype, device: str):
        self.device, self.dtype = device, dtype
        self.sizes = (size, head + 1)
        self.count, self.folded = 0, head > 0
        self._store: list[Block] = []

    def like(self, rows: np.ndarray, units: torch.Tensor, head: int) -> Block:
        """Return rows of length 1 in the precision and on the device of these, folded where `head` is above 0."""
        short = folded(units, head).to(self.device, self.dtype) if head else None
        return Block(rows, units.to(self.device, self.dtype), short)

    def chunks(self) -> Iterator[Block]:
        """Yield CHUNK rows each, of the last as many as it holds; folded as long as all that came were."""
        for k, chunk in enumerate(self._store):
            count = min(CHUNK, self.count - k * CHUNK)
            short = chunk.short[:count] if self.folded and chunk.short is not None else None
            yield Block(chunk.rows[:count], chunk.whole[:count], short)

    def add(self, block: Block) -> None:
        """Add rows behind the others."""
        self.folded = self.folded and block.short is not None
        done = 0
        while done < len(block.rows):
            k, used = divmod(self.count, CHUNK)
            if k == len(self._store):
                whole, short = (torch.empty(CHUNK, n, dtype=self.dtype, device=self.device) for n in self.sizes)
                self._store.append(Block(np.empty(CHUNK, np.int64), whole, short))
            count = min(CHUNK - used, len(block.rows) - done)
            chunk, taken = self._store[k], slice(done, done + count)
            chunk.rows[used : used + count] = block.rows[taken]
            chunk.whole[used : used + count] = block.whole[taken]
            if self.folded and chunk.short is not None and block.short is not None:
                chunk.short[used : used + count] = block.short[taken]
            self.count += count
            done += count


def head_of(size: int, limit: float) -> int:
    """Return how many numbers of a row of `size` stay when it is folded; 0 where folding would not pay."""
    head = 32 * max(1, math.ceil(_FOLD * (1 - limit) * size / 32)) - 1
    return head if size >= _LEAST and 2 * head <= size else 0


def folded(units: torch.Tensor, head: int) -> torch.Tensor:
    """Return the first `head` numbers of unit rows, and the length of the others as one more, [N, head + 1]."""
    return torch.cat([units[:, :head], units[:, head:].norm(dim=1, keepdim=True)], 1)


def taken(rows: torch.Tensor, places: np.ndarray) -> torch.Tensor:
    """Return some rows in order; all of them are not copied."""
    return rows if len(places) == len(rows) else rows[torch.from_numpy(places).to(rows.device)]
