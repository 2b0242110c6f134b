"""SimPO: exact values, the reward's shape, what length does."""

from __future__ import annotations

import pytest
import torch
from known_scores import mean, scores

import fairlead
from fairlead.errors import UsageError

POLICY = [[-1.0], [-0.5], [-2.25], [-0.5]]


def pair(row: int):
    return scores(policy=[POLICY[row], POLICY[row + 2]], reference=[0, 0], groups=(0, 0), chosen=(1, 0))


@pytest.mark.parametrize(
    ("fields", "row", "expected"),
    [
        ({"beta": 2, "gamma": 1}, 0, 0.201413),
        ({"beta": 2, "gamma": 1}, 1, 1.313262),
        ({"beta": 10, "gamma": 5}, 0, 0.000553),
        ({"beta": 10, "gamma": 5}, 1, 5.006715),
        ({"beta": 2, "gamma": 1, "alpha": 0.25}, 0, 0.060881),
    ],
)
def test_simpo(fields, row, expected):
    assert mean(fairlead.objective("simpo", **fields)(pair(row))) == pytest.approx(expected, abs=1e-6)


def test_pairs_are_averaged_and_sft_added():
    given = scores(policy=POLICY)
    loss = fairlead.objective("simpo", beta=2, gamma=1)(given)
    assert mean(loss) == pytest.approx((0.201413 + 1.313262) / 2, abs=1e-6)
    both = fairlead.objective("simpo", beta=2, gamma=1, sft_weight=0.5)(given)
    assert mean(both) - mean(loss) == pytest.approx(0.5 * 0.75)
    margin, count = loss.metrics["margin"]
    assert float(margin / count) == pytest.approx(2 * 1.25 / 2)


def test_a_small_alpha_is_none():
    plain = fairlead.objective("simpo")(pair(0))
    assert mean(fairlead.objective("simpo", alpha=1e-4)(pair(0))) == pytest.approx(mean(plain), abs=1e-4)


def test_length_alone_changes_nothing():
    long = scores(policy=[[-1.0] * 7, [-2.25] * 3], reference=[0, 0], groups=(0, 0), chosen=(1, 0))
    torch.testing.assert_close(fairlead.objective("simpo")(long).sum, fairlead.objective("simpo")(pair(0)).sum)


@pytest.mark.parametrize(
    ("fields", "word"), [({"beta": 0}, "beta"), ({"gamma": -1}, "gamma"), ({"sft_weight": -1}, "sft_weight")]
)
def test_bad_fields_are_named(fields, word):
    with pytest.raises(UsageError, match=word):
        fairlead.objective("simpo", **fields)
