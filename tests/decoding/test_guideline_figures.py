"""Recall, reciprocal rank, coverage and mean rank, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fairlead.decoding.guideline_figures import figures_of
from fairlead.errors import UsageError

OWN = [frozenset({0}), frozenset({1, 3}), frozenset({2})]
SCORES = np.array([[0.9, 0.1, 0.5, 0.2], [0.7, 0.2, 0.6, 0.3], [0.4, 0.4, 0.0, 0.4]])
"""Ranks of the first own guideline: 1, 3 (guideline 3), and 4."""


def test_figures_by_hand():
    found = figures_of(SCORES, OWN, depths=(1, 2, 3))
    assert found.recall == {1: pytest.approx(1 / 3), 2: pytest.approx(1 / 3), 3: pytest.approx(2 / 3)}
    assert found.mrr == pytest.approx((1 + 1 / 3 + 1 / 4) / 3)
    assert found.rank == pytest.approx((1 + 3 + 4) / 3)
    assert found.coverage == 1
    assert found.questions == 3
    assert found.metrics() == {
        "recall_1": found.recall[1], "recall_2": found.recall[2], "recall_3": found.recall[3],
        "mrr": found.mrr, "rank": found.rank, "coverage": 1.0,
    }  # fmt: skip


def test_what_is_not_retrieved_does_not_count():
    assert figures_of(SCORES, OWN, least=0.0).mrr == pytest.approx((1 + 1 / 3) / 3)
    assert figures_of(SCORES, OWN, retrieved=2).mrr == pytest.approx(1 / 3)
    assert figures_of(SCORES, OWN, least=0.0).rank == pytest.approx(8 / 3)
    assert figures_of(SCORES, OWN, depths=(1,)).coverage == 1 / 4
    assert figures_of(SCORES, OWN, depths=(1,), least=0.8).coverage == 1 / 4
    assert figures_of(SCORES, OWN, depths=(2,), least=0.65).coverage == 1 / 4


def test_equal_scores_keep_the_order_of_the_library():
    equal = np.zeros((2, 3))
    found = figures_of(equal, [frozenset({0}), frozenset({2})], depths=(1,))
    assert (found.recall[1], found.mrr) == (0.5, pytest.approx((1 + 1 / 3) / 2))


def test_a_question_without_guidelines_cannot_be_judged():
    for own in ([], [frozenset()]):
        with pytest.raises(UsageError, match="cannot be judged"):
            figures_of(np.zeros((len(own), 2)), own)
