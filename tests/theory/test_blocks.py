"""Long answers: the law of their reward against enumeration, and the best of exp(n delta) against its limit."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from finite_problems import P, R

from fairlead.errors import UsageError
from fairlead.theory.best_of_n import best_of_n
from fairlead.theory.blocks import best_of_block, reward_law
from fairlead.theory.tilting import tilt_at_kl

P2, R2 = (0.7, 0.3), np.log((0.4, 0.6))


@pytest.mark.parametrize(
    ("n", "reward", "kl", "to_tilt"),
    [
        (10, -0.7490109, 0.0349741, 0.0274290),
        (50, -0.7226290, 0.0792870, 0.0128033),
        (200, -0.7127364, 0.0947110, 0.0061266),
        (1000, -0.7089933, 0.0989360, 0.0019894),
        (5000, -0.7079710, 0.0997869, 0.0005563),
    ],
)
def test_two_levels_on_paper(n, reward, kl, to_tilt):
    found = best_of_block(P2, R2, n, 0.1)
    assert (found.reward, found.kl, found.kl_to_tilt) == pytest.approx((reward, kl, to_tilt), abs=1e-7)
    assert found.tilt_reward == pytest.approx(-0.7076266, abs=1e-7)


def test_more_levels_against_enumeration():
    p = [math.prod(P[i] for i in word) for word in itertools.product(range(4), repeat=5)]
    r = [sum(R[i] for i in word) for word in itertools.product(range(4), repeat=5)]
    for alpha in (0.0, 1.2):
        sums, log_mass = reward_law(P, R, 5, alpha=alpha)
        assert sums.tolist() == list(range(16))
        for total, mass in zip(sums, np.exp(log_mass)):
            assert mass == pytest.approx(math.fsum(w for w, worth in zip(p, r) if worth == total), rel=1e-12)
    whole, found = best_of_n(p, r, math.exp(5 * 0.2)), best_of_block(P, R, 5, 0.2)
    assert (5 * found.reward, 5 * found.kl) == pytest.approx((whole.reward, whole.kl))


def test_the_best_of_many_comes_to_the_tilt():
    found = [best_of_block(P, R, n, 0.1) for n in (10, 100, 1000)]
    ideal = tilt_at_kl(P, R, 0.1)
    assert all(one.reward < ideal.reward for one in found)
    assert [one.kl for one in found] == sorted(one.kl for one in found)
    deficits = [(ideal.reward - one.reward) * one.n / math.log(one.n) for one in found]
    assert max(deficits) < 1.5 * min(deficits)
    assert found[0].kl_to_tilt > found[1].kl_to_tilt > found[2].kl_to_tilt > 0


def test_past_the_largest_kl():
    found = best_of_block(P, R, 20, 3.0)
    assert found.reward == pytest.approx(3, abs=1e-3)
    assert math.isnan(found.kl_to_tilt)
    assert best_of_block((0.5, 0.5), (1, 1), 7, 0.5).reward == 1


def test_rewards_on_a_lattice_that_is_not_of_whole_numbers():
    sums, log_mass = reward_law((0.2, 0.3, 0.5), (-0.25, 0.5, 2.75), 3)
    assert sums[0] == pytest.approx(-0.75)
    assert np.exp(log_mass).sum() == pytest.approx(1)
    assert np.exp(log_mass) @ sums == pytest.approx(3 * (-0.05 + 0.15 + 1.375))


def test_what_cannot_be_worked_out():
    with pytest.raises(UsageError, match="no lattice"):
        reward_law((0.2, 0.3, 0.5), (0, 1, math.pi * 1000.123456), 3)
    with pytest.raises(UsageError, match="fewer symbols"):
        reward_law(P, R, 100_000)
    with pytest.raises(UsageError, match="0 symbols"):
        reward_law(P, R, 0)
    with pytest.raises(UsageError, match="delta is -1"):
        best_of_block(P, R, 5, -1)
