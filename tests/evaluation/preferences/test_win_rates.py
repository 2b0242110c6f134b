"""Win rates: by hand, both orders, McNemar, invariants and bad verdicts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.errors import DataError, UsageError
from fairlead.evaluation.preferences import as_points, both_orders, mcnemar, points_of_preferences, win_rate

verdicts = st.lists(st.sampled_from([0.0, 0.5, 1.0, 0.25, 0.9, math.nan]), max_size=40)


def test_by_hand():
    found = win_rate([1, 0.75, 0.5, 0, math.nan, 0.25])
    assert found.rate.value == pytest.approx(0.5)
    assert found.standard_error == pytest.approx(np.std([1, 0.75, 0.5, 0, 0.25], ddof=1) / math.sqrt(5))
    assert found.discrete.value == pytest.approx(0.5)
    assert (found.wins, found.draws, found.losses, found.missing, found.n) == (2, 1, 2, 1, 5)


def test_only_an_exact_half_is_a_tie():
    found = win_rate([0.5, 0.5 + 1e-9, 0.5 - 1e-9, 0.5 + 1e-9])
    assert (found.wins, found.draws, found.losses) == (2, 1, 1)
    assert found.discrete.value == pytest.approx(0.625)


@settings(deadline=None, max_examples=30)
@given(verdicts, st.randoms())
def test_the_order_of_items_does_not_matter(points, random):
    shuffled = random.sample(points, len(points))
    assert repr(win_rate(shuffled)) == repr(win_rate(points))


@settings(deadline=None, max_examples=30)
@given(verdicts)
def test_swapping_the_sides_mirrors(points):
    found, mirrored = win_rate(points), win_rate([1 - p for p in points])
    assert (mirrored.wins, mirrored.draws, mirrored.losses) == (found.losses, found.draws, found.wins)
    assert mirrored.missing == found.missing
    assert mirrored.rate.value == pytest.approx(1 - found.rate.value, nan_ok=True)
    assert mirrored.standard_error == pytest.approx(found.standard_error, nan_ok=True)


@settings(deadline=None, max_examples=30)
@given(verdicts)
def test_intervals_hold_the_rate_and_missing_verdicts_change_nothing(points):
    found = win_rate(points)
    present = win_rate([p for p in points if not math.isnan(p)])
    assert repr(found.rate) == repr(present.rate)
    assert found.missing == len(points) - found.n
    for estimate in (found.rate, found.discrete):
        if estimate.n > 1:
            assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


def test_nothing_and_one():
    assert math.isnan(win_rate([]).rate.value)
    assert win_rate([None]).missing == 1
    one = win_rate([1])
    assert one.rate.value == 1
    assert one.rate.low < 0.5
    assert math.isnan(one.standard_error)


def test_the_seed_decides():
    points = np.random.default_rng(0).random(50)
    assert win_rate(points).rate == win_rate(points).rate != win_rate(points, seed=1).rate


def test_preferences_of_old_and_new_files():
    assert points_of_preferences([1, 2, 1.5, 0, 1.982558]).tolist() == pytest.approx([0, 1, 0.5, 0.5, 0.982558])
    assert np.isnan(points_of_preferences([None, math.nan])).all()
    with pytest.raises(DataError, match=r"verdict 1: a preference of 0\.5"):
        points_of_preferences([1, 0.5])


def test_points_that_are_none():
    with pytest.raises(DataError, match=r"verdict 2: 1\.5 points are no verdict"):
        as_points([0, None, 1.5])
    with pytest.raises(DataError, match="inf points"):
        as_points([math.inf])


def test_both_orders_cancel_a_taste_for_a_place():
    joined = both_orders([1, 1, 0.5, math.nan], [0, 1, 1, 1])
    assert joined[:3].tolist() == [0.5, 1, 0.75]
    assert math.isnan(joined[3])
    always_first, always_second = np.zeros(10), np.ones(10)
    assert (both_orders(always_first, always_second) == 0.5).all()
    with pytest.raises(UsageError, match="in one order"):
        both_orders([1, 0], [1])


def test_mcnemar():
    one = [1] * 9 + [0] * 1 + [1] * 50 + [0] * 50
    two = [0] * 9 + [1] * 1 + [1] * 50 + [0] * 50
    assert mcnemar(one, two) == pytest.approx(2 * (1 + 10) / 2**10)
    assert mcnemar(two, one) == mcnemar(one, two)
    assert mcnemar([1, 0, math.nan], [1, 0, 1]) == 1
    with pytest.raises(UsageError, match="same items"):
        mcnemar([1], [1, 0])
