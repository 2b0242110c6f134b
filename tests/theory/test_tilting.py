"""Exponential tilts: known answers, the exact identity, limits, and what holds of every problem."""

from __future__ import annotations

import math

import numpy as np
import pytest
from finite_problems import P, R, problems
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.errors import UsageError
from fairlead.theory.best_of_n import best_of_n
from fairlead.theory.problems import relative_entropy
from fairlead.theory.tilting import (
    distance_from_tilt,
    excess,
    largest_kl,
    mismatched_tilt,
    small_alpha,
    tilt,
    tilt_at_kl,
    tilt_frontier,
)


def test_tilts_on_paper():
    one, half = tilt(P, R, 1.0), tilt(P, R, 0.5)
    assert one.phi == pytest.approx((0.116374, 0.158169, 0.257969, 0.467488), abs=1e-6)
    assert (one.reward, one.kl, one.log_partition) == pytest.approx((2.0765704, 0.6187737, 1.4577967), abs=1e-7)
    assert (half.reward, half.kl) == pytest.approx((1.4547729, 0.1574857), abs=1e-7)


def test_the_best_within_a_kl():
    found = tilt_at_kl(P, R, 0.5)
    assert (found.alpha, found.reward) == pytest.approx((0.8887882, 1.9507042), abs=1e-7)
    assert found.phi == pytest.approx((0.145597, 0.177060, 0.258385, 0.418959), abs=1e-6)
    assert tilt_at_kl(P, R, 0.1).alpha == pytest.approx(0.4030415, abs=1e-7)
    assert largest_kl(P, R) == pytest.approx(2.3025851, abs=1e-7)


def test_beyond_the_largest_kl_only_the_best_answers_are_left():
    found = tilt_at_kl((0.5, 0.2, 0.2, 0.1), (0, 1, 1, 0.5), 5.0)
    assert found.phi == pytest.approx((0, 0.5, 0.5, 0))
    assert (found.alpha, found.kl) == (math.inf, pytest.approx(-math.log(0.4)))
    assert tilt_at_kl(P, (1, 1, 1, 1), 0.3).phi == pytest.approx(P)


@pytest.mark.parametrize("phi", [best_of_n(P, R, 4).phi, (0.4, 0.2, 0.2, 0.2)])
def test_the_identity_on_paper(phi):
    ideal = tilt_at_kl(P, R, 0.5)
    left = distance_from_tilt(P, R, phi, ideal.alpha)
    right = excess(relative_entropy(phi, P), float(np.dot(phi, R)), ideal)
    assert left == pytest.approx(right, abs=1e-12)
    assert left == pytest.approx(0.0637186 if phi[0] < 0.1 else 0.2294968, abs=1e-7)


@settings(deadline=None, max_examples=60)
@given(problems(), st.floats(0.01, 3), st.data())
def test_the_identity_holds_for_every_policy(problem, alpha, data):
    p, r = problem
    weights = data.draw(st.lists(st.floats(0, 1), min_size=len(p), max_size=len(p)).filter(lambda w: sum(w) > 0.1))
    phi, ideal = np.array(weights) / sum(weights), tilt(p, r, alpha)
    right = excess(relative_entropy(phi, p), float(phi @ r), ideal)
    assert distance_from_tilt(p, r, phi, alpha) == pytest.approx(right, abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(problems(), st.floats(0.02, 0.98))
def test_no_policy_of_that_kl_has_more(problem, share):
    p, r = problem
    kl = share * largest_kl(p, r)
    ideal = tilt_at_kl(p, r, kl)
    assert ideal.kl == pytest.approx(kl, abs=1e-9)
    assert ideal.phi.sum() == pytest.approx(1)
    assert relative_entropy(ideal.phi, p) == pytest.approx(kl, abs=1e-9)
    further = tilt(p, r, 1.1 * ideal.alpha)
    assert further.kl > ideal.kl
    assert further.reward > ideal.reward


def test_alpha_is_the_price_of_reward():
    at = tilt_frontier(P, R, [0.7 - 1e-5, 0.7 + 1e-5])
    assert np.diff(at.kl)[0] / np.diff(at.reward)[0] == pytest.approx(0.7, abs=1e-6)
    assert np.diff(at.reward)[0] / 2e-5 == pytest.approx(tilt(P, R, 0.7).variance, rel=1e-5)


def test_small_tilts_follow_the_square_root_law():
    reward, kl = small_alpha(P, R, 1e-3)
    exact = tilt(P, R, 1e-3)
    assert (exact.reward, exact.kl) == (pytest.approx(reward, abs=2e-6), pytest.approx(kl, rel=2e-3))
    start, variance = tilt(P, R, 0).reward, tilt(P, R, 0).variance
    assert exact.reward - start == pytest.approx(math.sqrt(2 * exact.kl * variance), rel=2e-3)
    assert tilt(P, R, 0).kl == 0


def test_a_mismatched_tilt():
    q = (0.1, 0.2, 0.3, 0.4)
    assert mismatched_tilt((0.25,) * 4, q, 1.0).phi == pytest.approx(q)
    raised = np.array(P) * np.array(q) ** 0.5
    assert mismatched_tilt(P, q, 0.5).phi == pytest.approx(raised / raised.sum())


def test_large_rewards_do_not_overflow():
    found = tilt(P, np.array(R) * 1e4 + 1e6, 1.0)
    assert found.phi == pytest.approx((0, 0, 0, 1))
    assert found.kl == pytest.approx(2.3025851, abs=1e-7)


@pytest.mark.parametrize(
    ("p", "r", "said"),
    [
        ((0.5, 0.4), (0, 1), "sums to 0.9"),
        ((0.5, 0.5, 0.0), (0, 1, 2), r"p\[2\] is 0, not a probability above 0"),
        ((0.5, 0.5), (0, math.nan), r"r\[1\] is nan"),
        ((0.5, 0.5), (0, 1, 2), "2 probabilities and 3 rewards"),
        ((), (), "shape"),
    ],
)
def test_what_is_no_problem_is_refused(p, r, said):
    with pytest.raises(UsageError, match=said):
        tilt(p, r, 1.0)


def test_settings_that_make_no_sense():
    for call in (lambda: tilt(P, R, math.nan), lambda: tilt_at_kl(P, R, -1), lambda: tilt_at_kl(P, R, math.nan)):
        with pytest.raises(UsageError):
            call()
    with pytest.raises(UsageError, match="infinite alpha"):
        excess(1.0, 1.0, tilt_at_kl(P, R, 9))
    assert relative_entropy((1, 0), (0, 1)) == math.inf
    with pytest.raises(UsageError, match="no distribution"):
        relative_entropy((0.5, 0.4), (0.5, 0.5))
