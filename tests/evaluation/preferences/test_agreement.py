"""Agreement with people: published and hand-made values, against scipy, little and bad data."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.errors import DataError, UsageError
from fairlead.evaluation.preferences import cohen_kappa, fleiss_kappa, judge_agreement, kendall, spearman

PEOPLE = np.array([[1, 1, 1, 1], [2, 2, 2, 1], [1, 1, 2, 2], [2, 1, 1, 1]]) - 1.0


def digits(text):
    return [int(d) for d in text]


def test_cohen():
    assert cohen_kappa(digits("1122102122"), digits("1222101120")) == pytest.approx(0.516129, abs=1e-6)
    weighted = cohen_kappa(digits("54352144"), digits("44353152"), quadratic=True)
    assert weighted == pytest.approx(0.75, abs=1e-9)


def test_cohen_leaves_out_what_one_did_not_rate():
    assert cohen_kappa([1, 0, 1, math.nan, 0], [1, 0, 0, 1, math.nan]) == cohen_kappa([1, 0, 1], [1, 0, 0])
    assert math.isnan(cohen_kappa([1, 1], [1, 1]))
    assert math.isnan(cohen_kappa([], []))
    with pytest.raises(UsageError, match="same items"):
        cohen_kappa([1], [1, 2])


FLEISS = [  # ratings of 10 subjects by 14 raters into 5 categories: the example that introduced the kappa's users to it
    (0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1),
    (7, 7, 0, 0, 0), (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7),
]  # fmt: skip


def test_fleiss():
    labels = [[label for label, count in enumerate(row) for _ in range(count)] for row in FLEISS]
    assert fleiss_kappa(labels) == pytest.approx(0.20993, abs=1e-5)
    assert fleiss_kappa([row[::-1] for row in labels]) == fleiss_kappa(labels)


def test_fleiss_with_gaps():
    full = [[1, 2, 1], [2, 2, 2], [1, 1, 2]]
    gaps = [[1, 2, math.nan, 1], [2, math.nan, 2, 2], [math.nan, 1, 1, 2]]
    assert fleiss_kappa(gaps) == fleiss_kappa(full)
    assert math.isnan(fleiss_kappa([[1, 1], [1, 1]]))
    with pytest.raises(DataError, match="item 1: items have 2 to 3 ratings"):
        fleiss_kappa([[1, 2, 1], [2, 2, math.nan], [1, 1, 2]])
    with pytest.raises(UsageError, match="N items"):
        fleiss_kappa([1, 2])


def test_rank_correlations():
    x, y = digits("54352144"), digits("44353152")
    assert spearman(x, y).value == pytest.approx(0.725057, abs=1e-6)
    assert kendall(x, y).value == pytest.approx(0.612372, abs=1e-6)


@pytest.mark.parametrize("correlation", [spearman, kendall])
def test_intervals_of_rank_correlations(correlation):
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        pairs = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], size=60)
        found = correlation(*pairs.T)
        truth = {spearman: 6 / math.pi * math.asin(0.3), kendall: 2 / math.pi * math.asin(0.6)}[correlation]
        held += found.low < truth < found.high
        assert found.low <= found.value <= found.high
    assert 0.91 <= held / 300 <= 0.985


@pytest.mark.parametrize("correlation", [spearman, kendall])
def test_rank_correlations_of_little(correlation):
    assert math.isnan(correlation([1, 2], [2, 1]).value)
    assert math.isnan(correlation([1, 1, 1], [1, 2, 3]).value)
    perfect = correlation([1, 2, 3, 4, math.nan], [5, 6, 7, 8, 1])
    assert (perfect.value, perfect.n) == (pytest.approx(1), 4)
    assert math.isnan(perfect.low)


def test_a_judge_beside_people():
    found = judge_agreement(np.array([1, 2, 1, 2]) - 1.0, PEOPLE)
    assert found.among_people.value == pytest.approx(0.583333, abs=1e-6)
    assert found.with_each.value == pytest.approx(0.625)
    assert found.with_majority.value == pytest.approx(0.625)
    assert found.share_of_ceiling == pytest.approx(0.625 / 0.583333, abs=1e-5)
    assert found.bias.value == pytest.approx(0.375)
    # item 3: each of the two and two meets a majority of the other side; items 2 and 4: the odd one out disagrees
    assert found.left_out.value == pytest.approx((1 + 3 / 4 + 0 + 3 / 4) / 4)
    assert math.isnan(found.variance.value)


def test_draws_of_a_judge():
    draws = np.array([[1, 1, 0], [0, 0, 0]], dtype=float)
    people = np.array([[1.0], [1.0]])
    found = judge_agreement(draws, people)
    assert found.with_each.value == pytest.approx((2 / 3 + 0) / 2)
    assert found.bias.value == pytest.approx(0.5)
    # first item: a 1 meets the median of (1, 0), a tie; the 0 meets (1, 1)
    assert found.variance.value == pytest.approx(((0.5 + 0.5 + 1) / 3 + 0) / 2)
    assert math.isnan(found.among_people.value)


def test_items_that_lack_a_side_are_counted():
    found = judge_agreement([1, math.nan, 1, 0], [[1, math.nan], [1, 1], [math.nan, math.nan], [0, 1]])
    assert found.missing == 2
    assert found.with_each.n == 2
    assert found.with_each.value == pytest.approx((1 + 0.5) / 2)
    nothing = judge_agreement(np.zeros(0), np.zeros((0, 3)))
    assert math.isnan(nothing.with_each.value)
    with pytest.raises(UsageError, match="of a judge beside"):
        judge_agreement([1, 0], [[1, 0]])


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 10**6))
def test_who_is_first_and_the_order_of_items_do_not_matter(seed):
    rng = np.random.default_rng(seed)
    judge, people = rng.choice([0, 0.5, 1], 12), rng.choice([0, 1.0], (12, 3))
    order, persons = rng.permutation(12), rng.permutation(3)
    one, two = judge_agreement(judge, people), judge_agreement(judge[order], people[order][:, persons])
    flipped = judge_agreement(1 - judge, 1 - people)
    for axis in ("with_each", "with_majority", "among_people", "left_out", "bias"):
        value = getattr(one, axis).value
        assert getattr(two, axis).value == pytest.approx(value)
        assert getattr(flipped, axis).value == pytest.approx(value)
    assert cohen_kappa(judge, people[:, 0]) == pytest.approx(cohen_kappa(people[:, 0], judge), nan_ok=True)
