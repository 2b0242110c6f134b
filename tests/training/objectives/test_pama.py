"""PAMA: known answers, granularities, the stall and its way out, abstentions, value heads, a bandit."""

from __future__ import annotations

import math

import pytest
import torch

import fairlead
from fairlead.errors import UsageError
from fairlead.training.min_norm import mgda, projection_of_zero
from fairlead.training.objectives import policy_losses
from fairlead.training.objectives.base import Scores
from fairlead.training.objectives.online import Rollout

RAW = torch.tensor([[0.8, -0.2, 1.5, 0.3], [0.4, 0.9, -0.1, 0.6]], dtype=torch.float64)
NAN = math.nan


def pama(**fields):
    return fairlead.objective("pama", **fields)


def joined(raw, mask=None, **fields):
    raw = torch.as_tensor(raw, dtype=torch.float64)
    if mask is None:
        mask = torch.ones(raw.shape[1:] if raw.ndim == 3 else (raw.shape[1], 1), dtype=torch.bool)
    return pama(**fields).join(raw, mask, tuple("abcdef"[: len(raw)]))


def rollout(rewards, group, mask=None, **more) -> Rollout:
    rewards = torch.tensor(rewards, dtype=torch.float64)
    mask = torch.ones(len(rewards), 3, dtype=torch.bool) if mask is None else mask
    names = tuple("abcdef"[: rewards.shape[1]])
    cut = torch.zeros(len(rewards), dtype=torch.bool)
    return Rollout(rewards, names, torch.tensor(group), mask, cut, mask.shape[1], **more)


def advantages(given: Rollout, **fields):
    method = pama(**fields)
    return method.advantages(given, method.begin(given.rewards.shape[1], 4))


def test_token_granularity():
    found, told = joined(RAW[:, None], granularity="token")
    torch.testing.assert_close(found[0], torch.tensor([0.4, 0, 0, 0.3], dtype=torch.float64))
    assert told["stalled"] == told["conflict"] == 0.5
    assert told["binding_a"] + told["binding_b"] == pytest.approx(1)
    torch.testing.assert_close(joined(RAW)[0], found[0])  # completions of one token each


def test_the_loss_of_known_ratios():
    ratios = torch.tensor([[1.3, 0.7, 1.0, 1.1]])
    mask = torch.ones(1, 4, dtype=torch.bool)
    found, _ = joined(RAW[:, None])
    scores = Scores(ratios.log(), mask, torch.zeros(1), old=torch.zeros(1, 4), fields={"advantage": found})
    terms = policy_losses.policy_terms(pama(kl=0.0), scores, mask)
    torch.testing.assert_close(terms.loss, -torch.tensor([[0.48, 0, 0, 0.33]]))
    loss = pama(kl=0.0)(scores)
    assert float(loss.sum / loss.count) == pytest.approx(-0.2025)


def test_scale_matters_and_copies_and_order_do_not():
    scaled = RAW * torch.tensor([[10.0], [1.0]])
    torch.testing.assert_close(joined(scaled)[0], torch.tensor([0.4, 0, 0, 0.6], dtype=torch.float64))
    torch.testing.assert_close(joined(RAW[[1, 0]])[0], joined(RAW)[0])
    torch.testing.assert_close(joined(RAW[[0, 1, 1]])[0], joined(RAW)[0])
    torch.testing.assert_close(joined(scaled, weights=[10.0, 1.0])[0], joined(RAW)[0])


def test_what_matters_more_binds_more_often():
    rng = torch.Generator().manual_seed(0)
    raw = torch.rand(2, 200, generator=rng).double()
    even, uneven = joined(raw)[1], joined(raw, weights=[3.0, 1.0])[1]
    assert uneven["binding_a"] > even["binding_a"] + 0.2


def test_sequence_granularity_is_of_means():
    mask = torch.tensor([[True, True, True, True], [True, True, False, False]])
    raw = torch.stack([torch.stack([RAW[0], RAW[1]]), torch.stack([RAW[1], RAW[0]])])
    found, _ = joined(raw, mask, granularity="sequence")
    expected = [min(0.6, 0.45), min(0.65, 0.3)]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
    assert found.shape == (2,)


