"""Exact values of the losses on small numbers, made by executing a reference implementation in float32."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import logsigmoid

import fairlead
from fairlead.errors import UsageError
from fairlead.training.objectives.base import Scores

CHOSEN = [[-0.5, -1.0, -1.5], [-0.7, -0.3]]
REJECTED = [[-2.0, -2.5], [-1.0, -0.5, -0.25, -0.25]]
REFERENCE = [-3.5, -1.2, -4.0, -2.6]


def scores(policy=CHOSEN + REJECTED, reference=REFERENCE, groups=(0, 1, 0, 1), chosen=(1, 1, 0, 0)) -> Scores:
    width = max(map(len, policy))
    values, mask = torch.zeros(len(policy), width), torch.zeros(len(policy), width, dtype=torch.bool)
    for n, row in enumerate(policy):
        values[n, : len(row)] = torch.tensor(row)
        mask[n, : len(row)] = True
    sums = torch.zeros_like(values)
    sums[:, 0] = torch.tensor(reference)
    fields = {"chosen": torch.tensor(chosen, dtype=torch.bool)}
    return Scores(values.requires_grad_(), mask, torch.tensor(groups), reference=sums, fields=fields)


def mean(loss) -> float:
    return float((loss.sum / loss.count).detach())


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, 0.678872),
        ({"loss": "hinge"}, 0.970000),
        ({"loss": "ipo"}, 23.254725),
        ({"loss": "ipo", "beta": 0.5}, 0.721389),
        ({"loss": "sigmoid_norm"}, 0.684091),
        ({"loss": "robust", "smoothing": 0.1}, 0.675122),
    ],
)
def test_dpo(fields, expected):
    loss = fairlead.objective("dpo", **fields)(scores())
    assert mean(loss) == pytest.approx(expected, abs=5e-6)
    assert float(loss.count) == 2


def test_dpo_metrics():
    metrics = {k: float(s / n) for k, (s, n) in fairlead.objective("dpo")(scores()).metrics.items()}
    assert metrics["reward_chosen"] == pytest.approx(0.035, abs=1e-6)
    assert metrics["reward_rejected"] == pytest.approx(0.005, abs=1e-6)
    assert metrics["margin"] == pytest.approx(0.03, abs=1e-6)
    assert metrics["accuracy"] == 0.5
    assert metrics["logprob_chosen"] == pytest.approx(-2.0)
    assert metrics["logprob_rejected"] == pytest.approx(-3.25)


@pytest.mark.parametrize("beta", [0.01, 0.1, 1.0, 10.0])
def test_policy_equal_to_reference_gives_ln_2(beta):
    own = [sum(row) for row in CHOSEN + REJECTED]
    assert mean(fairlead.objective("dpo", beta=beta)(scores(reference=own))) == pytest.approx(math.log(2), abs=1e-6)


def test_robust_without_noise_is_sigmoid():
    robust = fairlead.objective("dpo", loss="robust")(scores())
    assert mean(robust) == pytest.approx(mean(fairlead.objective("dpo")(scores())), abs=1e-7)


def test_ipo_is_zero_at_its_target():
    beta = 0.25
    loss = fairlead.objective("dpo", loss="ipo", beta=beta)(
        scores(policy=[[1.0, 1.0], [-1.0, -1.0]], reference=[0.0, 0.0], groups=(0, 0), chosen=(1, 0))
    )
    assert 1 / (2 * beta) == 2.0
    assert mean(loss) == pytest.approx(0.0, abs=1e-7)


def test_swapping_a_pair_adds_its_margin():
    plain = mean(fairlead.objective("dpo")(scores()))
    swapped = mean(fairlead.objective("dpo")(scores(chosen=(0, 0, 1, 1))))
    assert swapped - plain == pytest.approx(0.1 * (1.0 - 0.4) / 2, abs=1e-6)


def test_far_wrong_pairs_stay_finite():
    bad = scores(policy=[[-5000.0], [-1.0]], reference=[0.0, -5000.0], groups=(0, 0), chosen=(1, 0))
    loss = fairlead.objective("dpo", beta=1.0)(bad)
    loss.sum.backward()
    assert torch.isfinite(loss.sum)
    assert torch.isfinite(bad.policy.grad).all()


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


def pairs_of_scores(margin=None) -> Scores:
    values = torch.tensor([1.2, -0.3, 0.5, 0.4, 0.1, 0.5], requires_grad=True)
    fields = {"chosen": torch.tensor([1, 1, 1, 0, 0, 0], dtype=torch.bool)}
    if margin is not None:
        fields["margin"] = torch.tensor([*margin, *margin])
    blank = torch.zeros(6, 1)
    return Scores(blank, blank.bool(), torch.tensor([0, 1, 2, 0, 1, 2]), score=values, fields=fields)


def test_reward_model():
    assert mean(fairlead.objective("reward_model")(pairs_of_scores())) == pytest.approx(0.659088, abs=1e-6)
    with_margin = fairlead.objective("reward_model")(pairs_of_scores([0.5, 0.0, 1.0]))
    assert mean(with_margin) == pytest.approx(0.926877, abs=1e-6)
    centred = fairlead.objective("reward_model", centring=0.01)(pairs_of_scores())
    assert mean(centred) == pytest.approx(0.671088, abs=1e-6)
    metrics = {k: float(s / n) for k, (s, n) in with_margin.metrics.items()}
    assert metrics["accuracy"] == pytest.approx(1 / 3)
    assert metrics["margin"] == pytest.approx((0.8 - 0.4 + 0.0) / 3)


def test_reward_model_loss_is_bradley_terry():
    given = pairs_of_scores()
    difference = given.score[:3] - given.score[3:]
    expected = float(-logsigmoid(difference).mean().detach())
    assert mean(fairlead.objective("reward_model")(given)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "fields", "word"),
    [
        ("dpo", {"beta": 0}, "beta"),
        ("dpo", {"smoothing": 0.5}, "smoothing"),
        ("dpo", {"loss": "hinge", "smoothing": 0.1}, "smoothing"),
        ("dpo", {"loss": "sigmoidal"}, "sigmoid"),
        ("dpo", {"bta": 0.1}, "beta"),
        ("reward_model", {"centring": -1}, "centring"),
        ("sft", {"loss": "nnl"}, "nll"),
    ],
)
def test_bad_fields_are_named(name, fields, word):
    with pytest.raises(UsageError, match=word):
        fairlead.objective(name, **fields)


def test_groups_that_are_no_pairs_are_refused():
    with pytest.raises(UsageError, match="one chosen and one rejected"):
        fairlead.objective("dpo")(scores(groups=(0, 1, 0, 2)))
    given = scores()
    given.reference = None
    with pytest.raises(UsageError, match="reference"):
        fairlead.objective("dpo")(given)
