"""The best of N: known answers, ties against brute force, bound and estimator, and what holds of every problem."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from finite_problems import P, R, problems
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.errors import UsageError
from fairlead.theory.best_of_n import (
    best_of_n,
    best_of_n_frontier,
    draws_at_kl,
    efficiency,
    kl_bound,
    kl_from_mass,
)
from fairlead.theory.problems import relative_entropy
from fairlead.theory.tilting import largest_kl, tilt_at_kl


def test_on_paper():
    two, four, many = (best_of_n(P, R, n) for n in (2, 4, 64))
    assert two.phi == pytest.approx((0.25, 0.3125, 0.2475, 0.19))
    assert (two.reward, two.win_rate) == pytest.approx((1.3775, 0.6425))
    assert (two.kl, two.kl_bound) == pytest.approx((0.1423397, 0.1931472), abs=1e-7)
    assert four.phi == pytest.approx((0.0625, 0.253906, 0.339694, 0.343900), abs=1e-6)
    assert (four.reward, four.kl, four.kl_bound) == pytest.approx((1.9649938, 0.5764190, 0.6362944), abs=1e-7)
    assert four.win_rate == pytest.approx(0.7812688, abs=1e-7)
    assert (many.kl, many.kl_bound) == pytest.approx((2.2929784, 3.1745081), abs=1e-7)


def test_ties_are_broken_among_the_draws():
    p, r = (0.3, 0.3, 0.2, 0.2), (0, 1, 1, 2)
    found = best_of_n(p, r, 3)
    assert found.phi == pytest.approx((0.027, 0.291, 0.194, 0.488))
    assert found.kl == pytest.approx(0.3555078, abs=1e-7)
    counted = np.zeros(4)
    for draws in itertools.product(range(4), repeat=3):
        best = max(r[i] for i in draws)
        tied = [i for i in draws if r[i] == best]
        for i in tied:
            counted[i] += np.prod([p[j] for j in draws]) / len(tied)
    assert found.phi == pytest.approx(counted)


def test_rounding_makes_no_levels():
    rewards = np.array([0.1 + 0.2 + 0.3, 0.3 + 0.2 + 0.1, 0.0, 1.0])
    assert rewards[0] != rewards[1]
    exact = best_of_n((0.3, 0.3, 0.2, 0.2), (0.6, 0.6, 0.0, 1.0), 5)
    assert best_of_n((0.3, 0.3, 0.2, 0.2), rewards, 5).kl == pytest.approx(exact.kl, abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(problems(), st.floats(1, 200))
def test_what_holds_of_every_problem(problem, n):
    p, r = problem
    found = best_of_n(p, r, n)
    assert found.phi.sum() == pytest.approx(1)
    assert found.kl == pytest.approx(relative_entropy(found.phi, p), abs=1e-9)
    assert found.kl <= min(kl_bound(n), largest_kl(p, r)) + 1e-9
    assert 0.5 - 1e-12 <= found.win_rate <= n / (n + 1) + 1e-12
    ideal = tilt_at_kl(p, r, found.kl)
    assert found.reward <= ideal.reward + 1e-9
    more = best_of_n(p, r, n + 1)
    assert more.reward >= found.reward - 1e-12
    assert more.kl >= found.kl - 1e-12
    assert best_of_n(p, r, 1).phi == pytest.approx(p)


def test_nothing_underflows():
    p = np.array([1 - 1e-12, 1e-12])
    found = best_of_n(p, (0, 1), 1e12)
    assert found.phi[1] == pytest.approx(-math.expm1(-1), rel=1e-9)
    # KL falls from log(m / p) at p to 0: exact at 1e-300 too.
    tiny = best_of_n((1 - 1e-15, 1e-15), (0, 1), 2)
    assert tiny.phi[1] == pytest.approx(2e-15, rel=1e-6)
    assert best_of_n((0.5, 0.5), (0, 1), 1e300).phi == pytest.approx((0, 1))


def test_a_frontier_is_its_points():
    ns = [1, 2.5, 4, 64]
    found = best_of_n_frontier(P, R, ns)
    assert found.kl == pytest.approx([best_of_n(P, R, n).kl for n in ns])
    assert found.reward == pytest.approx([best_of_n(P, R, n).reward for n in ns])


def test_an_atomless_reward_meets_the_bound():
    p = np.full(20_000, 1 / 20_000)
    for n in (2, 16):
        assert best_of_n(p, np.arange(20_000), n).kl == pytest.approx(kl_bound(n), abs=1e-5)
        assert best_of_n(p, np.arange(20_000), n).win_rate == pytest.approx(n / (n + 1), abs=1e-4)


@pytest.mark.parametrize(("n", "nats"), [(1, 0.0), (2, 0.193147), (4, 0.636294), (8, 1.204442), (16, 1.835089)])
def test_the_bound(n, nats):
    assert kl_bound(n) == pytest.approx(nats, abs=1e-6)


@pytest.mark.parametrize(
    ("mass", "n", "nats"),
    [
        (0.5, 2, 0.179099),
        (0.5, 4, 0.499124),
        (0.5, 16, 0.692991),
        (0.1, 4, 0.634870),
        (0.01, 16, 1.834948),
        (0.0, 16, 1.835089),
        (1.0, 4, 0.0),
    ],
)
def test_the_estimator_from_the_mass_of_the_chosen(mass, n, nats):
    assert kl_from_mass(mass, n) == pytest.approx(nats, abs=1e-6)


def test_the_estimator_is_exact_where_only_the_top_is_an_atom():
    fine = np.full(20_000, 0.9 / 20_000)
    found = best_of_n(np.append(fine, 0.1), np.arange(20_001), 4)
    assert found.kl == pytest.approx(kl_from_mass(0.1, 4), abs=1e-5)
    assert kl_from_mass([0.5, 0.1], 4) == pytest.approx([0.499124, 0.634870], abs=1e-6)


def test_the_draws_that_a_kl_buys():
    assert draws_at_kl(P, R, best_of_n(P, R, 3.7).kl) == pytest.approx(3.7)
    assert draws_at_kl(P, R, 0) == 1
    assert draws_at_kl(P, R, 2.4) == math.inf


def test_the_efficiency():
    found = efficiency(P, R, 4)
    assert found.tilt.kl == pytest.approx(found.best.kl)
    assert 0.9 < found.ratio < 1
    assert found.gap == pytest.approx(found.tilt.reward - found.best.reward)
    assert math.isnan(efficiency(P, R, 1).ratio)
    two = efficiency((0.7, 0.3), (0, 1), 3)  # with two levels one KL leaves one distribution
    assert two.ratio == pytest.approx(1)


@pytest.mark.parametrize("n", [0, 0.5, -1, math.nan, math.inf])
def test_less_than_one_draw(n):
    with pytest.raises(UsageError, match="the best of"):
        best_of_n(P, R, n)


def test_what_is_no_mass():
    with pytest.raises(UsageError, match="mass of an answer"):
        kl_from_mass(1.2, 4)
    with pytest.raises(UsageError, match="a KL of -1"):
        draws_at_kl(P, R, -1)
