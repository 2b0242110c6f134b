"""Tiled log-probs against log_softmax on full logits: values and gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.forward import logprobs
from fairlead.forward.logprobs import Head, token_logprobs


def full(hidden, head, targets):
    logits = hidden @ head.weight.T
    if head.bias is not None:
        logits = logits + head.bias
    logits = logits * head.scale
    if head.cap is not None:
        logits = head.cap * torch.tanh(logits / head.cap)
    return logits.log_softmax(-1).gather(-1, targets[:, None])[:, 0]


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 70),
    vocabulary=st.integers(2, 90),
    row_tile=st.integers(1, 40),
    vocabulary_tile=st.integers(1, 64),
    bias=st.booleans(),
    cap=st.sampled_from([None, 5.0]),
    scale=st.sampled_from([1.0, 0.25]),
)
def test_equals_full_logits(rows, vocabulary, row_tile, vocabulary_tile, bias, cap, scale):
    torch.manual_seed(rows * 100 + vocabulary)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logprobs, "ROW_TILE", row_tile)
        patch.setattr(logprobs, "VOCABULARY_TILE", vocabulary_tile)
        hidden = torch.randn(rows, 16, requires_grad=True)
        weight = torch.randn(vocabulary, 16, requires_grad=True)
        offsets = torch.randn(vocabulary, requires_grad=True) if bias else None
        head = Head(weight, offsets, scale, cap)
        targets = torch.randint(0, vocabulary, (rows,))
        inputs = [hidden, weight] + ([offsets] if bias else [])
        ours, theirs = token_logprobs(hidden, head, targets), full(hidden, head, targets)
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-5)
        direction = torch.randn(rows)
        for a, b in zip(torch.autograd.grad(ours @ direction, inputs), torch.autograd.grad(theirs @ direction, inputs)):
            torch.testing.assert_close(a, b, atol=5e-5, rtol=1e-4)


def test_frozen_head_gets_no_gradient():
    hidden = torch.randn(5, 8, requires_grad=True)
    weight = torch.randn(20, 8)
    token_logprobs(hidden, Head(weight), torch.arange(5)).sum().backward()
    assert hidden.grad is not None
    assert weight.grad is None


def test_low_precision_products_keep_float32_sums():
    torch.manual_seed(0)
    hidden, weight = torch.randn(40, 64) / 8, torch.randn(3000, 64)
    targets = torch.randint(0, 3000, (40,))
    exact = full(hidden, Head(weight), targets)
    low = token_logprobs(hidden, Head(weight), targets, dtype=torch.bfloat16)
    assert low.dtype == torch.float32
    assert (low - exact).abs().max() < 0.05


def test_never_holds_all_logits():
    """The largest tensor alive is a tile, not [tokens, vocabulary]."""
    rows, vocabulary, width = 2048, 8192, 8
    sizes = []

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                sizes.append(out.numel())
            return out

    hidden = torch.randn(rows, width, requires_grad=True)
    weight = torch.randn(vocabulary, width, requires_grad=True)
    with Watch():
        token_logprobs(hidden, Head(weight), torch.zeros(rows, dtype=torch.int64))
    assert max(sizes) <= max(logprobs.ROW_TILE * logprobs.VOCABULARY_TILE, rows * width, vocabulary * width)
