"""Transforms of ranks: the published values at matched KL, their order, the fixed points, and what scaling keeps."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest

from fairlead.errors import UnknownNameError, UsageError
from fairlead.theory.transforms import KINDS, Transform, fixed_point, matched, trace
from fairlead.theory.win_rates import tilt_ranks, win_rates

POINTS = 4001


@cache
def at(kind: str, kl: float):
    transform, beta = matched(Transform(kind, beta=1.0), kl, POINTS)
    return beta, win_rates(transform.ranks(beta, POINTS))


KNOWN = {
    ("identity", 0.5): (0.24281, 0.77373, 0.79983, 0.88599),
    ("exp", 0.5): (7011.9, 0.71174, 0.87151, 0.67629),
    ("log", 0.5): (0.43207, 0.76822, 0.76822, 0.92705),
    ("neg_exp", 0.5): (0.011511, 0.73579, 0.68594, 0.94762),
    ("best_of_n", 0.5): (0.21662, 0.70246, 0.87325, None),
    ("worst_of_n", 0.5): (0.20842, None, None, 0.94789),
    ("identity", 1.0): (None, 0.86458, 0.87700, 0.97446),
    ("exp", 1.0): (None, None, 0.93510, None),
    ("best_of_n", 1.0): (None, None, 0.94112, None),
    ("neg_exp", 1.0): (None, None, None, 0.99267),
    ("worst_of_n", 1.0): (None, None, None, 0.99295),
}


@pytest.mark.parametrize(("kind", "kl"), KNOWN)
def test_win_rates_at_matched_kl(kind, kl):
    beta, found = at(kind, kl)
    assert found.kl == pytest.approx(kl, abs=1e-6)
    for value, known in zip((beta, found.standard, found.best, found.worst), KNOWN[kind, kl], strict=True):
        if known is not None:
            assert value == pytest.approx(known, abs=1e-4, rel=1e-3 if value is beta else None)


@pytest.mark.parametrize("kl", [0.5, 1.0])
def test_each_is_best_at_what_it_is_for(kl):
    found = {kind: at(kind, kl)[1] for kind in KINDS}
    assert found["best_of_n"].best >= found["exp"].best > found["identity"].best
    assert found["worst_of_n"].worst >= found["neg_exp"].worst > found["identity"].worst
    assert max(found, key=lambda kind: found[kind].standard) == "identity"


def test_the_log_is_best_of_n():
    found = Transform("log").ranks(1 / 3)
    np.testing.assert_allclose(found.cdf, found.grid**4, atol=1e-6)


def test_one_draw_is_the_identity():
    np.testing.assert_allclose(
        fixed_point(1, 0.4, points=801).cdf, Transform("identity").ranks(0.4, 801).cdf, atol=1e-9
    )


@pytest.mark.parametrize(("keep", "n", "base_n"), [("best", 4, 4), ("worst", 4, 4), ("best", 2, 5), ("worst", 3, 1)])
def test_a_fixed_point_cannot_be_bettered(keep, n, base_n):
    """Win rate less beta KL falls in every direction from it."""
    beta, points = 0.2, 801
    best = fixed_point(n, beta, keep, base_n, points)

    def worth(ranks):
        return ranks.win_rate(n, base_n, keep) - beta * ranks.kl

    for shift in (lambda u: u, lambda u: -u, lambda u: np.cos(7 * u), lambda u: np.sin(5 * u)):
        moved = tilt_ranks(np.log(best.density) + 0.05 * shift(best.grid), 1.0)
        assert worth(moved) < worth(best)


@pytest.mark.parametrize("kind", KINDS)
def test_scaling_keeps_the_policy(kind):
    transform = Transform(kind, sharpness=5.0, beta=0.3, least=0.01)
    grid = np.linspace(0, 1, 501)
    scaled = transform.normalised(grid)
    assert (scaled.min(), scaled.max()) == (0.0, 1.0)
    assert (np.diff(scaled) >= 0).all()
    np.testing.assert_allclose(
        tilt_ranks(scaled, 0.2).density, tilt_ranks(transform(grid), 0.2 * transform.width).density, rtol=1e-9
    )


def test_formulas():
    ranks = np.array([0.0, 0.25, 1.0])
    assert Transform("identity")(ranks).tolist() == ranks.tolist()
    assert Transform("exp", sharpness=2.0)(ranks).tolist() == pytest.approx([1, math.exp(0.5), math.exp(2)])
    assert Transform("neg_exp", sharpness=2.0)(ranks).tolist() == pytest.approx([-1, -math.exp(-0.5), -math.exp(-2)])
    assert Transform("log", least=0.005)(ranks).tolist() == pytest.approx([math.log(0.005), math.log(0.25), 0])


def test_a_trace_leads_from_the_base_to_the_last_kl():
    for kind in ("identity", "exp", "worst_of_n"):
        found = trace(Transform(kind, beta=1.0), most=0.8, steps=6, points=801)
        kls = [one.kl for one in found]
        assert kls[0] == pytest.approx(0, abs=1e-9)
        assert kls == sorted(kls)
        assert kls[1] < 0.05
        assert kls[-1] == pytest.approx(0.8, abs=1e-4)
        assert [one.standard for one in found] == sorted(one.standard for one in found)


def test_what_makes_no_sense():
    with pytest.raises(UnknownNameError, match="identity"):
        Transform("identty")
    for bad in ({"sharpness": 0}, {"n": 0}, {"least": 1.0}, {"beta": 0.0}):
        with pytest.raises(UsageError, match=next(iter(bad))):
            Transform(**bad)
    with pytest.raises(UsageError, match="depends on beta"):
        Transform("best_of_n")
    with pytest.raises(UsageError, match="depends on beta"):
        Transform("exp").ranks()
    with pytest.raises(UsageError, match="no least value"):
        Transform("log").normalised([0.5])
    with pytest.raises(UsageError, match="or more points"):
        fixed_point(4, 1e-3, points=801)
    with pytest.raises(UsageError, match="cannot reach"):
        matched(Transform("worst_of_n", n=8, beta=1.0), 3.0, POINTS)
    least = trace(Transform("worst_of_n", n=8, beta=1.0), 8, most=3.0, steps=4, points=POINTS)
    assert 0.5 < least[-1].kl < 3.0
    for bad in (0.0, 50.0):
        with pytest.raises(UsageError, match="KL"):
            matched(Transform("identity"), bad)
