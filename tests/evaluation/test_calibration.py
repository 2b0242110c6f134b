"""Calibration: known answers, what resamples cover, silence of the unsure, entropy of meanings."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.errors import DataError, UsageError
from fairlead.evaluation.calibration import (
    brier_scores,
    calibration_error,
    estimate_calibration_error,
    log_losses,
    meaning_entropy,
    ranking_quality,
    reliability,
    risk_coverage,
)

CHANCES = [0.95, 0.85, 0.75, 0.65, 0.55, 0.92, 0.62, 0.58]
HAPPENED = [1, 1, 0, 1, 0, 1, 0, 1]


def test_known_scores():
    assert calibration_error(CHANCES, HAPPENED, bins=10) == pytest.approx(0.17875, abs=1e-9)
    assert brier_scores(CHANCES, HAPPENED).mean() == pytest.approx(0.1974625, abs=1e-9)
    assert log_losses(CHANCES, HAPPENED).mean() == pytest.approx(0.5531363, abs=1e-7)


def test_bins_have_equal_width_and_the_last_holds_one():
    told, share, cases = reliability([0.0, 0.05, 0.1, 0.999, 1.0], [0, 1, 1, 1, 1], bins=10)
    assert cases.tolist() == [2, 1, *[0] * 6, 0, 2]
    assert told[[0, 1, 9]] == pytest.approx([0.025, 0.1, 0.9995])
    assert share[[0, 1, 9]].tolist() == [0.5, 1, 1]
    assert np.isnan(told[5])
    assert np.isnan(share[5])


def test_an_interval_holds_the_error_and_repeats():
    rng = np.random.default_rng(0)
    told = rng.random(400)
    honest = (rng.random(400) < told).astype(float)
    found = estimate_calibration_error(told, honest, seed=1)
    assert found == estimate_calibration_error(told, honest, seed=1)
    assert found != estimate_calibration_error(told, honest, seed=2)
    assert found.low <= found.value <= found.high < 0.12
    boasting = estimate_calibration_error(np.full(400, 0.99), honest)
    assert boasting.low > 0.4
    assert math.isnan(estimate_calibration_error([0.5], [1]).low)
    assert math.isnan(calibration_error([], []))


def test_certainty_that_fails_costs_much_and_is_finite():
    assert log_losses([0.0], [1]) == pytest.approx([-math.log(1e-12)])
    assert brier_scores([0.0], [1]) == pytest.approx([1])


def test_risk_falls_where_confidence_means_something():
    coverage, risk = risk_coverage([3, 1, 2, 0], [1, 0, 1, 0])
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert risk == pytest.approx([0, 0, 1 / 3, 0.5])
    _, even = risk_coverage([1, 1, 1, 1], [1, 0, 0, 1])
    assert even == pytest.approx([0.5] * 4)  # whose cases come first says nothing


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(6)))
def test_the_order_of_cases_does_not_matter(order):
    sure, right = np.array([1, 1, 2, 3, 3, 0.5]), np.array([0, 1, 1, 1, 0, 0])
    assert risk_coverage(sure[order], right[order])[1] == pytest.approx(risk_coverage(sure, right)[1])
    assert ranking_quality(sure[order], right[order]) == ranking_quality(sure, right)


def test_ranking_counts_ties_half():
    assert ranking_quality([3, 2, 1], [1, 0, 0]) == 1
    assert ranking_quality([1, 1], [1, 0]) == 0.5
    assert ranking_quality([1, 2, 2, 3], [0, 1, 0, 0]) == pytest.approx(0.5)
    assert math.isnan(ranking_quality([1, 2], [1, 1]))


def test_entropy_of_meanings():
    assert meaning_entropy(["a", "a", "a", "b", "c"]) == pytest.approx(0.9502705, abs=1e-7)
    assert meaning_entropy(["a"] * 5) == 0
    assert meaning_entropy([1, 2]) == pytest.approx(math.log(2))
    assert math.isnan(meaning_entropy([]))


def test_what_is_no_chance_is_named():
    with pytest.raises(DataError, match=r"case 1: a chance of 1\.2"):
        brier_scores([0.5, 1.2], [1, 0])
    with pytest.raises(DataError, match="neither 0 nor 1"):
        log_losses([0.5], [0.5])
    with pytest.raises(UsageError, match="one outcome"):
        calibration_error([0.5], [1, 0])
    with pytest.raises(UsageError, match="one outcome"):
        risk_coverage([0.5], [1, 0])
    with pytest.raises(UsageError, match="0 bins"):
        reliability([0.5], [1], bins=0)
