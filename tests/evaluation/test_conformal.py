"""Conformal radii and selections: known answers, coverage and mistakes over 200 splits, bad input."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fairlead.errors import UsageError
from fairlead.evaluation.conformal import (
    conformal_p_values,
    conformal_radius,
    coverage_over_splits,
    risk_level,
    risk_over_splits,
    select,
    selection_over_splits,
)

NINE = [0.9, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
SCORES = [0.1, 0.2, 0.3, 0.35, 0.5, 0.55, 0.6, 0.7]
ALIGNED = [0, 0, 0, 1, 0, 1, 1, 1]


@pytest.mark.parametrize(("alpha", "radius"), [(0.1, 0.9), (0.2, 0.8), (0.5, 0.5), (0.7, 0.3), (0.05, math.inf)])
def test_known_radii(alpha, radius):
    assert conformal_radius(NINE, alpha) == radius


def test_known_selection():
    found = conformal_p_values(SCORES, ALIGNED, [0.9, 0.65, 0.52, 0.25, 0.05])
    assert found == pytest.approx([1 / 9, 1 / 9, 1 / 9, 1 / 3, 5 / 9])
    assert select(found, 0.2).tolist() == [True, True, True, False, False]
    assert select(found, 0.5).tolist() == [True, True, True, True, False]
    assert not select(found, 0.1).any()  # fewer than 1 / rate calibration cases can show nothing
    assert select([], 0.1).tolist() == []


def test_equal_scores_count_against_a_case():
    assert conformal_p_values([0.5, 0.4], [0, 1], [0.5]) == pytest.approx([2 / 3])


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.3])
def test_coverage_is_within_its_bound_over_200_splits(alpha):
    scores = np.random.default_rng(1).exponential(size=400)
    covered, radii = coverage_over_splits(scores, alpha, splits=200, seed=2)
    error = 3 * covered.std() / math.sqrt(200)
    assert 1 - alpha - error <= covered.mean() <= 1 - alpha + 1 / 201 + error
    assert covered.shape == radii.shape == (200,)
    assert covered.std() > 0.005  # the splits differ


def test_coverage_holds_whatever_calibrates():
    scores = np.random.default_rng(3).normal(size=300) ** 2
    for share in (0.1, 0.8):
        covered, _ = coverage_over_splits(scores, 0.1, splits=400, share=share, seed=4)
        assert covered.mean() >= 0.9 - 3 * covered.std() / 20


@pytest.mark.parametrize("rate", [0.1, 0.3])
def test_mistakes_are_within_their_rate_over_200_splits(rate):
    rng = np.random.default_rng(5)
    aligned = rng.random(600) < 0.5
    scores = rng.normal(size=600) + 1.5 * aligned
    mistakes, selected, power = selection_over_splits(scores, aligned, rate, splits=200, seed=6)
    assert mistakes.mean() <= rate + 3 * mistakes.std() / math.sqrt(200)
    assert selected.mean() > 0.05
    assert power.mean() > 0.1
    blind, *_ = selection_over_splits(rng.normal(size=600), aligned, rate, splits=200, seed=6)
    assert blind.mean() <= rate + 3 * blind.std() / math.sqrt(200)


def test_with_nothing_aligned_there_is_no_power():
    _, _, power = selection_over_splits([0.1, 0.2, 0.3], [0, 0, 0], 0.2, splits=5)
    assert np.isnan(power).all()


def test_equal_seeds_give_equal_splits():
    for one, two in zip(*(coverage_over_splits(NINE, 0.2, splits=9, seed=1) for _ in range(2)), strict=True):
        assert one.tolist() == two.tolist()


def test_bad_shares_and_sizes_are_named():
    with pytest.raises(UsageError, match="alpha"):
        conformal_radius(NINE, 0)
    with pytest.raises(UsageError, match="rate"):
        select([0.1], 1)
    with pytest.raises(UsageError, match="share"):
        coverage_over_splits(NINE, 0.1, splits=3, share=1.0)
    with pytest.raises(UsageError, match="1 cases"):
        coverage_over_splits([1.0], 0.1, splits=3)
    with pytest.raises(UsageError, match="one truth"):
        conformal_p_values([0.1, 0.2], [1], [0.3])


MEAN_LOSSES = (7, 4, 1, 0)
"""Of nine cases, in ninths."""


@pytest.mark.parametrize(("alpha", "level"), [(0.25, 2), (0.15, 3), (0.05, None)])
def test_known_levels_of_a_risk(alpha, level):
    losses = np.array([[i < hurt for hurt in MEAN_LOSSES] for i in range(9)], dtype=float)
    assert losses.mean(0) == pytest.approx([0.7778, 0.4444, 0.1111, 0], abs=1e-4)
    assert risk_level(losses, alpha) == level
    assert risk_level(10 * losses, 10 * alpha, bound=10) == level


@pytest.mark.parametrize("rate", [0.05, 0.2])
def test_a_risk_is_within_its_rate_over_200_splits(rate):
    rng = np.random.default_rng(7)
    aligned = rng.random(600) < 0.5
    scores = rng.normal(size=600) + 1.5 * aligned
    harm, shown = risk_over_splits(scores, aligned, rate, splits=200, seed=8)
    error = 3 * harm.std() / math.sqrt(200)
    assert rate - 2 / 301 - error <= harm.mean() <= rate + error
    assert shown.mean() > aligned.mean() * 0.5
    blind, _ = risk_over_splits(rng.normal(size=600), aligned, rate, splits=200, seed=8)
    assert blind.mean() <= rate + 3 * blind.std() / math.sqrt(200)


def test_a_risk_that_cannot_be_promised_shows_nothing():
    harm, shown = risk_over_splits([0.1, 0.5, 0.9, 0.7], [1, 1, 1, 1], 0.2, splits=5)
    assert harm.tolist() == shown.tolist() == [0] * 5
    _, everything = risk_over_splits(np.arange(40.0), [1] * 40, 0.2, splits=5)
    assert everything.tolist() == [1] * 5


def test_losses_that_are_none_are_named():
    with pytest.raises(UsageError, match="do not rise"):
        risk_level([[0.0, 1.0]], 0.1)
    with pytest.raises(UsageError, match="above the bound"):
        risk_level([[2.0, 1.0]], 0.1)
    with pytest.raises(UsageError, match="alpha"):
        risk_level([[1.0, 0.0]], 0.0)
