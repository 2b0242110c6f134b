"""Advantages: known values, completions that nothing values, and groups that teach nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fairlead.errors import UsageError
from fairlead.training.advantages import (
    combined,
    gae,
    group_advantages,
    group_mean,
    overlong_penalty,
    token_rewards,
    whitened,
)

NAN = float("nan")
ONE = torch.zeros(4, dtype=torch.int64)


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


def close(found, wanted, atol=1e-6):
    torch.testing.assert_close(found.double(), torch.as_tensor(wanted, dtype=torch.float64), atol=atol, rtol=0)


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, [-0.9257772, -0.4628886, 0, 1.3886659]),
        ({"scale": "none"}, [-2, -1, 0, 3]),
        ({"baseline": "leave_one_out", "scale": "none"}, [-2.6666667, -1.3333333, 0, 4]),
        ({"baseline": "batch", "scale": "none"}, [-2, -1, 0, 3]),
        ({"baseline": "none", "scale": "none"}, [1, 2, 3, 6]),
        ({"baseline": "best", "scale": "none"}, [0, 0, 0, 1]),
    ],
)
def test_known_advantages(fields, wanted):
    close(group_advantages(numbers(1, 2, 3, 6), ONE, **fields), wanted)


def test_the_batch_s_scale_keeps_the_group_s_mean():
    rewards, group = numbers(1, 3, 10, 14), torch.tensor([0, 0, 1, 1])
    spread = rewards.std() + 1e-4
    close(group_advantages(rewards, group, scale="batch"), numbers(-1, 1, -2, 2) / spread)


def test_what_nothing_values_takes_no_part():
    rewards = numbers(1, NAN, 3, 6)
    close(group_advantages(rewards, ONE, baseline="leave_one_out", scale="none"), [-3.5, 0, -0.5, 4])
    kept = group_advantages(numbers(1, 3, 6), ONE[:3])
    close(group_advantages(rewards, ONE)[[0, 2, 3]], kept)
    close(group_advantages(numbers(NAN, 5, NAN, NAN), ONE, baseline="leave_one_out", scale="none"), [0, 0, 0, 0])
    close(group_advantages(numbers(NAN, NAN, NAN, NAN), ONE), [0, 0, 0, 0])
    assert group_mean(rewards, ONE)[1].tolist() == [3, 3, 3, 3]


@pytest.mark.parametrize("scale", ["none", "group", "batch"])
@pytest.mark.parametrize("baseline", ["group", "leave_one_out"])
def test_equal_rewards_are_worth_nothing(baseline, scale):
    found = group_advantages(numbers(2, 2, 2, 2), ONE, baseline=baseline, scale=scale)
    assert found.tolist() == [0, 0, 0, 0]


@given(st.lists(st.floats(-10, 10), min_size=6, max_size=6), st.permutations(range(6)))
def test_the_order_of_completions_does_not_matter(values, order):
    rewards, group, places = numbers(*values), torch.tensor([0, 0, 0, 1, 1, 1]), torch.tensor(order)
    for baseline in ("group", "leave_one_out", "batch"):
        found = group_advantages(rewards, group, baseline=baseline)
        close(group_advantages(rewards[places], group[places], baseline=baseline), found[places], atol=1e-8)


def test_several_rewards():
    rewards = numbers(1, 2, 3, 6)[:, None] * numbers(1, 0) + numbers(10, 30, 20, 40)[:, None] * numbers(0, 1)
    weights = numbers(1, 1)
    joined = combined(rewards, ONE, weights, normalise=True)
    close(
        group_advantages(joined, ONE, baseline="batch", scale="batch"), [-1.0892314, -0.0394405, -0.2020701, 1.3307420]
    )
    close(group_advantages(combined(rewards, ONE, weights), ONE), [-1.1513775, 0.2709123, -0.3386404, 1.2191055])
    silent = torch.tensor([[1.0, NAN], [NAN, NAN], [2.0, 5.0], [NAN, 4.0]], dtype=torch.float64)
    found = combined(silent, ONE, numbers(1, 2))
    assert found.isnan().tolist() == [False, True, False, False]
    close(found[[0, 2, 3]], [1, 12, 8])


@pytest.mark.parametrize(
    ("gamma", "decay", "advantages", "returns"),
    [
        (1, 0.95, [0.451, 0.58, 0.4], [0.951, 0.98, 1.0]),
        (1, 1, [0.5, 0.6, 0.4], [1, 1, 1]),
        (0.99, 0, [-0.104, 0.194, 0.4], [0.396, 0.594, 1.0]),
    ],
)
def test_known_estimates(gamma, decay, advantages, returns):
    rewards, values, mask = numbers(0, 0, 1)[None], numbers(0.5, 0.4, 0.6)[None], torch.ones(1, 3, dtype=torch.bool)
    found, targets = gae(rewards, values, mask, gamma=gamma, decay=decay)
    close(found[0], advantages)
    close(targets[0], returns)


def test_whitening_and_padding():
    mask = torch.tensor([[True, True, True, False]])
    values = numbers(0.451, 0.58, 0.4, 9.0)[None]
    close(whitened(values, mask)[0], [-0.2802510, 1.1102252, -0.8299742, 0])
    rewards = torch.nn.functional.pad(numbers(0, 0, 1), (0, 1))[None]
    padded, _ = gae(rewards, numbers(0.5, 0.4, 0.6, 7.0)[None], mask)
    close(padded[0], [0.451, 0.58, 0.4, 0])
    assert whitened(values, mask & False).tolist() == [[0, 0, 0, 0]]


def test_the_penalty_is_per_token_and_the_score_at_the_end():
    log_ratio = numbers(-1, -2, -0.5) - numbers(-1.2, -1.5, -0.5)
    mask = torch.ones(1, 3, dtype=torch.bool)
    close(token_rewards(numbers(0.7), mask, 0.2 * log_ratio[None])[0], [-0.04, 0.1, 0.7])
    short = torch.tensor([[True, True, False], [True, False, False]])
    assert token_rewards(numbers(2.0, NAN), short).tolist() == [[0, 2, 0], [0, 0, 0]]


def test_long_completions():
    lengths = torch.tensor([80, 90, 100, 101])
    assert overlong_penalty(lengths, 100, 20).tolist() == [0, -0.5, -1, -1]
    with pytest.raises(UsageError):
        overlong_penalty(lengths, 100, 101)
