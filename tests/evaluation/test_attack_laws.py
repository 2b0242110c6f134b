"""Success over attempts: known values of the power law and the beta-binomial, bounds, corrected rates, the curve."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fairlead.errors import UsageError
from fairlead.estimates import pass_at_k
from fairlead.evaluation.attack_curve import curve_summary
from fairlead.evaluation.attack_laws import (
    BetaBinomial,
    PowerLaw,
    attempt_grid,
    bound_of_none,
    corrected_rate,
    fit_beta,
    fit_power_law,
)


def test_the_known_power_law():
    law = PowerLaw(2.5, 0.35)
    assert [law.at(n) for n in (1, 10, 1000, 1e4)] == pytest.approx([0.082085, 0.327355, 0.800265, 0.905266], abs=1e-6)
    assert law.needed(0.9) == pytest.approx(8498.07, abs=0.01)
    assert PowerLaw(2.5, 0.0).needed(0.9) == math.inf
    with pytest.raises(UsageError, match="between 0 and 1"):
        law.needed(1.0)


def test_a_fit_recovers_the_law():
    law, along = PowerLaw(2.5, 0.35), attempt_grid(10000)
    found = fit_power_law(along, [law.at(n) for n in along])
    assert (found.a, found.b) == pytest.approx((2.5, 0.35), abs=1e-10)


def test_the_known_fit_and_its_forecasts():
    found = fit_power_law([1, 2, 5, 10, 20, 50, 100], [0.02, 0.03, 0.07, 0.11, 0.17, 0.29, 0.38], epsilon=1e-5)
    assert (found.a, found.b) == pytest.approx((4.245138, 0.308957), abs=1e-6)
    assert (found.at(1000), found.at(1e4)) == pytest.approx((0.605098, 0.781422), abs=1e-6)


def test_points_without_a_logarithm_are_left_out():
    assert fit_power_law([1, 2, 3, 4], [0.0, 0.5, 0.6, 1.0]) == fit_power_law([2, 3], [0.5, 0.6])
    assert fit_power_law([1, 2, 3], [0.0, 0.5, 1.0]) is None
    assert fit_power_law([1, 2], [0.0, 0.0]) is None


def test_the_known_beta_binomial():
    law = BetaBinomial(0.3, 5.0)
    known = [0.056604, 0.290931, 0.606867, 0.800539, 0.899907]
    assert [law.at(n) for n in (1, 10, 100, 1000, 1e4)] == pytest.approx(known, abs=2e-6)
    slope = (math.log(1 - law.at(1e6)) - math.log(1 - law.at(1e5))) / math.log(10)
    assert slope == pytest.approx(-0.3, abs=1e-3)


def test_the_known_beta_fit():
    found = fit_beta([0, 0, 0, 1, 0, 2, 0, 7, 0, 0, 1, 0], [20] * 12)
    assert (found.alpha, found.beta) == pytest.approx((0.233544, 4.868482), abs=1e-5)
    assert (found.at(20), found.at(1000)) == pytest.approx((0.326960, 0.717297), abs=1e-5)


def test_nothing_to_fit():
    assert fit_beta([0, 0], [5, 5]) is None
    assert fit_beta([5, 5], [5, 5]) is None
    assert fit_beta([1] * 30, [2] * 30) is None


def test_success_at_k():
    hits = (0, 1, 3, 10)
    at = {k: sum(pass_at_k(10, c, k) for c in hits) / 4 for k in range(1, 11)}
    assert (at[1], at[5], at[10]) == pytest.approx((0.35, 0.604167, 0.75), abs=1e-6)
    assert list(at.values()) == sorted(at.values())


def test_bounds_and_corrected_rates():
    assert bound_of_none(300) == pytest.approx(0.009936, abs=1e-6)
    assert corrected_rate(0.12, 0.9, 0.97) == pytest.approx(0.103448, abs=1e-6)
    assert corrected_rate(0.02, 0.9, 0.97) == 0
    for call in (lambda: bound_of_none(0), lambda: corrected_rate(0.5, 0.5, 0.5)):
        with pytest.raises(UsageError):
            call()


def test_the_grid():
    assert attempt_grid(1) == [1]
    assert attempt_grid(10) == list(range(1, 11))
    assert attempt_grid(35) == [*range(1, 11), 20, 30, 35]


def test_a_curve_covers_the_law_that_made_it():
    rng = np.random.default_rng(0)
    chances = rng.beta(0.5, 5, size=400)
    found, (along, up), notes = curve_summary(rng.binomial(50, chances), 50, forecast=1000)
    truth = BetaBinomial(0.5, 5.0)
    for k in (1, 10, 50):
        assert found[f"best_of_n_{k}"].low <= truth.at(k) <= found[f"best_of_n_{k}"].high
    assert along == attempt_grid(50)
    assert up == sorted(up)
    assert found["law_a"].low < found["law_a"].value < found["law_a"].high
    assert found["law_b"].value > 0
    assert any("power law of at most 5 attempts is off by" in note for note in notes)
    assert any("beta-binomial alpha" in note for note in notes)


def test_curves_of_nothing_and_of_nobody():
    found, line, notes = curve_summary([0, 0, 0], 4)
    assert found["best_of_n_4"].value == 0
    assert math.isnan(found["law_a"].value)
    assert line[1] == [0, 0, 0, 0]
    assert any("no power law" in note for note in notes)
    found, line, _ = curve_summary([], 4)
    assert line is None
    assert {e.n for e in found.values()} == {0}
