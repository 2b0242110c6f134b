"""Rate function, cumulants and Renyi cross entropy: known answers and definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from finite_problems import P, R, problems
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.errors import UsageError
from fairlead.theory.problems import relative_entropy
from fairlead.theory.rates import cumulant, rate, renyi_cross_entropy, scaled_cumulant
from fairlead.theory.tilting import tilt, tilt_at_kl

P2, Q2 = (0.7, 0.3), np.array((0.4, 0.6))


@pytest.mark.parametrize(("x", "nats"), [(-0.8, 0.1067851), (-0.7, 0.0007089), (-0.6, 0.1503613)])
def test_the_rate_on_paper(x, nats):
    at = tilt_at_kl(P2, np.log(Q2), 0.1)
    assert (at.alpha, at.reward) == pytest.approx((2.2340543, -0.7076266), abs=1e-7)
    assert at.phi == pytest.approx((0.4853709, 0.5146291), abs=1e-7)
    assert rate(P2, np.log(Q2), at.alpha, x) == pytest.approx(nats, abs=1e-7)


@pytest.mark.parametrize(("order", "nats"), [(0.5, 0.8030420), (2, 0.7765288), (3, 0.7570639), (1, 0.7946512)])
def test_renyi_cross_entropies_on_paper(order, nats):
    assert renyi_cross_entropy(P2, Q2, order) == pytest.approx(nats, abs=1e-7)


@pytest.mark.parametrize("s", [-0.5, 0.3, 2.0])
def test_cumulants_are_renyi_cross_entropies(s):
    assert cumulant(P2, np.log(Q2), s) == pytest.approx(-s * renyi_cross_entropy(P2, Q2, 1 + s))
    assert renyi_cross_entropy(P2, Q2, 1 + 1e-7) == pytest.approx(renyi_cross_entropy(P2, Q2, 1), abs=1e-6)


def test_the_scaled_cumulant_is_one_of_the_tilt():
    at = tilt(P, R, 0.6)
    assert scaled_cumulant(P, R, 0.6, 0.4) == pytest.approx(math.log(at.phi @ np.exp(0.4 * np.array(R))))


@settings(deadline=None, max_examples=40)
@given(problems(), st.floats(-1, 1), st.floats(0.02, 0.98))
def test_the_rate_is_a_divergence_and_a_supremum(problem, alpha, share):
    p, r = problem
    x = r.min() + share * (r.max() - r.min())
    found = rate(p, r, alpha, x)
    assert found >= 0
    ts = np.linspace(-20, 20, 81)
    legendre = max(t * x - scaled_cumulant(p, r, alpha, t) for t in ts)
    assert found >= legendre - 1e-8
    assert rate(p, r, alpha, tilt(p, r, alpha).reward) == pytest.approx(0, abs=1e-9)


def test_the_rate_is_the_divergence_of_the_tilt_with_that_mean():
    s, alpha = 1.3, 0.4
    there = tilt(P, R, s)
    expected = relative_entropy(there.phi, tilt(P, R, alpha).phi)
    assert rate(P, R, alpha, there.reward) == pytest.approx(expected, abs=1e-10)


def test_the_ends():
    at = tilt(P, R, 0.4)
    assert rate(P, R, 0.4, 3) == pytest.approx(-math.log(at.phi[3]))
    assert rate(P, R, 0.4, 0) == pytest.approx(-math.log(at.phi[0]))
    assert rate(P, R, 0.4, 3.0001) == math.inf
    assert rate(P, R, 0.4, 3 - 1e-9) == pytest.approx(-math.log(at.phi[3]), abs=1e-6)
    assert rate((0.5, 0.5), (2, 2), 1.0, 2) == 0


def test_settings_that_make_no_sense():
    with pytest.raises(UsageError, match="finite"):
        rate(P, R, 1.0, math.nan)
    with pytest.raises(UsageError, match="over one set"):
        renyi_cross_entropy(P, Q2, 2)
    with pytest.raises(UsageError, match="order"):
        renyi_cross_entropy(P2, Q2, math.inf)
