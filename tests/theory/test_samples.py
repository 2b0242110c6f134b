"""Estimators from rewards: known answers, all subsets counted out, and draws from a problem that is known exactly."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from finite_problems import P, R

from fairlead.errors import DataError, UsageError
from fairlead.estimates import pass_at_k
from fairlead.theory.best_of_n import best_of_n, kl_bound
from fairlead.theory.samples import (
    best_frontier,
    effective_size,
    kl_of_best,
    log_ratios,
    policy_distance,
    reward_of_best,
    reward_of_best_error,
    sampled_tilt,
    tilt_curve,
    win_rate_of_best,
)
from fairlead.theory.tilting import tilt


@pytest.fixture(scope="module")
def drawn() -> np.ndarray:
    return np.random.default_rng(5).choice(4, p=P, size=(400, 128)).astype(float)


def test_on_paper():
    assert reward_of_best([1, 2, 3, 4], 2) == pytest.approx([3.3333333], abs=1e-7)
    assert reward_of_best([0.2, -1, 3, 0.5, 0.5, 1.7], 3) == pytest.approx([2.11])


def test_it_is_the_mean_over_all_subsets_and_pass_at_k():
    rewards = np.random.default_rng(0).normal(size=9)
    for n in (1, 3, 9):
        expected = np.mean([max(part) for part in itertools.combinations(rewards, n)])
        assert reward_of_best(rewards, n) == pytest.approx([expected])
    solved = [1.0] * 4 + [0.0] * 6
    assert reward_of_best(solved, 3) == pytest.approx([pass_at_k(10, 4, 3)])


def test_the_jackknife_is_the_one_with_every_draw_left_out():
    rewards = np.random.default_rng(1).normal(size=12)
    without = np.array([reward_of_best(np.delete(rewards, k), 4)[0] for k in range(12)])
    expected = math.sqrt(11 / 12 * ((without - without.mean()) ** 2).sum())
    assert reward_of_best_error(rewards, 4) == pytest.approx([expected])
    assert np.isnan(reward_of_best_error(rewards, 12)).all()


@pytest.mark.parametrize("n", [1, 2, 4, 16, 32])
def test_draws_of_a_known_problem(drawn, n):
    exact = best_of_n(P, R, n)
    checks = (
        (reward_of_best(drawn, n), exact.reward),
        (kl_of_best(drawn, n), exact.kl),
        (win_rate_of_best(drawn, n), exact.win_rate),
    )
    for found, truth in checks:
        error = found.std() / math.sqrt(len(found))
        assert abs(found.mean() - truth) <= 3.5 * error + 2e-3
    if 1 < n <= 16:
        spread = reward_of_best(drawn, n).std()
        assert math.sqrt((reward_of_best_error(drawn, n) ** 2).mean()) == pytest.approx(spread, rel=0.12)


def test_rewards_without_ties_have_the_kl_of_the_bound():
    rewards = np.random.default_rng(2).normal(size=(3, 64))
    for n in (2, 4, 16):
        assert kl_of_best(rewards, n) == pytest.approx([kl_bound(n)] * 3, abs=4e-3)
    assert kl_of_best(np.ones(64), 8) == pytest.approx([0])


def test_the_frontier_is_its_points(drawn):
    found = best_frontier(drawn[:50])
    assert found.along.tolist() == sorted(set(found.along.tolist()))
    assert (found.along[0], found.along[-1]) == (1, 32)
    place = found.along.tolist().index(4)
    assert found.reward[place] == pytest.approx(reward_of_best(drawn[:50], 4).mean())
    assert found.kl[place] == pytest.approx(kl_of_best(drawn[:50], 4).mean())
    assert found.kl[0] == 0


def test_log_ratios_of_the_chosen_average_to_the_kl(drawn):
    exact = best_of_n(P, R, 4)
    chosen = np.random.default_rng(3).choice(4, p=exact.phi, size=20_000)
    assert log_ratios(drawn.ravel(), chosen, 4).mean() == pytest.approx(exact.kl, abs=0.02)
    assert log_ratios([0.0] * 40 + [1.0] * 10, [7.0], 4) == pytest.approx([math.log(4)])


def test_the_tilt_from_samples(drawn):
    reward, kl, effective = sampled_tilt(drawn, 0.5)
    exact = tilt(P, R, 0.5)
    assert (reward, kl) == (pytest.approx(exact.reward, abs=0.02), pytest.approx(exact.kl, abs=0.01))
    assert 50 <= effective < 128
    found = tilt_curve(drawn)
    assert found.effective[-1] == pytest.approx(50, abs=0.1)
    assert (np.diff(found.kl) > 0).all()
    assert found.reward[0] == pytest.approx(drawn.mean())
    with pytest.raises(UsageError, match="still count"):
        sampled_tilt(drawn, 1.05 * found.alpha[-1])
    assert tilt_curve(np.ones((2, 64))).kl.tolist() == [0.0]


def test_weights_that_say_as_much():
    assert effective_size((1, 1, 1, 1, 6)) == pytest.approx(2.5)
    assert effective_size(np.full(7, 1e-200)) == pytest.approx(7)
    with pytest.raises(UsageError, match="all 0"):
        effective_size((0, 0))


def test_a_tilted_policy_is_found_at_its_tilt():
    rng = np.random.default_rng(4)
    truth = tilt(P, R, 0.8)
    prompts = np.repeat(np.arange(50), 40)
    said = rng.choice(4, p=truth.phi, size=len(prompts))
    ratio = np.log(truth.phi / np.array(P))[said]
    base = rng.choice(4, p=P, size=(50, 400)).astype(float)
    found = policy_distance(ratio, said.astype(float), base, prompts=prompts)
    assert found.alpha == pytest.approx(0.8)
    assert (found.kl, found.reward) == (pytest.approx(truth.kl, abs=0.05), pytest.approx(truth.reward, abs=0.08))
    assert found.distance == pytest.approx(0, abs=0.02)
    other = np.array((0.4, 0.2, 0.2, 0.2))
    said = rng.choice(4, p=other, size=len(prompts))
    found = policy_distance(np.log(other / np.array(P))[said], said.astype(float), base, prompts=prompts)
    ideal = tilt(P, R, found.alpha).phi
    assert found.distance == pytest.approx(other @ np.log(other / ideal), abs=0.02)


def test_too_few_and_not_finite():
    with pytest.raises(UsageError, match="49 draws per prompt"):
        tilt_curve(np.zeros((3, 49)))
    with pytest.raises(DataError, match="draw 2 of prompt 1"):
        reward_of_best([[1.0, np.nan], [1.0, 2.0]], 1)
    with pytest.raises(UsageError, match="best of 5 among 4"):
        reward_of_best([1, 2, 3, 4], 5)
    with pytest.raises(UsageError, match="one of each per answer"):
        policy_distance([0.0], [1.0], np.zeros((1, 50)), prompts=[0])
