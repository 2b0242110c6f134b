"""Attention in slices: the same output and gradients as torch's fused attention."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from fairlead.forward import dense
from fairlead.forward.dense import dense_attention, suits


def states(size=3, heads=4, kinds=2, queries=5, keys=7, width=8, dtype=torch.float32):
    torch.manual_seed(0)
    shapes = [(size, heads, queries, width), (size, kinds, keys, width), (size, kinds, keys, width)]
    query, key, value = (torch.randn(*shape, dtype=dtype).requires_grad_() for shape in shapes)
    lengths = torch.arange(size) % 3 + keys - queries - 1
    seen = (torch.arange(keys) <= torch.arange(queries)[:, None] + lengths[:, None, None])[:, None]
    return query, key, value, seen


def biased(seen):
    return torch.zeros(seen.shape).masked_fill(~seen, -torch.inf)


def fused(query, key, value, seen, scale=None):
    key, value = (x.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for x in (key, value))
    return F.scaled_dot_product_attention(query, key, value, attn_mask=seen, scale=scale)


def with_gradients(attend, query, key, value):
    out = attend(query, key, value)
    torch.manual_seed(1)
    return [out.detach(), *torch.autograd.grad(out, (query, key, value), torch.randn(out.shape).to(out.dtype))]


@pytest.mark.parametrize("limit", [1, 40, 150, 10_000], ids=lambda n: f"slices of {n}")
@pytest.mark.parametrize(("heads", "kinds"), [(4, 2), (4, 4), (6, 1)])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_equals_fused(limit, heads, kinds, scale, monkeypatch):
    monkeypatch.setattr(dense, "_SLICE", limit)
    *parts, seen = states(heads=heads, kinds=kinds)
    own = with_gradients(lambda q, k, v: dense_attention(q, k, v, biased(seen), scale), *parts)
    theirs = with_gradients(lambda q, k, v: fused(q, k, v, seen, scale), *parts)
    for one, other in zip(own, theirs):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_one_mask_for_all_rows():
    query, key, value, _ = states(queries=7, keys=7)
    seen = torch.ones(1, 1, 7, 7, dtype=torch.bool).tril()
    own = with_gradients(lambda q, k, v: dense_attention(q, k, v, biased(seen), None), query, key, value)
    theirs = with_gradients(lambda q, k, v: fused(q, k, v, seen), query, key, value)
    for one, other in zip(own, theirs):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_bfloat16_is_as_close_to_float32_as_fused_attention():
    *parts, seen = states(size=4, queries=60, keys=90, width=32, dtype=torch.bfloat16)
    exact = with_gradients(lambda q, k, v: fused(q, k, v, seen), *(x.detach().float().requires_grad_() for x in parts))
    own = with_gradients(lambda q, k, v: dense_attention(q, k, v, biased(seen), None), *parts)
    theirs = with_gradients(lambda q, k, v: fused(q, k, v, seen), *parts)
    for one, other, wanted in zip(own, theirs, exact):
        assert one.dtype == torch.bfloat16
        error, usual = ((x.float() - wanted).norm() / wanted.norm() for x in (one, other))
        assert error < 2.5 * usual < 0.02


def test_where_it_suits():
    query, key, *_ = states()
    assert not suits(query, key)
    query, key = query.bfloat16(), key.bfloat16()
    assert suits(query, key)
    long = torch.empty(1, 1, 1, 1, dtype=torch.bfloat16).expand(1, 1, 5000, 8)
    assert not suits(long, long)
