"""The two laws of steering: bounds worked out by hand, curves found again, the strength that they name."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fairlead.errors import UsageError
from fairlead.evaluation.tradeoff_curves import (
    AlignmentFit,
    HelpfulnessFit,
    best_coefficient,
    fit_alignment,
    fit_helpfulness,
)

GRID = np.arange(-5, 5.01, 0.25)


def behaviour(r, logits, projections, aligned):
    """The mean of +1 over aligned and -1 over other answers, whose logits move along their projections."""
    chances = np.exp(np.array(logits) + r * np.array(projections))
    return float((chances * np.where(np.isin(np.arange(len(logits)), aligned), 1, -1)).sum() / chances.sum())


def test_alignment_is_bounded_by_the_curve():
    logits, projections, aligned = (0.3, -0.1, 0.8, 0.2), (1, 1.4, -1, -1.2), (0, 1)
    start = behaviour(0, logits, projections, aligned)
    assert start == pytest.approx(-0.209106, abs=1e-6)
    margin = (min(projections[:2]) - max(projections[2:])) / 2
    bound = AlignmentFit(margin, math.atanh(start))
    for r, value, least in (
        (0.25, 0.067049, 0.037746),
        (0.5, 0.334136, 0.280075),
        (1, 0.721623, 0.657140),
        (2, 0.967387, 0.945524),
    ):
        assert behaviour(r, logits, projections, aligned) == pytest.approx(value, abs=1e-6)
        assert float(bound(r)) == pytest.approx(least, abs=1e-6)
        assert value >= least
        assert behaviour(-r, logits, projections, aligned) <= float(bound(-r))
    h = 1e-5
    slopes = [(f(h) - f(-h)) / (2 * h) for f in (lambda r: behaviour(r, logits, projections, aligned), bound)]
    assert slopes == pytest.approx([1.066913, 0.956275], abs=1e-5)


def test_two_answers_follow_the_curve_exactly():
    start = behaviour(0, (0.3, 1.1), (0.7, -0.5), (0,))
    curve = AlignmentFit((0.7 + 0.5) / 2, math.atanh(start))
    assert float(curve(1.5)) == pytest.approx(0.462117, abs=1e-6)
    assert behaviour(1.5, (0.3, 1.1), (0.7, -0.5), (0,)) == pytest.approx(float(curve(1.5)), abs=1e-12)


def test_helpfulness_is_bounded_by_the_curve():
    """Two wrong answers whose logits move by +-0.5 r: the mean growth of their odds is a cosh."""
    bound = HelpfulnessFit(0.6, 0.5)

    def true(r):
        return 0.6 / (0.6 + 0.4 * math.cosh(0.5 * r))

    for r, value, most in ((0.5, 0.592554, 0.592593), (1, 0.570858, 0.571429), (2, 0.492922, 0.5)):
        assert true(r) == pytest.approx(value, abs=1e-6)
        assert float(bound(r)) == pytest.approx(most, abs=1e-6)
        assert value < most
    h = 1e-3
    for curve in (true, bound):
        assert (curve(h) - 2 * curve(0) + curve(-h)) / h**2 == pytest.approx(-0.06, abs=1e-5)


def test_exact_curves_are_found_again():
    helpful = HelpfulnessFit(0.6, 0.5)
    fit = fit_helpfulness(GRID, helpful(GRID))
    assert 1 / fit.start - 1 == pytest.approx(2 / 3, abs=1e-6)
    assert fit.rate == pytest.approx(0.5, abs=1e-6)
    assert fit.r2 == pytest.approx(1)
    aligned = fit_alignment(GRID, AlignmentFit(0.7, -0.4)(GRID))
    assert (aligned.slope, aligned.offset, aligned.r2) == pytest.approx((0.7, -0.4, 1), abs=1e-6)


def test_noise_lowers_what_is_explained():
    noise = np.random.default_rng(0).normal(0, 0.05, len(GRID))
    fit = fit_alignment(GRID, AlignmentFit(0.7, -0.4)(GRID) + noise)
    assert 0.98 < fit.r2 < 0.999
    assert fit.slope == pytest.approx(0.7, abs=0.1)
    flat = fit_helpfulness(GRID, np.full(len(GRID), 0.5) + noise / 100)
    assert flat.r2 < 0.2
    assert math.isnan(fit_helpfulness(GRID, np.full(len(GRID), 0.5)).r2)
    rising = fit_helpfulness(GRID, 0.3 + 0.02 * np.abs(GRID))
    assert rising.rate == pytest.approx(0, abs=1e-3)  # helpfulness cannot grow with the coefficient
    assert rising.r2 <= 0.01


def test_the_strength_that_costs_a_given_probability():
    curve = HelpfulnessFit(0.6, 0.5)
    assert curve.reach(0.01) == pytest.approx(0.58222, abs=1e-5)
    assert float(curve(curve.reach(0.01))) == pytest.approx(0.59)
    assert math.sqrt(2 * 0.01 / (0.6 * 0.4)) / 0.5 == pytest.approx(0.57735, abs=1e-5)  # its quadratic approximation
    assert HelpfulnessFit(0.6, 0.0).reach(0.01) == math.inf
    with pytest.raises(UsageError, match=r"a loss of 0\.6 from 0\.6"):
        curve.reach(0.6)


def test_the_strength_of_most_use():
    aligned, helpful = AlignmentFit(1.0, 0.0), HelpfulnessFit(0.75, 0.5)
    r, value = best_coefficient(aligned, helpful, -5, 5)
    assert (r, value) == pytest.approx((1.82786, 0.644881), abs=1e-5)
    at_the_end, _ = best_coefficient(aligned, helpful, -1, 1)
    assert at_the_end == pytest.approx(1, abs=1e-6)


def test_what_gives_no_curve():
    with pytest.raises(UsageError, match="2 different coefficients"):
        fit_alignment([0, 1, 1], [0, 0.5, 0.6])
    with pytest.raises(UsageError, match="give no curve"):
        fit_helpfulness([0, 1, 2], [0.5, 0.4])
    with pytest.raises(UsageError, match="no odds"):
        fit_helpfulness([0, 1, 2], [0.5, 0.4, 0.0])
