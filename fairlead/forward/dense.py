"""Attention whose scores are written down, slice by slice: the fastest kind in half precision on a CPU.

There the backward pass of torch's fused attention takes about twice as long as plain matrix products over slices
that fit in cache. Scores are made again in the backward pass, so none outlives its slice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["dense_attention", "suits"]

_SLICE = 1 << 18
"""Scores alive at a time, if one head has no more."""
_LONGEST = 1 << 24
"""Scores of a key head beyond which fused attention is used, so that memory stays linear in length."""


def suits(query: Tensor, key: Tensor) -> bool:
    """Whether `dense_attention` is the faster way for [B, heads, Q, D] queries and [B, key heads, K, D] keys."""
    repeat = query.shape[1] // key.shape[1]
    small = repeat * query.shape[2] * key.shape[2] <= _LONGEST
    return small and query.device.type == "cpu" and query.dtype in (torch.bfloat16, torch.float16)


def dense_attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, scale: float | None) -> Tensor:
    """Return softmax(scale * Q K' + bias) V, [B, heads, Q, D].

    Args:
        query: [B, heads, Q, D].
        key, value: [B, key heads, K, D]; heads is a multiple of key heads.
        bias: float32 [B or 1, 1, Q, K], added to the scores: 0 where a query sees a key, else -inf.
        scale: factor on the products; None for 1 / sqrt(D).
    """
    return _Dense.apply(query, key, value, bias, query.shape[-1] ** -0.5 if scale is None else scale)


class _Slice(NamedTuple):
    rows: slice
    heads: slice
    """Key heads."""


def _slices(query: Tensor, key: Tensor) -> Iterator[_Slice]:
    """Cut [B, key heads, heads per key head, Q, D] queries so that a slice has few scores."""
    size, kinds, repeat, queries, _ = query.shape
    area = repeat * queries * key.shape[2]
    heads = min(kinds, max(1, _SLICE // area))
    rows = max(1, _SLICE // (heads * area))
    for row in range(0, size, rows):
        for head in range(0, kinds, heads):
            yield _Slice(slice(row, row + rows), slice(head, head + heads))


class _Part:
    """One slice: the queries of all heads that share a key head stand one below the other."""

    def __init__(self, at: _Slice, query: Tensor, key: Tensor, bias: Tensor, scale: float):
        self.at, self.scale = at, scale
        self.shape = query[at.rows, at.heads].shape
        self.query, self.key = self.of(query), key[at.rows, at.heads]
        self.bias = bias[at.rows if len(bias) > 1 else slice(None)].unsqueeze(2)

    def of(self, states: Tensor) -> Tensor:
        """Return the slice of states shaped like the queries, as [b, h, heads per key head * Q, D]."""
        return states[self.at.rows, self.at.heads].flatten(2, 3)

    def weights(self) -> Tensor:
        """Return the attention weights, float32 [b, h, heads per key head * Q, K]."""
        scores = (self.query @ self.key.transpose(-1, -2)).float().mul_(self.scale)
        scores.unflatten(2, self.shape[2:4]).add_(self.bias)
        return torch.softmax(scores, -1)


class _Dense(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, key, value, bias, scale):
        grouped = query.unflatten(1, (key.shape[1], -1))
        output = torch.empty_like(grouped, memory_format=torch.contiguous_format)
        for at in _slices(grouped, key):
            part = _Part(at, grouped, key, bias, scale)
            seen = part.weights().to(query.dtype) @ value[at.rows, at.heads]
            output[at.rows, at.heads] = seen.unflatten(2, part.shape[2:4])
        ctx.save_for_backward(query, key, value, bias, output)
        ctx.scale = scale
        return output.flatten(1, 2)

    @staticmethod
    def backward(ctx, grad):
        query, key, value, bias, output = ctx.saved_tensors
        grouped, grad = (states.unflatten(1, (key.shape[1], -1)) for states in (query, grad))
        grad_query = torch.empty_like(grouped, memory_format=torch.contiguous_format)
        grad_key, grad_value = (torch.empty_like(s, memory_format=torch.contiguous_format) for s in (key, value))
        for at in _slices(grouped, key):
            part = _Part(at, grouped, key, bias, ctx.scale)
            arriving, weights = part.of(grad), part.weights()
            grad_value[at.rows, at.heads] = weights.to(query.dtype).transpose(-1, -2) @ arriving
            # The softmax's own term, sum over keys of weight times gradient, from what is one key narrower.
            mean = (arriving.float() * part.of(output).float()).sum(-1, keepdim=True)
            slope = (arriving @ value[at.rows, at.heads].transpose(-1, -2)).float().sub_(mean)
            slope = slope.mul_(weights).mul_(ctx.scale).to(query.dtype)
            grad_query[at.rows, at.heads] = (slope @ part.key).unflatten(2, part.shape[2:4])
            grad_key[at.rows, at.heads] = slope.transpose(-1, -2) @ part.query
        return grad_query.flatten(1, 2), grad_key, grad_value, None, None
