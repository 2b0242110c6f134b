"""SFT: exact values, and the variant that weights tokens by their probability."""

from __future__ import annotations

import math

import pytest
import torch
from known_scores import CHOSEN, mean, scores

import fairlead
from fairlead.errors import UsageError


def test_sft():
    loss = fairlead.objective("sft")(scores(policy=CHOSEN, reference=[0.0, 0.0], groups=(0, 1), chosen=(1, 1)))
    assert mean(loss) == pytest.approx(0.8)
    assert float(loss.count) == 5
    both = fairlead.objective("sft")(scores())
    assert mean(both) == pytest.approx((4.0 + 6.5) / 11)


def test_dft_weights_tokens_by_their_probability():
    given = scores(policy=[[-0.5, -2.0]], reference=[0.0], groups=(0,), chosen=(1,))
    loss = fairlead.objective("sft", loss="dft")(given)
    assert mean(loss) == pytest.approx((0.5 * math.exp(-0.5) + 2.0 * math.exp(-2.0)) / 2, abs=1e-6)
    loss.sum.backward()
    torch.testing.assert_close(given.policy.grad, -torch.tensor([[-0.5, -2.0]]).exp())


def test_an_unknown_loss_is_named():
    with pytest.raises(UsageError, match="nll"):
        fairlead.objective("sft", loss="nnl")
