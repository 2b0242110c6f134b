"""Keys and values of rows of different lengths, behind transformers' own cache interface.

Every row starts at column 0 and has its own length, so nothing is padded on the left and a row never moves as others
come and go: new rows are appended, finished ones are overwritten by the last ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
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

    rows: list[int]
    """The rows, B of them."""
    starts: list[int]
    """Their lengths before."""
    width: int
    """Most tokens that a row gets."""
    device: torch.device
    """Where the keys are."""

    @cached_property
    def end(self) -> int:
        """Columns that the forward's queries may meet."""
        return max(self.starts) + self.width

    @cached_property
    def even(self) -> bool:
        """Whether all the rows were equally long."""
        return min(self.starts) == max(self.starts)

    @cached_property
    def at(self) -> slice | Tensor:
        """The rows as an index; where they stand side by side, one that copies nothing."""
        first, count = self.rows[0], len(self.rows)
        beside = self.rows == list(range(first, first + count))
        return slice(first, first + count) if beside else self.index[:, 0]

    @cached_property
    def index(self) -> Tensor:
        """The rows, int64 [B, 1]."""
        return torch.tensor(self.rows, device=self.device)[:, None]

    @cached_property
    def columns(self) -> Tensor:
        """Where the tokens go, int64 [B, width]."""
        if len(self.rows) == 1:
            return torch.arange(self.starts[0], self.end, device=self.device)[None]
        return torch.tensor(self.starts, device=self.device)[:, None] + torch.arange(self.width, device=self.device)


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
        self.counts: list[int] = []
        """Tokens of each row whose keys are stored."""
        self.longest = 0
        """The largest of `counts`."""
        self.device = torch.device("cpu")
        self.copies: Tensor | None = None
        """While prefilling: which prompt of the forward each new row takes; None while decoding."""
        self.block: _Block | None = None
        """While appending blocks: where they go."""
        self.even = True
        """Whether all rows are equally long."""
        self._lengths: Tensor | None = None

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.counts)

    @property
    def lengths(self) -> Tensor:
        """The `counts`, int64 [R]."""
        if self._lengths is None:
            self._lengths = torch.tensor(self.counts, dtype=torch.int64, device=self.device)
        return self._lengths

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
        self.device = device

    def end_prefill(self, lengths: Tensor) -> None:
        """Take the new rows in; `lengths` int64 [prompts] are those of the whole prompts, with the prefix."""
        assert self.copies is not None
        self._set([*self.counts, *lengths[self.copies].tolist()])
        self.copies, self.before = None, self.prefix

    def stored(self, row: int) -> list[tuple[Tensor, Tensor]]:
        """Return the keys and values [1, heads, T, D] of each layer of a row of T tokens."""
        place, length = slice(row, row + 1), self.counts[row]
        return [(layer.keys[place, :, :length], layer.values[place, :, :length]) for layer in self.own_layers]

    def extend(self) -> None:
        """Count the token that the forward just added to every row."""
        self.counts = [count + 1 for count in self.counts]
        self.longest += 1
        if self._lengths is not None:
            self._lengths = self._lengths + 1

    def begin_block(self, rows: Sequence[int], counts: Sequence[int]) -> Tensor:
        """Announce a forward that appends `counts` tokens to `rows`; return their positions, int64 [B, most].

        Shorter blocks are padded on the right: what lies there is overwritten later and never seen.
        """
        self.block = _Block(list(rows), [self.counts[row] for row in rows], max(counts), self.device)
        return self.block.columns

    def block_mask(self, dtype: torch.dtype) -> Tensor | dict[str, Tensor] | None:
        """Return the additive mask [B or 1, 1, width, end] of the announced forward, by layer type where they differ.

        None for one token of one row, which sees all its keys.
        """
        block = self.block
        assert block is not None
        if block.even and (self.window is None or block.end <= self.window):
            if block.width > 1:
                least = torch.full((block.width, block.end), torch.finfo(dtype).min, dtype=dtype, device=self.device)
                return least.triu_(block.starts[0] + 1)[None, None]
            shape = (1, 1, 1, block.end)
            return None if len(block.rows) == 1 else torch.zeros(shape, dtype=dtype, device=self.device)
        own = block.columns[:, :, None]
        columns = torch.arange(block.end, device=own.device)
        unseen = columns > own
        full = _masked(unseen, dtype)[:, None]
        if self.window is None or block.end <= self.window:
            return full
        windowed = _masked(unseen | (columns <= own - self.window), dtype)[:, None]
        return {"full_attention": full, "sliding_attention": windowed} if self.mixed else windowed

    def end_block(self, counts: Sequence[int]) -> None:
        """Count the tokens that the forward just appended."""
        assert self.block is not None
        for row, count in zip(self.block.rows, counts):
            self.counts[row] += count
        self.block = None
        self._set(self.counts)

    def add(self, count: int, device: torch.device) -> None:
        """Take in `count` rows without tokens, behind the others."""
        self.device = device
        self._set([*self.counts, *[0] * count])

    def copy(self, row: int, other: int, length: int) -> None:
        """Make a row the first `length` tokens of another."""
        for layer in self.own_layers:
            layer.copy(row, other, length)
        self.crop(row, length)

    def insert(self, row: int, stored: Sequence[tuple[Tensor, Tensor]], length: int) -> None:
        """Make a row the first `length` of the tokens whose keys and values `stored` gave."""
        for layer, (keys, values) in zip(self.own_layers, stored):
            layer.insert(row, keys, values, length)
        self.crop(row, length)

    def crop(self, row: int, length: int) -> None:
        """Say how many tokens of a row count; those behind are forgotten."""
        self.counts[row] = length
        self._set(self.counts)

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
        self._set([self.counts[row] for row in order])
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
            return torch.zeros((1, 1, 1, self.longest + 1), dtype=dtype, device=self.device)
        columns = torch.arange(self.longest + 1, device=self.device)
        unseen = columns > self.lengths[:, None]
        full = _additive(unseen, dtype)
        if self.window is None or within:
            return full
        windowed = _additive(unseen | (columns <= self.lengths[:, None] - self.window), dtype)
        return {"full_attention": full, "sliding_attention": windowed} if self.mixed else windowed

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return how many columns precede the forward's tokens: the prefix alone while prefilling."""
        if self.block is not None:
            return self.block.end - self.block.width
        return self.prefix_length if self.copies is not None else self.longest

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        """Return the number of keys that the forward's queries meet, and where they start."""
        return self.get_seq_length() + query_length, 0

    def _set(self, counts: list[int]) -> None:
        self.counts, self._lengths = counts, None
        self.longest = max(counts, default=0)
        self.even = min(counts, default=0) == self.longest


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
        at = block.at
        if block.even and isinstance(at, slice):
            keys, values = self.keys[at, :, : block.end], self.values[at, :, : block.end]
            keys[:, :, block.starts[0] :] = key_states
            values[:, :, block.starts[0] :] = value_states
            return keys, values
        self.keys[block.index, :, block.columns] = key_states.transpose(1, 2)
        self.values[block.index, :, block.columns] = value_states.transpose(1, 2)
        return self.keys[at, :, : block.end], self.values[at, :, : block.end]

    def copy(self, row: int, other: int, length: int) -> None:
        if self.is_initialized:
            self._reserve(self.cache.rows, max(length, self.cache.longest))
            self.keys[row, :, :length] = self.keys[other, :, :length]
            self.values[row, :, :length] = self.values[other, :, :length]

    def insert(self, row: int, keys: Tensor, values: Tensor, length: int) -> None:
        if not self.is_initialized:
            self.lazy_initialization(keys, values)
        self._reserve(self.cache.rows, max(length, self.cache.longest))
        self.keys[row, :, :length], self.values[row, :, :length] = keys[0, :, :length], values[0, :, :length]

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
