"""DPO and its variants: exact values, invariants, refusals."""

from __future__ import annotations

import math

import pytest
import torch
from known_scores import CHOSEN, REJECTED, mean, scores

import fairlead
from fairlead.errors import UsageError
from fairlead.training.objectives.pair_losses import PAIR_LOSSES, SMOOTHED


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, 0.678872),
        ({"loss": "hinge"}, 0.970000),
        ({"loss": "ipo"}, 23.254725),
        ({"loss": "ipo", "beta": 0.5}, 0.721389),
        ({"loss": "sigmoid_norm"}, 0.684091),
        ({"loss": "robust", "smoothing": 0.1}, 0.675122),
        ({"loss": "exo", "smoothing": 1e-3}, 2.710222),
        ({"loss": "nca"}, 1.379257),
        ({"loss": "bce"}, 1.371857),
        ({"loss": "sppo"}, 47.450001),
        ({"loss": "apo_zero"}, 0.992500),
        ({"loss": "apo_down"}, 1.001258),
        ({"loss": "discopop"}, 0.844331),
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


@pytest.mark.parametrize("loss", PAIR_LOSSES)
@pytest.mark.parametrize("right", [True, False])
def test_far_pairs_stay_finite(loss, right):
    policy = [[-5000.0], [-1.0]] if right else [[-1.0], [-5000.0]]
    bad = scores(policy=policy, reference=[-2500.0, -2500.0], groups=(0, 0), chosen=(1, 0))
    loss = fairlead.objective("dpo", loss=loss, beta=1.0, smoothing=1e-3 if loss in SMOOTHED else 0.0)(bad)
    loss.sum.backward()
    assert torch.isfinite(loss.sum)
    assert torch.isfinite(bad.policy.grad).all()


def test_groups_that_are_no_pairs_are_refused():
    with pytest.raises(UsageError, match="one chosen and one rejected"):
        fairlead.objective("dpo")(scores(groups=(0, 1, 0, 2)))
    given = scores()
    given.reference = None
    with pytest.raises(UsageError, match="reference"):
        fairlead.objective("dpo")(given)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"beta": 0}, "beta"),
        ({"smoothing": 0.5}, "smoothing"),
        ({"loss": "hinge", "smoothing": 0.1}, "smoothing"),
        ({"loss": "sigmoidal"}, "sigmoid"),
        ({"bta": 0.1}, "beta"),
        ({"loss": "exo"}, "smoothing"),
    ],
)
def test_bad_fields_are_named(fields, word):
    with pytest.raises(UsageError, match=word):
        fairlead.objective("dpo", **fields)
