"""The pieces of selectors: what stays for a size, order among equals, and selections that do not add up."""

from __future__ import annotations

import numpy as np
import pytest

from fairlead.errors import DataError, UsageError
from fairlead.selection.base import Selection, best_first, check_keep, chosen, name_of, number_kept
from fairlead.selection.random_sample import RandomSample


@pytest.mark.parametrize(
    ("keep", "n", "kept"),
    [(None, 7, 7), (3, 7, 3), (30, 7, 7), (0.1, 7, 1), (0.1, 10, 1), (0.3, 10, 3), (0.06, 6000, 360)],
)
def test_a_size_is_a_number_or_a_share(keep, n, kept):
    assert number_kept(keep, n) == kept


@pytest.mark.parametrize("keep", [0, -1, 1.5, float("nan")])
def test_sizes_that_make_no_sense_are_refused(keep):
    with pytest.raises(UsageError, match="keep is"):
        check_keep(keep, "random")


def test_the_highest_first_and_equal_ones_in_their_order():
    assert best_first(np.array([1.0, 3.0, np.nan, 3.0, 2.0])).tolist() == [1, 3, 4, 0]


def test_reasons_are_told_for_all_that_is_left_out():
    selection = chosen(4, [2, 0], np.array([1.0, 0.5, 2.0, np.nan]), {3: "no score"}, "worse")
    assert selection.reasons == ("", "worse", "", "no score")
    assert selection.left_out == {"worse": 1, "no score": 1}


@pytest.mark.parametrize(
    ("indices", "reasons"), [([0, 0], ("", "x")), ([2], ("x", "x")), ([0], ("", "")), ([0], ("", "x", "x"))]
)
def test_a_selection_has_to_add_up(indices, reasons):
    with pytest.raises(DataError, match="does not add up"):
        Selection(np.array(indices), np.zeros(2), reasons)


def test_a_method_knows_its_name():
    assert name_of(RandomSample()) == "random"