def test_weights_of_the_batch():
    noon = RAW.clamp_min(0)
    found, told = joined(RAW[:, None], granularity="batch_weights")
    assert (told["weight_a"], told["weight_b"]) == (0, 1)  # means 0.65 and 0.475
    torch.testing.assert_close(found[0], noon[1])
    scalar, _ = joined(RAW[:, None], granularity="batch_scalar")
    torch.testing.assert_close(scalar, torch.full((1, 4), 0.475, dtype=torch.float64))


def test_long_completions_count_by_their_tokens():
    mask = torch.tensor([[True] * 4, [True, False, False, False]])
    rows = torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    spread = torch.where(mask, rows[..., None].expand(2, 2, 4), 0.0)
    for granularity in ("batch_weights", "vector_qp"):
        by_row, told = joined(rows, mask, granularity=granularity)
        by_token, same = joined(spread, mask, granularity=granularity)
        assert told == pytest.approx(same, abs=1e-9) or told["weight_a"] == pytest.approx(same["weight_a"])
        torch.testing.assert_close(torch.where(mask, by_row[:, None].expand(2, 4), 0.0), by_token)


def test_the_exact_problem_over_vectors():
    found, told = joined(RAW, granularity="vector_qp", noon=False)
    weights, direction = mgda(RAW)
    assert told["weight_a"] == pytest.approx(float(weights[0]))
    torch.testing.assert_close(found, direction)


def test_the_expected_gradient_of_one_number_for_all_is_zero():
    logits = torch.randn(4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    policy = torch.log_softmax(logits, 0)
    chances = policy.detach().exp()
    mask = torch.ones(4, 1, dtype=torch.bool)
    found, _ = joined(torch.tensor([[1.0, 0, 0.7, 0.1], [0, 1.0, 0.6, 0]]), granularity="batch_scalar")
    assert float(found[0]) > 0
    expected = (chances * found * torch.exp(policy - policy.detach())).sum()
    assert torch.autograd.grad(expected, logits, retain_graph=True)[0].abs().max() < 1e-12
    fields = {"advantage": found}
    loss = policy_losses.policy_terms(pama(), Scores(policy[:, None], mask, torch.arange(4), fields=fields), mask).loss
    assert torch.autograd.grad((chances * loss[:, 0]).sum(), logits)[0].abs().max() < 1e-6


def test_the_stall_and_the_way_out():
    rewards = torch.tensor([[3.0, -1.0, 0.0], [-1.0, 3.0, 0.0]], dtype=torch.float64)
    raw = rewards - rewards.mean(1, keepdim=True)
    stuck, told = joined(raw, fallback=False)
    assert (stuck == 0).all()
    assert (told["stalled"], told["fallback"]) == (1, 0)
    gradients = raw / 3  # of the expected rewards, by the logits of a uniform policy
    assert float(mgda(gradients)[1].norm()) == pytest.approx(0.2721655)
    mixed, told = joined(raw)
    assert (told["stalled"], told["fallback"]) == (1, 1)
    assert told["weight_a"] == pytest.approx(0.5)
    torch.testing.assert_close(mixed, torch.tensor([1 / 3, 1 / 3, -2 / 3], dtype=torch.float64))
    assert (rewards @ torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64)).tolist() == [1, 1]
    half, told = joined(torch.cat([raw, torch.ones(2, 1, dtype=torch.float64)], 1))
    assert told["fallback"] == 0
    assert told["stalled"] == 0.75
    assert (half != 0).sum() == 1


def test_a_bandit_gets_better_in_both():
    """Exact expectation over four arms, worth r - J each, one step of 0.5 on the logits at a time."""
    rewards = torch.tensor([[1, 0, 0.7, 0.1], [0, 1, 0.6, 0]], dtype=torch.float64)
    logits, before = torch.zeros(4, dtype=torch.float64), torch.tensor([0.45, 0.40], dtype=torch.float64)
    method = pama()
    for step in range(3000):
        chances = torch.softmax(logits, 0)
        worth = rewards @ chances
        assert (worth >= before - 1e-12).all()
        raw = rewards - worth[:, None]
        least = projection_of_zero(raw.clamp_min(0))
        if step % 500 == 0:
            torch.testing.assert_close(method.join(raw, torch.ones(4, 1, dtype=torch.bool), ("a", "b"))[0], least)
        logits = logits + 0.5 * chances * (least - chances @ least)
        before = worth
    torch.testing.assert_close(before, torch.tensor([0.689, 0.591], dtype=torch.float64), atol=1e-3, rtol=0)


