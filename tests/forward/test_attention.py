"""Attention of a row of segments against one plain attention per segment: values and gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.forward import attention
from fairlead.forward.attention import BlockAttention, Segment

HEADS, KEY_HEADS, WIDTH = 4, 2, 8


def segments_of(shapes) -> list[Segment]:
    """Prompts with their completions: the first completion continues its prompt, the others refer to it."""
    found, at = [], 0
    for prompt, *completions in shapes:
        start = at
        for k, length in enumerate(completions):
            own = length + (prompt if k == 0 else 0)
            found.append(Segment(at, own) if k == 0 else Segment(at, own, start, prompt))
            at += own
    return found


def one_by_one(segments, query, key, value):
    rows = []
    for s in segments:
        seen = [*range(s.prefix_start, s.prefix_start + s.prefix_length), *range(s.start, s.start + s.length)]
        repeat = HEADS // KEY_HEADS
        k, v = (states[:, :, seen].repeat_interleave(repeat, dim=1) for states in (key, value))
        mask = torch.ones(s.length, s.keys, dtype=torch.bool).tril(s.prefix_length)
        rows.append(F.scaled_dot_product_attention(query[:, :, s.start : s.start + s.length], k, v, attn_mask=mask))
    return torch.cat(rows, dim=2).transpose(1, 2)


@settings(max_examples=25, deadline=None)
@given(
    shapes=st.lists(st.lists(st.integers(1, 30), min_size=2, max_size=4), min_size=1, max_size=6),
    call_cost=st.sampled_from([0, 200, 10**9]),
)
def test_equals_one_attention_per_segment(shapes, call_cost):
    torch.manual_seed(len(shapes))
    segments = segments_of(shapes)
    length = sum(s.length for s in segments)
    inputs = [torch.randn(1, heads, length, WIDTH, requires_grad=True) for heads in (HEADS, KEY_HEADS, KEY_HEADS)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "_CALL_COST", call_cost)
        block = BlockAttention(segments)
    ours, theirs = block(*inputs, None), one_by_one(segments, *inputs)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    direction = torch.randn_like(ours)
    for a, b in zip(torch.autograd.grad(ours, inputs, direction), torch.autograd.grad(theirs, inputs, direction)):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_padding_is_never_seen(monkeypatch):
    """A padded call gathers position 0 as filler; changing what stands there must not reach other segments."""
    monkeypatch.setattr(attention, "_CALL_COST", 10**9)
    segments = segments_of([(3, 2), (9, 12), (4, 6, 11)])
    block = BlockAttention(segments)
    assert len(block.buckets) == 1
    torch.manual_seed(0)
    states = [torch.randn(1, heads, sum(s.length for s in segments), WIDTH) for heads in (HEADS, KEY_HEADS, KEY_HEADS)]
    before = block(*states, None)
    for one in states:
        one[:, :, 0] += 5.0
    after = block(*states, None)
    first = segments[0].length
    assert torch.equal(before[:, first:], after[:, first:])
    assert not torch.equal(before[:, :first], after[:, :first])
