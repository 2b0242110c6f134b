"""Biases of judges: by hand, and what must not matter."""

from __future__ import annotations

import math

import pytest

from fairlead.errors import UnknownNameError, UsageError
from fairlead.evaluation.preferences import (
    first_slot_rate,
    has_list,
    order_consistency,
    prefers_lists,
    prefers_longer,
    self_preference,
)


def test_order_consistency_compares_wins_ties_and_losses():
    found = order_consistency([1, 0.9, 0.5, 0, 1, math.nan], [1, 0.6, 0.5, 1, 0.5, 1])
    assert found.value == pytest.approx(3 / 5)
    assert found.n == 5
    with pytest.raises(UsageError, match="in one order"):
        order_consistency([1], [1, 0])


def test_first_slot_rate_counts_ties_half():
    found = first_slot_rate([1, 0.8, 0.5, 0, math.nan])
    assert found.value == pytest.approx(2.5 / 4)
    assert found.n == 4


def test_prefers_longer_looks_beyond_the_margin():
    points, lengths, others = [1, 0, 0, 0.5, 1, math.nan], [100, 100, 20, 500, 40, 900], [60, 60, 60, 10, 20, 1]
    found = prefers_longer(points, lengths, others)
    assert found.n == 4  # the fifth differs by 20, the sixth has no verdict
    assert found.value == pytest.approx((1 + 0 + 1 + 0.5) / 4)
    mirrored = prefers_longer([1 - p for p in points], others, lengths)
    assert mirrored == found
    assert prefers_longer([1], [31], [1]).n == 0
    assert prefers_longer([1], [31], [1], margin=29).n == 1


@pytest.mark.parametrize(
    "text", ["* one", "so:\n- one", "  1. one", "2) one", "\t• one", "intro\n12.one", "**Bold** x"]
)
def test_lines_that_are_lists(text):
    assert has_list(text)


@pytest.mark.parametrize(
    "text", ["", "a well-known fact", "It is 3. Then 4.", "1.", "-", "a * b", "in 1990 it was\nso"]
)
def test_lines_that_are_not(text):
    assert not has_list(text)


def test_prefers_lists_looks_where_one_side_has_one():
    found = prefers_lists([1, 0, 1, 0.5], ["- a", "- a", "- a", "a"], ["a", "a", "- b", "- b"])
    assert found.n == 3
    assert found.value == pytest.approx((1 + 0 + 0.5) / 3)


def test_self_preference_is_against_the_mean_of_the_other_judges():
    points = {"me": [1, 1, 1, 0.5], "a": [0, 1, 0, math.nan], "b": [1, 1, math.nan, math.nan]}
    found = self_preference(points, "me")
    assert found.n == 3
    assert found.value == pytest.approx((0.5 + 0 + 1) / 3)
    with pytest.raises(UnknownNameError, match="judge"):
        self_preference(points, "other")
    with pytest.raises(UsageError, match="two judges or more"):
        self_preference({"me": [1]}, "me")
    with pytest.raises(UsageError, match="do not compare"):
        self_preference({"me": [1], "a": [1, 0]}, "me")
