"""Win rates of ranks and of finite distributions: known answers, identities, and an estimator without bias."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.errors import UsageError
from fairlead.theory.win_rates import (
    POINTS,
    Ranks,
    finite_win_rate,
    mean_ranks,
    mid_ranks,
    order_weights,
    sample_win_rate,
    tilt_ranks,
    win_rates,
)

GRID = np.linspace(0.0, 1.0, POINTS)
BASE, POLICY, VALUES = (0.5, 0.3, 0.2), (0.2, 0.3, 0.5), (0.0, 1.0, 2.0)


def near(value, tolerance=1e-4):
    return pytest.approx(value, abs=tolerance)


def test_the_identity_at_beta_one():
    found = win_rates(tilt_ranks(GRID, 1.0))
    assert found.standard == near(0.5819767) == near(1.0 - 1.0 + 1 / (math.e - 1))
    assert (found.kl, found.best, found.worst) == (near(0.0406519), near(0.603559), near(0.614065))


@pytest.mark.parametrize("n", [1, 2, 4, 16])
def test_a_policy_that_is_its_base_wins_half(n):
    found = win_rates(Ranks.of_cdf(GRID), n)
    assert (found.kl, found.standard, found.best, found.worst) == (near(0), near(0.5), near(0.5), near(0.5))


@pytest.mark.parametrize("n", [2, 4, 8])
def test_best_of_n_as_a_policy(n):
    found = Ranks.of_cdf(GRID**n)
    assert found.win_rate() == near(n / (n + 1))
    assert found.kl == near(math.log(n) - (n - 1) / n)
    assert [found.win_rate(m) for m in (2, 5)] == [near(n / (n + 1))] * 2


def test_a_best_of_n_beats_single_draws_as_the_policy_best_of_n_does():
    """Draws of the two sides may differ in number."""
    plain = Ranks.of_cdf(GRID)
    assert plain.win_rate(4, 1) == near(0.8)
    assert plain.win_rate(1, 4) == near(0.2)
    assert plain.win_rate(4, 1, "worst") == near(0.2)
    for n, m in ((2, 3), (5, 1)):
        assert finite_win_rate(BASE, BASE, VALUES, n, m) == near(1 - finite_win_rate(BASE, BASE, VALUES, m, n), 1e-12)


def test_finite_distributions():
    assert finite_win_rate(POLICY, BASE, VALUES) == near(0.695, 1e-12)
    assert finite_win_rate(POLICY, BASE, VALUES, 2) == near(0.71345, 1e-12)
    assert finite_win_rate(POLICY, BASE, VALUES, 4) == near(0.675175, 1e-6)
    ranks = mean_ranks(VALUES, BASE)
    assert ranks.tolist() == pytest.approx([0.25, 0.65, 0.9])
    assert ranks @ BASE == near(0.5, 1e-12)
    assert ranks @ POLICY == near(0.695, 1e-12)
    tilted = np.array(BASE) * np.exp(ranks / 0.5)
    tilted /= tilted.sum()
    assert tilted.tolist() == pytest.approx([0.262947, 0.351120, 0.385933], abs=1e-6)
    assert tilted @ np.log(tilted / BASE) == near(0.139954, 1e-6)
    assert finite_win_rate(tilted, BASE, VALUES) == near(0.641304, 1e-6)
    assert finite_win_rate(tilted, BASE, VALUES, 4) == near(0.637170, 1e-6)


def test_equal_rewards_are_one_outcome():
    assert mean_ranks([1.0, 3.0, 1.0], [0.25, 0.5, 0.25]).tolist() == [0.25, 0.75, 0.25]
    split = finite_win_rate([0.1, 0.3, 0.6], [0.4, 0.2, 0.4], [1.0, 1.0, 2.0], 3)
    assert split == near(finite_win_rate([0.4, 0.6], [0.6, 0.4], [1.0, 2.0], 3), 1e-12)


@pytest.mark.parametrize("keep", ["best", "worst"])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 2), (3, 1)])
def test_finite_is_the_sum_over_all_draws(keep, n, m):
    choose = max if keep == "best" else min
    total = 0.0
    for ours in itertools.product(range(3), repeat=n):
        for theirs in itertools.product(range(3), repeat=m):
            chance = math.prod(POLICY[i] for i in ours) * math.prod(BASE[j] for j in theirs)
            a, b = choose(ours), choose(theirs)
            total += chance * (1.0 if a > b else 0.5 if a == b else 0.0)
    assert finite_win_rate(POLICY, BASE, VALUES, n, m, keep) == near(total, 1e-12)


def test_many_outcomes_come_near_the_continuum():
    values = np.arange(2000.0)
    base = np.full(2000, 1 / 2000)
    policy = np.exp((values / 2000 - 1) / 0.3)
    policy /= policy.sum()
    smooth = tilt_ranks(GRID, 0.3)
    assert finite_win_rate(policy, base, values, 4) == near(smooth.win_rate(4), 1e-3)
    assert finite_win_rate(policy, base, values, 4, keep="worst") == near(smooth.win_rate(4, keep="worst"), 1e-3)


def test_ranks_among_rollouts():
    rollouts = np.array([0.1, 1.5, 2.0, 1.0])
    assert mid_ranks(1.5, rollouts) == 0.625
    assert mid_ranks(np.exp(1.5), np.exp(rollouts)) == 0.625
    assert mid_ranks([0.0, 9.0], rollouts).tolist() == [0.0, 1.0]


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12))
def test_the_bases_own_answers_rank_one_half_on_average(values):
    assert mid_ranks(values, values).mean() == pytest.approx(0.5)


def test_unbiased_from_samples_is_the_mean_over_all_choices():
    ours, theirs = (0.1, 0.5, 0.9, 1.2), (0.2, 0.5, 0.6, 0.8)
    assert sample_win_rate(ours, theirs, 2) == near(0.8472222, 1e-7)
    for keep, choose in (("best", max), ("worst", min)):
        pairs = itertools.product(itertools.combinations(ours, 3), itertools.combinations(theirs, 2))
        wins = [0.5 + 0.5 * np.sign(choose(a) - choose(b)) for a, b in pairs]
        assert sample_win_rate(ours, theirs, 3, 2, keep) == near(np.mean(wins), 1e-12)


def test_samples_estimate_without_bias():
    rng = np.random.default_rng(0)
    found = [
        sample_win_rate(rng.choice(3, 6, p=POLICY), rng.choice(3, 6, p=BASE), 4, keep="worst") for _ in range(4000)
    ]
    exact = finite_win_rate(POLICY, BASE, VALUES, 4, keep="worst")
    assert abs(np.mean(found) - exact) < 4 * np.std(found) / math.sqrt(len(found))


@settings(max_examples=40)
@given(st.integers(1, 9), st.integers(1, 9))
def test_weights_of_sorted_samples_are_chances(samples, n):
    if n > samples:
        with pytest.raises(UsageError, match="at least n samples"):
            order_weights(samples, n)
        return
    best, worst = order_weights(samples, n), order_weights(samples, n, "worst")
    assert best.sum() == pytest.approx(1)
    assert best.tolist() == worst[::-1].tolist()


def test_what_makes_no_sense():
    for bad in (0.0, -1.0, math.inf):
        with pytest.raises(UsageError, match="beta"):
            tilt_ranks(GRID, bad)
    with pytest.raises(UsageError, match="1 draw"):
        Ranks.of_cdf(GRID).win_rate(0)
    with pytest.raises(UsageError, match="sum to"):
        finite_win_rate((0.5, 0.6), (0.5, 0.5), (0, 1))
    with pytest.raises(UsageError, match="one for each"):
        finite_win_rate((0.5, 0.5), (0.5, 0.5), (0, 1, 2))
    with pytest.raises(UsageError, match="at least one"):
        mid_ranks([1.0], [])
