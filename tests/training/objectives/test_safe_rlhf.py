"""Safe RLHF: the multiplier's known steps, the advantages, abstentions, value heads."""

from __future__ import annotations

import math

import pytest
import torch

import fairlead
from fairlead.errors import UnknownNameError, UsageError
from fairlead.training.objectives.online import Rollout
from fairlead.training.objectives.safe_rlhf import dual_step

NAN = math.nan


def safe(**fields):
    return fairlead.objective("safe_rlhf", **fields)


def plain(**fields):
    return safe(baseline="none", scale="none", **fields)


def rollout(rewards, group=None, names=("helpful", "cost"), **more) -> Rollout:
    rewards = torch.tensor(rewards, dtype=torch.float64)
    rows = len(rewards)
    mask = torch.ones(rows, 2, dtype=torch.bool)
    numbers = torch.arange(rows) if group is None else torch.tensor(group)
    return Rollout(rewards, names, numbers, mask, torch.zeros(rows, dtype=torch.bool), 2, **more)


@pytest.mark.parametrize(
    ("dual", "expected"), [("log", (1.051271, 1.073609, 1.028479)), ("exponentiated", (1.051271, 1.072508, 1.030455))]
)
def test_steps_of_the_price(dual, expected):
    method, state = plain(price_rate=0.1, dual=dual), plain().begin(2, 1)
    for mean, wanted in zip((0.5, 0.2, -0.4), expected):
        found = method.advantages(rollout([(0.0, mean - 1), (0.0, mean + 1)]), state)
        state = found.state
        assert float(state["price"]) == pytest.approx(wanted, abs=1e-6)
        assert found.metrics["violation"] == pytest.approx(mean)
    later = method.advantages(rollout([(0.0, 0.0)]), state).metrics
    assert later["price"] == pytest.approx(expected[2], abs=1e-6)
    assert later["price_peak"] == pytest.approx(expected[1], abs=1e-6)


@pytest.mark.parametrize(("price", "expected"), [(1.0, 0.35), (3.0, -0.075)])
def test_advantages(price, expected):
    method = plain(price=price)
    found = method.advantages(rollout([(1.2, 0.5)]), method.begin(2, 1))
    assert float(found.fields["advantage"]) == pytest.approx(expected)
    assert found.metrics["price"] == price


def test_the_price_rises_while_the_budget_is_exceeded_and_never_falls_below_0():
    for dual in ("log", "exponentiated"):
        price = 1.0
        for _ in range(200):
            after = dual_step(price, 0.3, 0.1, cap=20.0, dual=dual)
            assert after > price or after == 20.0
            price = after
        assert price == 20.0
        for _ in range(5000):
            after = dual_step(price, -0.9, 0.5, dual=dual)
            assert 0 < after <= price
            price = after
        assert price < 0.01


def test_the_budget_is_taken_off():
    method = plain(budget=0.4)
    found = method.advantages(rollout([(0.0, 0.5), (0.0, 0.1)]), method.begin(2, 1))
    assert found.metrics["violation"] == pytest.approx(-0.1)
    assert found.metrics["cost"] == pytest.approx(0.3)
    assert found.metrics["unsafe"] == 1
    assert float(found.state["price"]) < 1


def test_rewards_beside_the_cost_are_joined():
    method = plain(cost="harm", weights=[2.0, 1.0], price=1.0)
    given = rollout([(1.0, 0.5, 3.0)], names=("a", "harm", "b"))
    found = method.advantages(given, method.begin(3, 1))
    assert float(found.fields["advantage"]) == pytest.approx((2 + 3 - 0.5) / 2)


def test_advantages_are_scaled_by_themselves():
    """Reward and cost have other units; in groups each has its own mean and scale."""
    method = safe()
    given = rollout([(100.0, 0.001), (0.0, 0.0), (100.0, 0.0), (0.0, 0.001)], [0, 0, 0, 0])
    other = rollout([(1.0, 1.0), (0.0, 0.0), (1.0, 0.0), (0.0, 1.0)], [0, 0, 0, 0])
    worth = method.advantages(other, method.begin(2, 4)).fields["advantage"]
    assert float(worth[2]) > 0.5 > 0.1 > abs(float(worth[0]))
    assert float(method.advantages(given, method.begin(2, 4)).fields["advantage"][2]) > 0.3


def test_what_is_not_known_does_not_count():
    found = plain().advantages(rollout([(1.0, NAN), (NAN, 1.0), (NAN, NAN)]), plain().begin(2, 1))
    torch.testing.assert_close(found.fields["advantage"], torch.tensor([0.5, -0.5, 0.0]))
    assert found.metrics["cost"] == 1
    silent = plain().advantages(rollout([(1.0, NAN)]), plain().begin(2, 1))
    assert float(silent.state["price"]) == 1
    assert "cost" not in silent.metrics


def test_value_heads_of_reward_and_cost():
    method = plain(price=1.0)
    assert method.heads(3) == 0
    method = safe(baseline="value", scale="none", decay=1.0)
    assert method.heads(3) == 2
    values = torch.tensor([[[1.0, 0.5], [1.0, 0.5]]])
    found = method.advantages(rollout([(3.0, 1.0)], values=values), method.begin(2, 1))
    torch.testing.assert_close(found.fields["advantage"], torch.full((1, 2), (2.0 - 0.5) / 2))
    assert {"return_0", "return_1", "value_0", "value_1"} < set(found.fields)


def test_the_cost_must_be_named_and_not_alone():
    with pytest.raises(UnknownNameError, match="cost"):
        plain(cost="cots").advantages(rollout([(1.0, 0.5)]), plain().begin(2, 1))
    with pytest.raises(UsageError, match="beside it"):
        plain().begin(1, 4)
    with pytest.raises(UsageError, match="weights"):
        safe(weights=[1.0, 1.0]).begin(2, 4)


@pytest.mark.parametrize("fields", [{"price": 0.0}, {"price": 200.0}, {"price_rate": -0.1}, {"price_cap": 0.0}])
def test_settings_that_cannot_be(fields):
    with pytest.raises(UsageError, match="safe_rlhf"):
        safe(**fields)
