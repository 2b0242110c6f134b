"""Hard, easy and medium examples: the known answer, ties, and records that have no score."""

from __future__ import annotations

import numpy as np
import pytest

from fairlead.errors import DataError, UsageError
from fairlead.records import PromptOnly
from fairlead.selection.hard_examples import HardExamples


def pool(*scores):
    return [PromptOnly(str(i), "q", {"reward": score}) for i, score in enumerate(scores)]


POOL = pool(0.5, 0.1, 0.9, 0.3, 0.7, 0.2)


def test_known_choices():
    assert HardExamples(3)(POOL).indices.tolist() == [1, 5, 3]
    assert HardExamples(3, which="easy")(POOL).indices.tolist() == [2, 4, 0]
    assert set(HardExamples(3, which="medium")(POOL).indices.tolist()) == {5, 3, 0}


@pytest.mark.parametrize("n", [1, 2, 5, 6, 9])
def test_medium_is_the_centred_slice_for_every_size(n):
    scores = np.random.default_rng(n).permutation(n) / 10
    rising = np.argsort(scores, kind="stable")
    for k in range(1, n + 1):
        start = (n - k) // 2
        kept = HardExamples(k, which="medium")(pool(*map(float, scores))).indices
        assert set(kept.tolist()) == set(rising[start : start + k].tolist())


def test_equal_scores_stay_in_their_order():
    same = pool(0.2, 0.1, 0.2, 0.1, 0.2)
    assert HardExamples(3)(same).indices.tolist() == [1, 3, 0]
    assert HardExamples(2, which="easy")(same).indices.tolist() == [0, 2]
    assert set(HardExamples(3, which="medium")(same).indices.tolist()) == {3, 0, 2}


def test_the_lowest_may_be_left_out():
    found = HardExamples(2, above=0.2)(POOL)
    assert found.indices.tolist() == [5, 3]
    assert found.left_out == {"score below 0.2": 1, "others are harder": 3}
    assert not len(HardExamples(2, above=2.0)(POOL).indices)


def test_scores_say_who_comes_first():
    for which in ("hard", "medium", "easy"):
        found = HardExamples(4, which=which)(POOL)
        assert (np.diff(found.scores[found.indices]) < 0).all()


def test_an_abstention_is_a_reason():
    found = HardExamples(1)(pool(None, 0.5, 0.4))
    assert found.indices.tolist() == [2]
    assert found.left_out["without a score"] == 1
    assert found.metrics == {"score_kept": 0.4, "score_pool": 0.45}
    with pytest.raises(DataError, match="no column 'reward'"):
        HardExamples(1)([PromptOnly("0", "q")])


@pytest.mark.parametrize("fields", [{"keep": 0}, {"keep": 1.5}, {"keep": 2, "column": ""}])
def test_settings_without_sense(fields):
    with pytest.raises(UsageError):
        HardExamples(**fields)
