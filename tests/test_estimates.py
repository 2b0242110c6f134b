"""Estimates and their intervals, against closed forms and known coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fairlead.errors import UsageError
from fairlead.estimates import (
    estimate_difference,
    estimate_mean,
    estimate_quantile,
    estimate_rate,
    estimate_ratio,
    holm,
    is_binary,
    mcnemar,
    per_prompt,
)


def test_a_rate_has_wilsons_interval():
    found = estimate_rate([1] * 8 + [0] * 2)
    assert (found.value, found.n) == (0.8, 10)
    assert (found.low, found.high) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)


def test_a_perfect_rate_is_not_certain():
    found = estimate_rate(np.ones(500))
    assert found.high == 1.0
    assert found.low == pytest.approx(500 / (500 + 1.959964**2), abs=1e-6)


def test_a_bootstrap_interval_covers_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    found = [estimate_mean(rng.exponential(size=80), confidence=0.9) for _ in range(300)]
    covered = np.mean([e.low <= 1.0 <= e.high for e in found])
    assert 0.83 < covered < 0.95


def test_higher_confidence_is_wider():
    values = np.random.default_rng(1).normal(size=60)
    narrow, wide = (estimate_mean(values, confidence=c) for c in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_absent_values_are_left_out_and_counted():
    found = estimate_mean([2.0, math.nan, 4.0])
    assert (found.value, found.n) == (3.0, 2)


def test_no_value_is_nan_and_one_value_has_no_interval():
    none, one = estimate_mean([math.nan]), estimate_mean([2.5])
    assert none.n == 0
    assert math.isnan(none.value)
    assert (one.value, one.n) == (2.5, 1)
    assert math.isnan(one.low)
    assert math.isnan(one.high)


def test_pairing_narrows_a_difference():
    rng = np.random.default_rng(2)
    before = rng.normal(scale=5, size=100)
    after = before + 1 + rng.normal(scale=0.1, size=100)
    found = estimate_difference(after, before)
    assert found.value == pytest.approx(1, abs=0.05)
    assert found.high - found.low < 0.1
    assert estimate_difference([1.0, math.nan], [0.5, 0.0]).n == 1


def test_pairs_of_rates_have_newcombes_interval():
    table = {(1, 1): 36, (1, 0): 12, (0, 1): 2, (0, 0): 0}  # an example of the paper: 0.0569 to 0.3404
    pairs = [pair for pair, count in table.items() for _ in range(count)]
    found = estimate_difference(*zip(*pairs))
    assert found.value == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx((0.0569, 0.3404), abs=1e-4)


def test_a_gain_of_everything_is_not_certain():
    found = estimate_difference(np.ones(40), np.zeros(40))
    assert found.value == found.high == 1.0
    assert 0.8 < found.low < 0.95
    same = estimate_difference(np.ones(40), np.ones(40))
    assert same.value == 0
    assert -0.1 < same.low < 0 < same.high < 0.1


def test_a_difference_needs_pairs():
    with pytest.raises(UsageError, match="paired difference"):
        estimate_difference([1.0, 2.0], [1.0])


def test_a_ratio_weighs_units_by_their_counts():
    found = estimate_ratio([1.0, 9.0, math.nan, 0.0], [1, 3, 5, 0])
    assert (found.value, found.n) == (2.5, 2)
    assert found.low == 1.0
    assert found.high == 3.0


def test_samples_of_a_prompt_count_as_one():
    values = np.array([[1.0, 3.0], [math.nan, 5.0], [math.nan, math.nan]])
    np.testing.assert_array_equal(per_prompt(values), [2.0, 5.0, math.nan])


def test_equal_seeds_give_equal_intervals():
    values = np.random.default_rng(3).normal(size=50)
    assert estimate_mean(values, seed=1) == estimate_mean(values, seed=1)
    assert estimate_mean(values, seed=1) != estimate_mean(values, seed=2)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_confidence_is_a_share(confidence):
    with pytest.raises(UsageError, match="confidence"):
        estimate_mean([1.0], confidence=confidence)


def test_shares_of_several_samples_are_no_plain_rate():
    assert is_binary([0, 1, math.nan])
    assert not is_binary([0, 0.5])
    assert estimate_rate([0, 0.5, 1]) == estimate_mean([0, 0.5, 1])
    assert estimate_rate([]).n == 0


def test_a_mean_of_equal_values_has_no_width():
    found = estimate_mean([0.3, 0.3, 0.3])
    assert found.value == found.low == found.high


def test_a_quantile_has_an_interval_around_it():
    values = np.arange(101.0)
    found = estimate_quantile([*values, np.nan], 0.25)
    assert (found.value, found.n) == (25, 101)
    assert 5 < found.low < 25 < found.high < 45
    assert math.isnan(estimate_quantile([3.0], 0.5).low)
    assert estimate_quantile([], 0.5).n == 0
    with pytest.raises(UsageError, match="quantile"):
        estimate_quantile(values, 1.5)


def test_the_known_comparison_of_pairs():
    assert mcnemar(9, 2) == mcnemar(2, 9) == pytest.approx(0.065430, abs=1e-6)
    assert mcnemar(0, 0) == mcnemar(3, 3) == 1
    assert mcnemar(0, 5) == pytest.approx(2 * 0.5**5)
    with pytest.raises(UsageError, match="0 or more"):
        mcnemar(-1, 2)


def test_holm_takes_the_smallest_first():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == pytest.approx([1, 1])
    assert holm([0.02]) == pytest.approx([0.02])
    assert holm([0.02, np.nan, 0.01]) == pytest.approx([0.02, np.nan, 0.02], nan_ok=True)
    assert holm([]).tolist() == []
