"""SFT: exact values, the variant that weights tokens by their probability, and three ways to divide."""

from __future__ import annotations

import math

import pytest
import torch
from known_scores import CHOSEN, mean, scores

import fairlead
from fairlead.errors import UsageError

LONG = {"policy": [[-2.0] * 10, [-1.0] * 990], "reference": [0.0, 0.0], "groups": (0, 1), "chosen": (1, 1)}


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


@pytest.mark.parametrize(
    ("reduction", "total", "count"),
    [("token", 1010.0, 1000), ("sequence", 3.0, 2), ("constant", 0.4931640625, 2)],
)
def test_reductions(reduction, total, count):
    loss = fairlead.objective("sft", reduction=reduction)(scores(**LONG))
    assert float(loss.sum.detach()) == pytest.approx(total)
    assert float(loss.count) == count
    assert float(loss.metrics["nll"][0] / loss.metrics["nll"][1]) == pytest.approx(1.01)


def test_what_a_token_of_a_long_answer_weighs():
    """As much as one of a short answer, except where sequences weigh the same: there, its share of its own length."""
    for reduction, share in (("token", 1.0), ("sequence", 10 / 990), ("constant", 1.0)):
        given = scores(**LONG)
        fairlead.objective("sft", reduction=reduction)(given).sum.backward()
        assert float(given.policy.grad[1, 0] / given.policy.grad[0, 0]) == pytest.approx(share)


def test_bad_fields_are_named():
    with pytest.raises(UsageError, match="nll"):
        fairlead.objective("sft", loss="nnl")
    with pytest.raises(UsageError, match="sequence"):
        fairlead.objective("sft", reduction="sequnce")
    with pytest.raises(UsageError, match="constant"):
        fairlead.objective("sft", reduction="constant", constant=0)