def test_a_soft_minimum_learns_where_the_minimum_stalls():
    hard, told = joined(RAW)
    soft, gentle = joined(RAW, softness=0.1)
    assert told["stalled"] == 0.5
    assert gentle["stalled"] == 0
    assert (soft >= hard).all()
    torch.testing.assert_close(joined(RAW, softness=1e-5)[0], hard, atol=1e-4, rtol=0)


def test_rewards_are_compared_within_their_prompts():
    given = rollout([(3, 30), (1, 10), (2, 20), (9, 5), (9, 7), (9, 9)], [0, 0, 0, 1, 1, 1])
    found = advantages(given)
    worth = found.fields["advantage"]
    torch.testing.assert_close(worth[:3], torch.tensor([1.0, 0, 0]), atol=1e-3, rtol=0)
    torch.testing.assert_close(worth[3:], torch.tensor([0.0, 0, 1.0]), atol=1e-3, rtol=0)
    bound = advantages(given, indifferent="binding").fields["advantage"]
    assert torch.equal(bound[:3], worth[:3])
    assert (bound[3:] == 0).all()


def test_a_reward_that_abstains_has_no_say():
    given = rollout([(1.0, NAN), (0.0, NAN), (NAN, NAN), (1.0, 0.0), (0.0, 1.0), (0.5, NAN)], [0, 0, 0, 1, 1, 1])
    worth = advantages(given).fields["advantage"]
    assert float(worth[0]) > 0.5
    assert worth[1:].tolist() == [0, 0, 0, 0, 0]
    assert all(math.isfinite(v) for v in advantages(given, granularity="vector_qp").metrics.values())


def test_value_heads():
    mask = torch.tensor([[True, True, True], [True, True, False]])
    values = torch.zeros(2, 3, 2)
    values[..., 1] = 1.0
    method = pama(baseline="value", scale="none", decay=1.0, kl=0.0)
    assert method.heads(2) == 2
    given = rollout([(2.0, 0.5), (1.0, 3.0)], [0, 1], mask, values=values)
    found = method.advantages(given, method.begin(2, 1))
    expected = torch.tensor([[0.0, 0, 0], [1, 1, 0]])  # 2 and -0.5; 1 and 2
    torch.testing.assert_close(found.fields["advantage"], expected)
    torch.testing.assert_close(found.fields["return_1"], torch.tensor([[0.5, 0.5, 0.5], [3.0, 3.0, 0]]))
    torch.testing.assert_close(found.fields["value_0"], torch.zeros(2, 3))


def test_every_reward_has_its_moving_average():
    method = pama(baseline="moving_average", scale="none", momentum=0.5, kl=0.0)
    state = method.begin(2, 1)
    assert sorted(state) == ["average_0", "average_1"]
    first = method.advantages(rollout([(1.0, 10.0), (3.0, 30.0)], [0, 1]), state)
    assert [float(first.state[f"average_{k}"]) for k in range(2)] == [2, 20]
    second = method.advantages(rollout([(4.0, 24.0), (4.0, 24.0)], [0, 1]), first.state)
    assert [float(second.state[f"average_{k}"]) for k in range(2)] == [3, 22]
    torch.testing.assert_close(second.fields["advantage"], torch.tensor([2.0, 2.0]))


def test_the_kl_stands_in_every_reward():
    old = torch.full((2, 3), -1.0)
    given = rollout([(1.0, 2.0), (0.0, 0.0)], [0, 0], old=old, reference=old - 0.5)
    method = pama(baseline="none", scale="none", kl=0.2, kl_place="reward")
    found = method.advantages(given, method.begin(2, 2))
    assert float(found.fields["advantage"][0]) == pytest.approx(1.0 - 0.2 * 1.5)
    assert found.metrics["kl_completion"] == pytest.approx(1.5)


@pytest.mark.parametrize(
    "fields",
    [
        {"combine": "normalise"},
        {"weights": [1.0, 0.0]},
        {"softness": -1.0},
        {"softness": 0.5, "granularity": "vector_qp"},
        {"softness": 0.5, "noon": False},
        {"kl": -1.0},
        {"granularity": "word"},
    ],
)
def test_settings_that_cannot_be(fields):
    with pytest.raises(UsageError):
        pama(**fields)


def test_weights_are_counted():
    with pytest.raises(UsageError, match="3"):
        pama(weights=[1.0, 1.0]).begin(3, 4)
