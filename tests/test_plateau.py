"""Plateaus: published fits, intervals that hold, and data from which no plateau may be claimed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fairlead.errors import UsageError
from fairlead.plateau import Plateau, draw_growth, fit_plateau, study_growth

SIZES = np.array([0, 1, 2, 5, 10, 25, 50, 100.0])
NOISY = ([0, 1, 2, 4, 7, 12, 20], [50, 58.2, 61.9, 66.5, 68.4, 69.2, 69.3])


@pytest.fixture(scope="module")
def noisy():
    return study_growth(*NOISY)


def test_an_exact_curve_is_found_again():
    fit = fit_plateau(SIZES, 70 - 30 * np.exp(-0.08 * SIZES))
    assert (fit.ceiling, fit.start, fit.rate, fit.r2) == pytest.approx((70, 40, 0.08, 1), abs=1e-6)
    assert fit.enough(0.5) == pytest.approx(8.664340, abs=1e-5)
    assert fit.enough(0.9) == pytest.approx(28.782314, abs=1e-5)
    assert fit.enough(0.95) == pytest.approx(37.446653, abs=1e-5)
    assert fit.worth(2.4 * math.exp(-0.8)) == pytest.approx(10, abs=1e-5)
    assert fit.worth(3.0) == 0


def test_a_noisy_curve(noisy):
    fit = noisy.fit
    assert (fit.ceiling, fit.start) == pytest.approx((69.144322, 50.184896), abs=5e-6)
    assert (fit.rate, fit.r2) == pytest.approx((0.502732, 0.998453), abs=1e-6)
    assert fit.enough(0.9) == pytest.approx(4.580140, abs=1e-5)
    assert noisy.claimed
    assert min(noisy.aicc, key=noisy.aicc.get) == "plateau"
    rate, enough = noisy.parameter("rate"), noisy.enough(0.9)
    assert 0.4 < rate.low < rate.value < rate.high < 0.6
    assert enough.low == pytest.approx(math.log(10) / rate.high)
    assert noisy.at(40).low < fit.ceiling < noisy.at(40).high


def test_criteria_are_those_of_least_squares(noisy):
    left = float(np.square(np.array(NOISY[1]) - noisy.fit(NOISY[0])).sum())
    assert noisy.aicc["plateau"] == pytest.approx(7 * math.log(left / 7) + 8 + 40 / 2, abs=1e-6)
    design = np.stack([np.ones(7), np.log(np.array(NOISY[0]) + 1)], 1)
    left = float(np.linalg.lstsq(design, np.array(NOISY[1]), rcond=None)[1][0])
    assert noisy.aicc["log"] == pytest.approx(7 * math.log(left / 7) + 6 + 24 / 3, abs=1e-6)


def test_weights_count_as_repeats():
    x, y = [*NOISY[0], 7], [*NOISY[1], 68.4]
    repeated, weighted = fit_plateau(x, y), fit_plateau(*NOISY, [1, 1, 1, 1, 2, 1, 1])
    assert weighted.rate == pytest.approx(repeated.rate, rel=1e-6)
    assert weighted.ceiling == pytest.approx(repeated.ceiling, rel=1e-8)


def test_a_falling_curve_and_other_units():
    up, down = fit_plateau(*NOISY), fit_plateau(NOISY[0], -np.array(NOISY[1]))
    assert (down.rate, down.ceiling) == pytest.approx((up.rate, -up.ceiling), rel=1e-6)
    thousands = fit_plateau(1000 * np.array(NOISY[0]), NOISY[1])
    assert thousands.enough(0.9) == pytest.approx(1000 * up.enough(0.9), rel=1e-6)


@pytest.mark.parametrize(
    ("scores", "verdict", "because"),
    [
        (2 + 3 * SIZES, "not identifiable", "straight line"),
        (np.array([0, 1, 1.01, 0.99, 1, 1.01, 0.99, 1]), "not identifiable", "flat"),
        (np.ones(8), "not identifiable", "equal"),
        (5 + 2 * np.log(SIZES + 1) + 0.1 * np.cos(SIZES), "other law", "log law fits better"),
        (9 - 8 * (SIZES + 1) ** -0.5 + 0.01 * np.cos(SIZES), "other law", "power law fits better"),
    ],
)
def test_what_is_no_plateau_is_not_called_one(scores, verdict, because):
    study = study_growth(SIZES, scores)
    assert study.verdict == verdict
    assert because in study.because
    assert math.isnan(study.enough(0.95).value)


def test_a_ceiling_far_beyond_the_data_is_not_claimed():
    x = np.linspace(0, 10, 40)
    study = study_growth(x, 1 - np.exp(-0.05 * x) + 1e-5 * np.cos(np.arange(40)))
    assert study.verdict == "not reached"


def test_intervals_cover_what_comes_next():
    truth, rng = Plateau(0.5, 1.0, 0.01), np.random.default_rng(1)
    x = np.array([0, 16, 32, 64, 128, 256, 512.0])
    inside = []
    for trial in range(30):
        study = study_growth(x, truth(x) + 0.02 * rng.standard_normal(7), seed=trial, resamples=100)
        found, score = study.at(1024), float(truth(1024)) + 0.02 * rng.standard_normal()
        inside.append(found.low <= score <= found.high)
    assert sum(inside) >= 25


def test_equal_calls_are_equal_and_drawn_alike(noisy):
    again = study_growth(*NOISY)
    assert again.at(40) == noisy.at(40)
    assert draw_growth(again, beyond=40) == draw_growth(noisy, beyond=40)
    assert "plateau: plateau" in draw_growth(noisy)


@pytest.mark.parametrize(
    ("x", "y", "w", "match"),
    [
        ([0, 1, 2, 3, 3, 3], [1] * 6, None, "4 different sizes"),
        ([0, 1, 2, 3, 4], [1] * 5, None, "5 trainings"),
        (range(6), [1, 2, 3, 4, 5, math.nan], None, "that are none"),
        ([-1, *range(5)], [1] * 6, None, "that are none"),
        (range(6), range(6), [1, 1, 1, 1, 1, 0], "that are none"),
        (range(6), range(5), None, "6 sizes, 5 scores"),
    ],
)
def test_what_cannot_be_fitted_is_refused(x, y, w, match):
    with pytest.raises(UsageError, match=match):
        study_growth(list(x), list(y), w)


def test_a_confidence_of_one_is_refused():
    with pytest.raises(UsageError, match="confidence"):
        study_growth(*NOISY, confidence=1.0)
