"""The policy-gradient loss: known values (most of them TRL 1.16's own), presets, estimators, and what is refused."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

import fairlead
from fairlead import catalog
from fairlead.errors import UsageError
from fairlead.fields import to_plain
from fairlead.training.objectives.base import Scores
from fairlead.training.objectives.online import Rollout
from fairlead.training.objectives.policy_losses import estimate_kl, steered, value_terms

OLD = torch.tensor([[-1, -2, -0.5, -1.5], [-0.7, -1.1, -3, 0]])
NEW = torch.tensor([[-0.8, -2.3, -0.4, -1.5], [-0.9, -0.6, -2.5, 0]])
REFERENCE = torch.tensor([[-1.2, -1.8, -0.6, -1.4], [-0.8, -1, -2.8, 0]])
SAMPLER = torch.tensor([[-1.2, -2, -0.5, -1.5], [-0.7, -1.6, -3.9, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]], dtype=torch.bool)
ADVANTAGE = torch.tensor([1.0, -1.0])


def scores(policy=NEW, old=OLD, **fields) -> Scores:
    known = {"advantage": ADVANTAGE, "limit": torch.tensor([8.0, 8.0]), "truncated": torch.tensor([False, False])}
    return Scores(
        policy, MASK, torch.tensor([0, 0]), reference=REFERENCE, old=old, fields={**known, "sampler": SAMPLER, **fields}
    )


def loss(name="policy_gradient", given=None, **fields) -> float:
    found = fairlead.objective(name, **fields)(given or scores())
    return float(found.sum / found.count)


@pytest.mark.parametrize(
    ("name", "fields", "wanted"),
    [
        ("grpo", {"kl": 0.0}, 0.1802802),
        ("policy_gradient", {}, 0.0100263),
        ("dr_grpo", {}, 0.0043865),
        ("grpo", {}, 0.1822703),
        ("policy_gradient", {"kl": 0.04}, 0.0120792),
        ("dr_grpo", {"kl": 0.04}, 0.0052846),
        ("grpo", {"kl": 0.0, "clip_high": 0.28}, 0.1776049),
        ("policy_gradient", {"clip_high": 0.28}, 0.0069688),
        ("dapo", {}, 0.0069688),
        ("dr_grpo", {"clip_high": 0.28}, 0.0030488),
        ("gspo", {"clip_low": 0.2, "clip_high": 0.2}, 0.1528026),
        ("grpo", {"kl": 0.0, "cap": 1.4}, 0.0973731),
        ("rloo", {"kl": 0.0}, 0.6127705),
        ("cispo", {"clip_high": 0.28}, 0.04),
    ],
)
def test_known_losses(name, fields, wanted):
    assert loss(name, **fields) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(
    ("correction", "bound", "by_sequence", "by_token"),
    [
        ("sequence_mask", 3.0, -0.6177228, -0.7059689),
        ("sequence_truncate", 3.0, 1.4403639, 1.0581054),
        ("token_truncate", 2.0, 0.6001168, 0.3603975),
        ("token_mask", 2.0, 0.0505430, -0.1106657),
    ],
)
def test_known_corrections(correction, bound, by_sequence, by_token):
    fields = {"correction": correction, "correction_high": bound}
    assert loss("grpo", kl=0.0, **fields) == pytest.approx(by_sequence, abs=1e-6)
    assert loss(**fields) == pytest.approx(by_token, abs=1e-6)


def test_a_log_prob_that_nobody_told_weighs_one():
    told = torch.where(torch.tensor([True, False, True, True]), OLD, math.nan)
    assert loss(given=scores(sampler=told), correction="token_mask") == pytest.approx(loss(), abs=1e-7)


@pytest.mark.parametrize(("advantage", "wanted"), [(1.0, [-0.5, -1.0, -1.2]), (-1.0, [0.8, 1.0, 1.5])])
def test_the_clip_s_table(advantage, wanted):
    for ratio, value in zip((0.5, 1.0, 1.5), wanted):
        one = torch.full((1, 1), math.log(ratio))
        given = Scores(one, torch.ones(1, 1, dtype=torch.bool), torch.tensor([0]), old=torch.zeros(1, 1))
        given.fields["advantage"] = torch.tensor([advantage])
        assert loss(given=given) == pytest.approx(value, abs=1e-6)
    big = Scores(torch.full((1, 1), math.log(9.0)), given.mask, given.group, old=torch.zeros(1, 1))
    big.fields["advantage"] = torch.tensor([-1.0])
    assert loss(given=big, dual_clip=3.0) == pytest.approx(3.0)
    assert loss(given=big) == pytest.approx(9.0, rel=1e-6)


@pytest.mark.parametrize("name", ["grpo", "policy_gradient", "rloo", "gspo", "cispo", "reinforce"])
def test_on_the_policy_the_gradient_is_that_of_the_log_prob(name):
    policy = NEW.clone().requires_grad_()
    found = fairlead.objective(name, kl=0.0)(scores(policy=policy, old=None))
    slope = torch.autograd.grad(found.sum, policy)[0]
    per_row = {"grpo": [4, 3], "gspo": [4, 3], "rloo": [1, 1]}.get(name, [1, 1])
    wanted = -ADVANTAGE[:, None] * MASK / torch.tensor(per_row, dtype=torch.float32)[:, None]
    torch.testing.assert_close(slope, wanted, atol=1e-6, rtol=1e-5)
    if name == "grpo":
        assert float(found.sum.detach()) == pytest.approx(0.0, abs=1e-6)


def test_equal_groups_have_no_gradient():
    policy = NEW.clone().requires_grad_()
    found = fairlead.objective("policy_gradient")(scores(policy=policy, advantage=torch.zeros(2)))
    assert torch.autograd.grad(found.sum, policy)[0].abs().max() == 0


def test_known_divergences():
    log_ratio = (NEW - REFERENCE)[MASK]
    found = [float(estimate_kl(log_ratio, name).mean()) for name in ("k1", "k2", "k3")]
    assert found == pytest.approx([0.0857143, 0.0514286, 0.0513217], abs=1e-6)
    p, q = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), torch.tensor([0.3, 0.3, 0.4], dtype=torch.float64)
    each = {name: estimate_kl((p / q).log(), name) for name in ("k1", "k2", "k3")}
    means = [float((p * values).sum()) for values in each.values()]
    assert means == pytest.approx([0.1167834, 0.1132810, 0.1167834], abs=1e-6)
    spread = [float(((p * each[name] ** 2).sum() - (p * each[name]).sum() ** 2).sqrt()) for name in ("k1", "k3")]
    assert spread == pytest.approx([0.4614365, 0.1064638], abs=1e-6)


@pytest.mark.parametrize(
    ("estimator", "wanted"),
    [
        ("k1", [0, 0, 0]),
        ("k2", [0.0375327, -0.0472217, 0.0096889]),
        ("k3", [0.0375845, -0.0499112, 0.0123267]),
        ("reward", [0.0375327, -0.0472217, 0.0096889]),
    ],
)
def test_what_each_divergence_s_gradient_is(estimator, wanted):
    theta = torch.tensor([0.2, -0.1, 0.4], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([0.3, 0.3, 0.4], dtype=torch.float64).log()
    log_probs = theta.log_softmax(0)
    weights = log_probs.detach().exp()
    log_ratio = log_probs - reference
    # A sum over all outcomes in the place of samples: weights fixed, the gradient through the log-ratio alone.
    term = log_ratio.detach() * log_probs if estimator == "reward" else estimate_kl(log_ratio, estimator)
    found = torch.autograd.grad((weights * term).sum(), theta)[0]
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64), atol=1e-6, rtol=0)
    if estimator in ("k2", "reward", "k3"):
        p, q = theta.softmax(0), reference.exp()
        kl = (p * (p.log() - reference)).sum() if estimator != "k3" else (q * (reference - p.log())).sum()
        torch.testing.assert_close(torch.autograd.grad(kl, theta)[0], found, atol=1e-9, rtol=0)


def test_known_value_loss():
    value, old, target = ([0.9, 0.1, 0.6], [0.5, 0.4, 0.6], [0.9, 0.9, 1.0])
    given = Scores(
        torch.zeros(1, 3),
        torch.ones(1, 3, dtype=torch.bool),
        torch.tensor([0]),
        values=torch.tensor([value])[..., None],
    )
    given.fields = {"return_0": torch.tensor([target]), "value_0": torch.tensor([old])}
    settings = fairlead.objective("ppo")
    assert float(value_terms(settings, given, given.mask).mean()) == pytest.approx(0.14, abs=1e-6)


def test_the_coefficient_is_steered():
    assert steered(0.2, 9.0, 6.0, 256, 10_000) == pytest.approx(0.201024)
    assert steered(0.2, 3.0, 6.0, 256, 10_000) == pytest.approx(0.198976)


def rollout(rewards, values=None, **changes) -> Rollout:
    rows = len(rewards)
    given = torch.tensor(rewards, dtype=torch.float64)
    given = given if given.ndim == 2 else given[:, None]
    mask = torch.ones(rows, 3, dtype=torch.bool)
    names = tuple(f"r{k}" for k in range(given.shape[1]))
    truncated = torch.zeros(rows, dtype=torch.bool)
    fields = {"old": torch.full((rows, 3), -1.0), "reference": torch.full((rows, 3), -1.5), "values": values}
    return Rollout(given, names, torch.zeros(rows, dtype=torch.int64), mask, truncated, 4, **(fields | changes))


def test_rloo_takes_the_divergence_from_the_reward():
    method = fairlead.objective("rloo", kl=0.1)
    assert method.needs.reference
    assert method.needs.old
    old = torch.tensor([[-1.0, -1.0, -1.0], [-1.5, -1.5, -1.5]])
    found = method.advantages(rollout([1.0, 1.0], old=old), method.begin(1, 2))
    assert found.fields["advantage"].tolist() == pytest.approx([-0.15, 0.15])
    assert found.metrics["kl_completion"] == pytest.approx(0.75)


def test_reinforce_plus_plus_whitens_what_is_still_to_come():
    method = fairlead.objective("reinforce_pp", kl=0.1)
    found = method.advantages(rollout([1.0, 3.0]), method.begin(1, 1)).fields["advantage"]
    to_come = torch.tensor([[0.85, 0.9, 0.95], [2.85, 2.9, 2.95]])
    wanted = (to_come - to_come.mean()) / to_come.std()
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_ppo_estimates_with_its_value_head():
    method = fairlead.objective("ppo", scale="none", kl=0.0, kl_target=None)
    assert method.heads(3) == 1
    values = torch.tensor([0.5, 0.4, 0.6])[None, :, None]
    found = method.advantages(rollout([1.0], values=values), method.begin(1, 1)).fields
    assert found["advantage"][0].tolist() == pytest.approx([0.451, 0.58, 0.4], abs=1e-6)
    assert found["return_0"][0].tolist() == pytest.approx([0.951, 0.98, 1.0], abs=1e-6)


def test_what_is_kept_between_rollouts():
    average = fairlead.objective("policy_gradient", baseline="moving_average", scale="none", momentum=0.5)
    state = average.begin(1, 1)
    first = average.advantages(rollout([1.0, 3.0]), state)
    assert first.fields["advantage"].tolist() == [-1.0, 1.0]
    second = average.advantages(rollout([4.0, 4.0]), first.state)
    assert second.fields["advantage"].tolist() == [2.0, 2.0]
    assert float(second.state["average"]) == 3.0
    steering = fairlead.objective("ppo")
    values = torch.zeros(2, 3, 1)
    found = steering.advantages(rollout([1.0, 2.0], values=values), steering.begin(1, 1))
    assert float(found.state["kl"]) == pytest.approx(0.2 * (1 - 0.2 * 2 / 10_000))


def test_long_and_cut_completions():
    method = fairlead.objective("dapo", overlong=0.5, scale="none")
    assert method.advantages(rollout([1.0, 1.0]), {}).fields["advantage"].tolist() == [0.0, 0.0]
    long = dataclasses.replace(rollout([1.0, 1.0]), mask=torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]], dtype=torch.bool))
    assert method.advantages(long, {}).fields["advantage"].tolist() == [-0.5, 0.5]
    cut = fairlead.objective("policy_gradient", skip_truncated=True)
    found = cut(scores(truncated=torch.tensor([True, False])))
    assert float(found.count) == 3


def test_presets_are_settings():
    for name in catalog.PRESETS["objective"]:
        built = fairlead.objective(name)
        assert to_plain(built) == to_plain(fairlead.objective("policy_gradient", **type(built).presets[name]))
        assert fairlead.objective(name, skip_truncated=True) == dataclasses.replace(built, skip_truncated=True)
    assert set(type(built).presets) == set(catalog.PRESETS["objective"])


@pytest.mark.parametrize(
    "fields",
    [
        {"kl": -1.0},
        {"clip_low": 1.5},
        {"cap": 1.1},
        {"dual_clip": 0.5},
        {"kl": 0.1, "kl_estimator": "k1"},
        {"kl_target": 3.0},
        {"ratio": "sequence_sum"},
        {"combine": "normalise", "baseline": "batch"},
        {"baseline": "best"},
        {"scale": "whiten"},
        {"baseline": "value"},
        {"correction_low": 4.0},
    ],
)
def test_settings_that_make_no_sense(fields):
    with pytest.raises(UsageError):
        fairlead.objective("policy_gradient", **fields)


def test_one_completion_has_nothing_to_be_compared_with():
    with pytest.raises(UsageError, match="compared"):
        fairlead.objective("grpo").begin(1, 1)
    with pytest.raises(UsageError, match="weights"):
        fairlead.objective("grpo", weights=(1.0, 2.0)).begin(1, 4)
