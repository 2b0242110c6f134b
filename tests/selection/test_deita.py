"""Combined scores, the filter behind them, and what is told of every record."""

from __future__ import annotations

import numpy as np
import pytest

from fairlead.errors import DataError, UsageError
from fairlead.records import PromptOnly
from fairlead.selection.deita import Deita, combined_scores
from fairlead.selection.pool import Pool

C, Q = [[2, 3], [5], [1.5, 1.5, 1.5]], [[4, 1], [2], [2, 2, 3]]


def pool(complexity, quality, vectors=None):
    columns = zip(complexity, quality, vectors or [[1.0, float(k)] for k in range(len(complexity))])
    extras = [{"complexity": c, "quality": q, "vector": v} for c, q, v in columns]
    return Pool([PromptOnly(f"row-{k}", "q", extra) for k, extra in enumerate(extras)])


def plane(*degrees):
    return [[float(np.cos(a)), float(np.sin(a))] for a in np.radians(degrees)]


@pytest.mark.parametrize(
    ("aggregate", "scores"), [("sum", [11, 10, 10.5]), ("mean", [5.5, 10, 3.5]), ("max", [8, 10, 4.5])]
)
def test_products_of_turns(aggregate, scores):
    assert combined_scores(pool(C, Q), "complexity", "quality", aggregate).tolist() == scores


def test_the_order_is_that_of_the_scores():
    found = Deita(embedding="vector", max_similarity=1.0)(pool(C, Q))
    assert found.indices.tolist() == [0, 2, 1]
    assert found.scores.tolist() == [11, 10, 10.5]


def test_one_score_alone():
    assert Deita(embedding="vector", complexity=None, max_similarity=1)(pool(C, Q)).indices.tolist() == [2, 0, 1]
    assert Deita(embedding="vector", quality=None, max_similarity=1)(pool(C, Q)).indices.tolist() == [0, 1, 2]


def test_what_is_similar_to_a_better_one_is_left_out_and_says_to_which():
    found = Deita(embedding="vector")(pool([6, 5, 4, 3, 2, 1], [1] * 6, plane(0, 20, 40, 10, 70, 95)))
    assert found.indices.tolist() == [0, 2, 4]
    assert found.left_out == {"similarity to a kept one > 0.9": 3}
    # Of kept records the nearest other one: 40 is nearer to 70 than to 0.
    assert found.columns["nearest"] == ["row-2", "row-0", "row-4", "row-0", "row-2", "row-4"]
    wanted = np.cos(np.radians([40, 20, 30, 10, 30, 25]))
    assert np.allclose(found.columns["similarity"], wanted, atol=1e-6)
    assert found.metrics["visited"] == 6
    assert found.metrics["too_similar"] == 3
    assert found.metrics["coverage"] == 1.0
    assert found.metrics["similarity_inside"] == pytest.approx(np.cos(np.radians([40, 30, 30])).mean())


def test_a_full_choice_stops_and_says_what_it_covers():
    found = Deita(embedding="vector", keep=2)(pool([6, 5, 4, 3, 2, 1], [1] * 6, plane(0, 20, 40, 10, 120, 130)))
    assert found.indices.tolist() == [0, 2]
    assert found.metrics["visited"] == 3
    assert found.left_out == {"similarity to a kept one > 0.9": 1, "others are worth more": 3}
    assert found.metrics["coverage"] == pytest.approx(4 / 6)  # row 3 lies near row 0, the last two near nothing


def test_equal_scores_keep_their_order():
    assert Deita(embedding="vector", max_similarity=1, keep=3)(pool([1] * 5, [1] * 5)).indices.tolist() == [0, 1, 2]


def test_records_without_text_are_left_out():
    found = Deita(embedding="vector")(pool([3, 2, 1], [1, 1, 1], [[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]))
    assert found.indices.tolist() == [0, 2]
    assert found.left_out == {"no text to compare": 1}
    assert found.columns["nearest"] == ["row-2", None, "row-0"]
    nothing = Deita(embedding="vector")(pool([1], [1], [[0.0, 0.0]]))
    assert nothing.indices.tolist() == []


def test_scores_that_do_not_fit_name_their_record():
    with pytest.raises(DataError, match=r"1 of 2 records.*different numbers of turns, such as row-1"):
        Deita(embedding="vector")(pool([1, [1, 2]], [1, [1, 2, 3]]))
    with pytest.raises(DataError, match=r"row-1"):
        Deita(embedding="vector")(pool([1, [1, None]], [1, [1, 2]]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"max_similarity": 2}, "max_similarity is 2"),
        ({"complexity": None, "quality": None}, "no score"),
        ({"keep": 0}, "keep"),
    ],
)
def test_settings_that_make_no_sense(change, said):
    with pytest.raises(UsageError, match=said):
        Deita(**change)
