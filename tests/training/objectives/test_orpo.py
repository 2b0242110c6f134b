"""ORPO: exact values, its two terms, what bounds it."""

from __future__ import annotations

import pytest
import torch
from known_scores import mean, scores

import fairlead
from fairlead.errors import UsageError
from fairlead.training.objectives.absolute_likelihood import alignment

PAIRS = scores(policy=[[-1.0], [-0.5], [-2.25], [-0.5]])


def metrics(loss) -> dict[str, float]:
    return {name: float(total / count) for name, (total, count) in loss.metrics.items()}


def test_orpo():
    loss = fairlead.objective("orpo", weight=0.1)(PAIRS)
    found = metrics(loss)
    assert found["odds_loss"] == pytest.approx(0.438751, abs=1e-6)
    assert found["margin"] == pytest.approx(0.798649, abs=1e-6)
    assert found["nll"] == pytest.approx(0.75)
    assert mean(loss) == pytest.approx(0.75 + 0.0438751, abs=1e-6)
    assert float(loss.count) == 2
    assert found["accuracy"] == 0.5


@pytest.mark.parametrize(("row", "expected"), [(0, 0.184355), (1, 0.693147)])
def test_each_pair_by_itself(row, expected):
    one = scores(policy=[[[-1.0], [-0.5]][row], [[-2.25], [-0.5]][row]], reference=[0, 0], groups=(0, 0), chosen=(1, 0))
    assert metrics(fairlead.objective("orpo")(one))["odds_loss"] == pytest.approx(expected, abs=1e-6)


def test_scores_are_means_over_tokens():
    """Twice the tokens of the same log-probs change nothing but a summed SFT term."""
    short = scores(policy=[[-1.0], [-2.0]], reference=[0, 0], groups=(0, 0), chosen=(1, 0))
    long = scores(policy=[[-1.0] * 2, [-2.0] * 2], reference=[0, 0], groups=(0, 0), chosen=(1, 0))
    assert mean(fairlead.objective("orpo")(short)) == pytest.approx(mean(fairlead.objective("orpo")(long)))
    summed = fairlead.objective("orpo", sft_reduction="sum")
    assert mean(summed(long)) - mean(summed(short)) == pytest.approx(1.0)


def test_without_weight_it_is_sft_on_the_chosen_answer():
    assert mean(fairlead.objective("orpo", weight=0)(scores())) == pytest.approx((1.0 + 0.5) / 2)


def test_the_aligned_loss_bounds_it_from_above():
    chosen, rejected = (-torch.rand(2, 1000, generator=torch.Generator().manual_seed(0)) * 5).unbind()
    rows = torch.cat([chosen, rejected])[:, None].tolist()
    given = scores(rows, [0.0] * 2000, groups=[*range(1000)] * 2, chosen=[1] * 1000 + [0] * 1000)
    p, q = chosen.exp(), rejected.exp()
    odds_loss = fairlead.objective("orpo")(given).metrics["odds_loss"][0]
    above = alignment(chosen, rejected)
    assert odds_loss <= above.sum()
    torch.testing.assert_close(odds_loss, (above + torch.log(p * (1 - q) + q * (1 - p))).sum())


def test_a_memorised_answer_stays_finite():
    given = scores(policy=[[0.0], [-1e-9]], reference=[0, 0], groups=(0, 0), chosen=(1, 0))
    loss = fairlead.objective("orpo")(given)
    loss.sum.backward()
    assert torch.isfinite(loss.sum)
    assert torch.isfinite(given.policy.grad).all()


@pytest.mark.parametrize(("fields", "word"), [({"weight": -1}, "weight"), ({"clamp": -1}, "clamp")])
def test_bad_fields_are_named(fields, word):
    with pytest.raises(UsageError, match=word):
        fairlead.objective("orpo", **fields)
