"""Whole shares that add up, and what small groups cannot give."""

from __future__ import annotations

import numpy as np
import pytest

from fairlead.selection.quotas import filled, largest_remainder


@pytest.mark.parametrize(
    ("weights", "number", "parts"),
    [([1, 1, 1], 10, [4, 3, 3]), ([5, 3, 2], 10, [5, 3, 2]), ([1, 1], 0, [0, 0]), ([0.6, 0.25, 0.15], 4, [2, 1, 1])],
)
def test_parts_add_up(weights, number, parts):
    assert largest_remainder(np.array(weights), number).tolist() == parts


def test_what_a_group_lacks_goes_to_the_others():
    assert filled(np.ones(3), np.array([2, 10, 10]), 12).tolist() == [2, 5, 5]
    assert filled(np.ones(3), np.array([2, 3, 10]), 12).tolist() == [2, 3, 7]
    assert filled(np.ones(2), np.array([2, 3]), 12).tolist() == [2, 3]
    assert filled(np.array([3.0, 1.0]), np.array([9, 9]), 8).tolist() == [6, 2]
