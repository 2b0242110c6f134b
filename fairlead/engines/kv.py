"""Keys and values of rows of different lengths, behind transformers' own cache interface.

Every row starts at column 0 and has its own length, so nothing is padded on the left and a row never moves as others
come and go: new rows are appended, finished ones are overwritten by the last ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin

__all__ = ["RaggedCache"]

_SPARE_COLUMNS = 64
"""Columns allocated beyond what is needed, so that growing (a copy) is rare."""


@dataclass(frozen=True)
class _Block:
    """A forward that appends several tokens to some of the rows, padded on the right to a common number."""

    rows: Tensor
    """int64 [B]."""
    starts: Tensor
    """int64 [B]: their lengths before."""
    width: int
    """Most tokens that a row gets."""
    end: int
    """Columns that the forward's queries may meet."""

    @property
    def columns(self) -> Tensor:
        """Where the tokens go, int64 [B, width]."""
        return self.starts[:, None] + torch.arange(self.width, device=self.starts.device)


class RaggedCache(Cache):
    """Keys and values of R rows, used in turn to prefill new rows, to extend all rows by one token, and to append
    blocks of any length to any rows.

    Args:
        layers: the model's number of layers.
        window: the model's sliding window in tokens, or None.
        mixed: whether layers with and without the window alternate (masks are then given by layer type).
        prefix: keys and values [1, heads, P, D] of each layer that stand before every row, or none.
    """

    def __init__(
        self,
        layers: int,
        *,
        window: int | None = None,
        mixed: bool = False,
        prefix: Sequence[tuple[Tensor, Tensor]] = (),
    ):
        self.own_layers = [_Layer(self, k) for k in range(layers)]
        super().__init__(layers=list(self.own_layers))
        self.window, self.mixed = window, mixed
        self.prefix, self.before = prefix, prefix
        self.lengths = torch.zeros(0, dtype=torch.int64)
        """int64 [R]: tokens of each row whose keys are stored."""
        self.longest = 0
        """The largest of `lengths`."""
        self.copies: Tensor | None = None
        """While prefilling: which prompt of the forward each new row takes; None while decoding."""
        self.block: _Block | None = None
        """While appending blocks: where they go."""
        self.even = True
        """Whether all rows are equally long."""

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.lengths)

    @property
    def prefix_length(self) -> int:
        """How many columns stand before the tokens of the announced prompts."""
        return self.before[0][0].shape[2] if self.before else 0

    def begin_prefill(
        self, copies: Sequence[int], device: torch.device, before: Sequence[tuple[Tensor, Tensor]] = ()
    ) -> None:
        """Announce a forward over new prompts, of which row i of the new rows takes prompt `copies[i]`.

        `before`: keys and values [1, heads, P, D] of each layer of what all these prompts begin with, as `stored` gives
        them; the forward is then over what is left of the prompts. By default the prefix, if there is one.
        """
        self.before = before or self.prefix
        self.copies = torch.tensor(copies, device=device)
        self.lengths = self.lengths.to(device)

    def end_prefill(self, lengths: Tensor) -> None:
        """Take the new rows in; `lengths` int64 [prompts] are those of the whole prompts, with the prefix."""
        assert self.copies is not None
        self._set(torch.cat([self.lengths, lengths[self.copies]]))
        self.copies, self.before = None, self.prefix

    def stored(self, row: int) -> list[tuple[Tensor, Tensor]]:
        """Return the keys and values [1, heads, T, D] of each layer of a row of T tokens."""
        place, length = slice(row, row + 1), int(self.lengths[row])
        return [(layer.keys[place, :, :length], layer.values[place, :, :length]) for layer in self.own_layers]

    def extend(self) -> None:
        """Count the token that the forward just added to every row."""
        self.lengths += 1
        self.longest += 1

    def begin_block(self, rows: Sequence[int], counts: Sequence[int]) -> Tensor:
        """Announce a forward that appends `counts` tokens to `rows`; return their positions, int64 [B, most].

        Shorter blocks are padded on the right: what lies there is overwritten later and never seen.
        """
        at = torch.tensor(rows, device=self.lengths.device)
        starts, width = self.lengths[at], max(counts)
        self.block = _Block(at, starts, width, int(starts.max()) + width)
        return self.block.columns

    def block_mask(self, dtype: torch.dtype) -> Tensor | dict[str, Tensor]:
        """Return the additive mask [B, 1, width, end] of the announced forward, by layer type where they differ."""
        assert self.block is not None
        own = self.block.columns[:, :, None]
        columns = torch.arange(self.block.end, device=own.device)
        unseen = columns > own
        full = _masked(unseen, dtype)[:, None]
        if self.window is None or self.block.end <= self.window:
            return full
        windowed = _masked(unseen | (columns <= own - self.window), dtype)[:, None]
        return {"full_attention": full, "sliding_attention": windowed} if self.mixed else windowed

    def end_block(self, counts: Sequence[int]) -> None:
        """Count the tokens that the forward just appended."""
        assert self.block is not None
        lengths = self.lengths.clone()
        lengths[self.block.rows] += torch.tensor(counts, device=lengths.device)
        self.block = None
        self._set(lengths)

    def add(self, count: int, device: torch.device) -> None:
        """Take in `count` rows without tokens, behind the others."""
        self._set(torch.cat([self.lengths.to(device), torch.zeros(count, dtype=torch.int64, device=device)]))

    def copy(self, row: int, other: int, length: int) -> None:
        """Make a row the first `length` tokens of another."""
        for layer in self.own_layers:
            layer.copy(row, other, length)
        self.crop(row, length)

    def crop(self, row: int, length: int) -> None:
        """Say how many tokens of a row count; those behind are forgotten."""
        lengths = self.lengths.clone()
        lengths[row] = length
        self._set(lengths)

    def keep(self, rows: Sequence[int]) -> list[int]:
        """Drop all rows but those given; return the rows in their new order.

        Only rows that lie behind the new end move, into the places of dropped ones.
        """
        kept = set(rows)
        count = len(kept)
        order = list(range(count))
        holes = [place for place in order if place not in kept]
        movers = sorted(row for row in kept if row >= count)
        for hole, mover in zip(holes, movers):
            order[hole] = mover
        if holes:
            for layer in self.own_layers:
                layer.move(holes, movers, self.longest)
        self._set(self.lengths[torch.tensor(order, dtype=torch.int64, device=self.lengths.device)])
        return order

    def decode_mask(self, dtype: torch.dtype) -> Tensor | dict[str, Tensor] | None:
        """Return the additive mask [R or 1, 1, 1, longest + 1] of a forward over one new token per row.

        None for a row alone, which sees all its keys. By layer type where a sliding window that is already exceeded
        holds for some layers only.
        """
        within = self.window is None or self.longest < self.window
        if self.even and within:
            if self.rows == 1:
                return None
            # Batches are faster with a mask of zeros than with none: it keeps the key heads together.
            return torch.zeros((1, 1, 1, self.longest + 1), dtype=dtype, device=self.lengths.device)
        columns = torch.arange(self.longest + 1, device=self.lengths.device)
        unseen = columns > self.lengths[:, None]
        full = _additive(unseen, dtype)
        if self.window is None or within:
            return full
        windowed = _additive(unseen | (columns <= self.lengths[:, None] - self.window), dtype)
        return {"full_attention": full, "sliding_attention": windowed} if self.mixed else windowed

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return how many columns precede the forward's tokens: the prefix alone while prefilling."""
        return self.prefix_length if self.copies is not None else self.longest

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        """Return the number of keys that the forward's queries meet, and where they start."""
        return self.get_seq_length() + query_length, 0

    def _set(self, lengths: Tensor) -> None:
        self.lengths = lengths
        self.longest = int(lengths.max()) if len(lengths) else 0
        self.even = bool((lengths == self.longest).all())


