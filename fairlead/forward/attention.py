"""Attention of a row of segments, registered with transformers under the name `fairlead_block`.

A segment's queries see its prefix (a prompt laid out elsewhere in the row) and, causally, themselves. Segments of
similar shape run together in one call of scaled-dot-product attention, so no key outside a segment is ever touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from fairlead.errors import UnsupportedError
from fairlead.forward.dense import dense_attention, suits

__all__ = ["NAME", "BlockAttention", "Segment", "register"]

NAME = "fairlead_block"
_CALL_COST = 8192
"""Query-key products that cost about as much as one more attention call; decides which segments share a call."""


@dataclass(frozen=True)
class Segment:
    """Consecutive queries of a row, and the keys before them that they see."""

    start: int
    """Position of the first query in the row."""
    length: int
    """Number of queries; each also sees the segment's keys up to its own."""
    prefix_start: int = 0
    """Position of the first prefix key."""
    prefix_length: int = 0
    """Number of prefix keys, all seen by every query."""

    @property
    def keys(self) -> int:
        """How many keys the last query sees."""
        return self.prefix_length + self.length


@dataclass
class _Bucket:
    """Segments that run in one call, padded to a common shape of B segments, Q queries and K keys."""

    queries: Tensor
    """int64 [B * Q]: positions in the row."""
    keys: Tensor
    """int64 [B * K]."""
    mask: Tensor | None
    """bool [B, 1, Q, K]; None when plain causal attention is exact."""
    size: int
    """B."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        """Attend with [B * Q, heads, D] queries to [B * K, key heads, D] keys and values: [B, heads, Q, D]."""
        q, k, v = (states.unflatten(0, (self.size, -1)).transpose(1, 2) for states in (query, key, value))
        if suits(q, k):
            return dense_attention(q, k, v, self.bias, scale)
        repeat = q.shape[1] // k.shape[1]
        k, v = (states.repeat_interleave(repeat, dim=1) for states in (k, v))
        causal = self.mask is None
        return F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask, is_causal=causal, scale=scale)

    @cached_property
    def bias(self) -> Tensor:
        """The mask as float32 terms of the scores, [B or 1, 1, Q, K]."""
        length = len(self.queries) // self.size
        seen = torch.ones(1, 1, length, length, dtype=torch.bool).tril() if self.mask is None else self.mask
        return torch.zeros(seen.shape).masked_fill_(~seen, -torch.inf).to(self.queries.device)

    def to(self, device: torch.device | str) -> _Bucket:
        mask = None if self.mask is None else self.mask.to(device)
        return _Bucket(self.queries.to(device), self.keys.to(device), mask, self.size)


class BlockAttention:
    """What sees what in one row; made once per batch and used by every layer."""

    def __init__(self, segments: Sequence[Segment]):
        groups = _share_calls(segments)
        self.buckets = [_bucket(g) for g in groups]
        self.queries = torch.cat([b.queries for b in self.buckets])
        self.keys = torch.cat([b.keys for b in self.buckets])
        self.order = _row_order(groups, length=sum(s.length for s in segments))
        self.longest = max(s.keys for s in segments)

    def to(self, device: torch.device | str) -> BlockAttention:
        """Return the same layout with its index tensors on a device."""
        moved = object.__new__(BlockAttention)
        moved.buckets = [b.to(device) for b in self.buckets]
        moved.queries, moved.keys = self.queries.to(device), self.keys.to(device)
        moved.order = self.order.to(device)
        moved.longest = self.longest
        return moved

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        """Attend within segments.

        Args:
            query: [1, heads, L, D].
            key, value: [1, key heads, L, D]; heads is a multiple of key heads.
            scale: factor on the products; None for 1 / sqrt(D).

        Returns:
            [1, L, heads, D]
        """
        if torch.is_autocast_enabled(query.device.type):
            # What autocast does to fused attention, here before the gathers.
            dtype = torch.get_autocast_dtype(query.device.type)
            query, key, value = (states.to(dtype) for states in (query, key, value))
        # One gather for all calls: the gradient of each gather is as long as the row.
        queries = _gather(query, self.queries).split([len(b.queries) for b in self.buckets])
        keys = _gather(key, self.keys).split([len(b.keys) for b in self.buckets])
        values = _gather(value, self.keys).split([len(b.keys) for b in self.buckets])
        outputs = [
            bucket.attend(q, k, v, scale).transpose(1, 2).flatten(0, 1)
            for bucket, q, k, v in zip(self.buckets, queries, keys, values)
        ]
        return torch.cat(outputs).index_select(0, self.order)[None]


def register() -> None:
    """Make `attn_implementation="fairlead_block"` known to transformers (safe to call again)."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, _attention)


def _attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    block_attention: BlockAttention | None = None,
    **options,
) -> tuple[Tensor, None]:
    if block_attention is None:
        raise UnsupportedError(
            f"{type(module).__name__} did not receive the block layout: its model does not pass keyword arguments on",
            fix="use layout: padded",
        )
    special = [n for n in ("softcap", "s_aux", "position_bias") if options.get(n) is not None]
    if (options.get("sliding_window") or block_attention.longest) < block_attention.longest:
        special.append("sliding_window")
    if special:
        raise UnsupportedError(
            f"{type(module).__name__} asks for {', '.join(special)}, which the block layout does not have",
            fix="use layout: padded",
        )
    return block_attention(query, key, value, scaling), None


def _gather(states: Tensor, positions: Tensor) -> Tensor:
    """Take positions of [1, heads, L, D] states as [positions, heads, D]."""
    return states[0].transpose(0, 1).index_select(0, positions)


def _share_calls(segments: Sequence[Segment]) -> list[list[Segment]]:
    """Group segments by shape: one joins a call while its padding costs less than a call of its own."""
    groups: list[list[Segment]] = []
    real = 0
    for segment in sorted(segments, key=lambda s: (-s.keys, -s.length, s.start)):
        area = segment.length * segment.keys
        if groups:
            members = groups[-1]
            queries = max(segment.length, max(s.length for s in members))
            padded = (len(members) + 1) * queries * members[0].keys
            if padded <= real + area + _CALL_COST * len(members):
                members.append(segment)
                real += area
                continue
        groups.append([segment])
        real = area
    return groups


def _bucket(segments: list[Segment]) -> _Bucket:
    queries = max(s.length for s in segments)
    keys = max(s.keys for s in segments)
    query_at = torch.zeros(len(segments), queries, dtype=torch.int64)
    key_at = torch.zeros(len(segments), keys, dtype=torch.int64)
    for b, s in enumerate(segments):
        own = torch.arange(s.start, s.start + s.length)
        query_at[b, : s.length] = own
        key_at[b, : s.keys] = torch.cat([torch.arange(s.prefix_start, s.prefix_start + s.prefix_length), own])
    same = all(s.length == s.keys == queries for s in segments)
    mask = None
    if not same:
        prefix = torch.tensor([s.prefix_length for s in segments])[:, None, None]
        mask = (torch.arange(keys)[None, None, :] <= torch.arange(queries)[None, :, None] + prefix)[:, None]
    return _Bucket(query_at.flatten(), key_at.flatten(), mask, len(segments))


def _row_order(groups: list[list[Segment]], length: int) -> Tensor:
    """Return for each position of the row where its output lies in the buckets' outputs, end to end."""
    order = torch.empty(length, dtype=torch.int64)
    base = 0
    for segments in groups:
        queries = max(s.length for s in segments)
        for b, s in enumerate(segments):
            order[s.start : s.start + s.length] = torch.arange(s.length) + base + b * queries
        base += len(segments) * queries
    return order