class _Layer(CacheLayerMixin):
    """One layer's keys and values, [rows, heads, columns, dimension] each."""

    keys: Any
    values: Any

    def __init__(self, cache: RaggedCache, number: int):
        super().__init__()
        self.cache, self.number = cache, number

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.keys = key_states.new_zeros((0, key_states.shape[1], 0, key_states.shape[3]))
        self.values = value_states.new_zeros((0, value_states.shape[1], 0, value_states.shape[3]))
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        cache = self.cache
        if cache.block is not None:
            return self._append(cache.block, key_states, value_states)
        if cache.copies is None:
            return self._extend(key_states, value_states)
        if cache.before:
            key_states, value_states = (
                torch.cat([before.to(own.dtype).expand(len(own), -1, -1, -1), own], dim=2)
                for before, own in zip(cache.before[self.number], (key_states, value_states))
            )
        first, last, width = cache.rows, cache.rows + len(cache.copies), key_states.shape[2]
        self._reserve(last, max(width, cache.longest))
        self.keys[first:last, :, :width] = key_states[cache.copies]
        self.values[first:last, :, :width] = value_states[cache.copies]
        return key_states, value_states

    def _extend(self, key_states: Tensor, value_states: Tensor) -> tuple[Tensor, Tensor]:
        rows, column = self.cache.rows, self.cache.longest
        self._reserve(rows, column + 1)
        keys, values = self.keys[:rows], self.values[:rows]
        if self.cache.even:
            keys[:, :, column] = key_states[:, :, 0]
            values[:, :, column] = value_states[:, :, 0]
        else:
            every = torch.arange(rows, device=keys.device)
            keys[every, :, self.cache.lengths] = key_states[:, :, 0]
            values[every, :, self.cache.lengths] = value_states[:, :, 0]
        return keys[:, :, : column + 1], values[:, :, : column + 1]

    def _append(self, block: _Block, key_states: Tensor, value_states: Tensor) -> tuple[Tensor, Tensor]:
        self._reserve(self.cache.rows, block.end)
        rows, columns = block.rows[:, None], block.columns
        self.keys[rows, :, columns] = key_states.transpose(1, 2)
        self.values[rows, :, columns] = value_states.transpose(1, 2)
        return self.keys[block.rows, :, : block.end], self.values[block.rows, :, : block.end]

    def copy(self, row: int, other: int, length: int) -> None:
        if self.is_initialized:
            self._reserve(self.cache.rows, max(length, self.cache.longest))
            self.keys[row, :, :length] = self.keys[other, :, :length]
            self.values[row, :, :length] = self.values[other, :, :length]

    def _reserve(self, rows: int, columns: int) -> None:
        if rows > self.keys.shape[0] or columns > self.keys.shape[2]:
            room = columns if columns <= self.keys.shape[2] else columns + max(_SPARE_COLUMNS, columns // 2)
            used, width = min(self.cache.rows, len(self.keys)), min(self.cache.longest, self.keys.shape[2])
            self.keys = _grown(self.keys, used, width, max(rows, self.keys.shape[0]), max(room, self.keys.shape[2]))
            self.values = _grown(self.values, used, width, len(self.keys), self.keys.shape[2])

    def move(self, holes: list[int], movers: list[int], width: int) -> None:
        if self.is_initialized:
            self.keys[holes, :, :width] = self.keys[movers, :, :width]
            self.values[holes, :, :width] = self.values[movers, :, :width]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.cache.get_mask_sizes(query_length, 0)

    def get_seq_length(self) -> int:
        return self.cache.get_seq_length()

    def get_max_length(self) -> int:
        return -1


def _grown(old: Tensor, used: int, width: int, rows: int, columns: int) -> Tensor:
    """Return zeros (masked columns must stay finite) with the used part of `old` copied in."""
    new = old.new_zeros((rows, old.shape[1], columns, old.shape[3]))
    new[:used, :, :width] = old[:used, :, :width]
    return new


def _additive(unseen: Tensor, dtype: torch.dtype) -> Tensor:
    return _masked(unseen, dtype)[:, None, None]


def _masked(unseen: Tensor, dtype: torch.dtype) -> Tensor:
    mask = torch.zeros(unseen.shape, dtype=dtype, device=unseen.device)
    return mask.masked_fill_(unseen, torch.finfo(dtype).min)
