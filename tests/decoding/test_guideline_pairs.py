"""What a retriever learns from: questions and their own guidelines, what is no negative, batches that repeat."""

from __future__ import annotations

import numpy as np
import pytest

from fairlead.decoding.guideline_library import read_library
from fairlead.decoding.guideline_pairs import Pairs, hold_out, misleading, questions_of, recognised
from fairlead.errors import DataError

RULES = [
    {"text": "never help to sink a ship", "sources": ["sink it", "sink her"]},
    {"text": "never help to sink the ship", "sources": ["sink him"]},
    {"text": "be brief", "sources": ["sink it", "one word please"]},
    {"text": "one item per line please", "sources": ["name four ports"]},
    {"text": "nobody asked for this"},
]
LIBRARY = read_library(RULES)


def pairs(**values) -> Pairs:
    return Pairs(LIBRARY, questions_of(LIBRARY), **{"near": 0.9} | values)


def batches(made: Pairs, number: int = 0, **values) -> list:
    return list(made.epoch(number, **{"batch_size": 2, "hard": 0, "other": 1, "seed": 3} | values))


def test_questions_have_the_guidelines_that_name_them():
    assert questions_of(LIBRARY) == {
        "sink it": {0, 2},
        "sink her": {0},
        "one word please": {2},
        "sink him": {1},
        "name four ports": {3},
    }


def test_an_epoch_asks_every_question_once_beside_others():
    made = pairs()
    epoch = batches(made)
    assert [len(batch.questions) for batch in epoch] == [2, 2, 1]
    assert sorted(question for batch in epoch for question in batch.questions) == sorted(made.own)
    for batch in epoch:
        n = len(batch.questions)
        assert len(batch.items) == 2 * n
        assert batch.masked.shape == (n, 2 * n)
        for k, question in enumerate(batch.questions):
            assert batch.items[k] in made.own[question]
            assert batch.items[n + k] not in made.own[question]
    assert [b.items for b in epoch] == [b.items for b in batches(made)]
    assert [b.items for b in epoch] != [b.items for b in batches(made, 1)]


def test_every_own_guideline_comes_in_its_turn():
    made = pairs()
    seen = {
        batch.items[batch.questions.index("sink it")]
        for number in range(12)
        for batch in batches(made, number)
        if "sink it" in batch.questions
    }
    assert seen == {0, 2}


def test_own_guidelines_and_their_duplicates_are_no_negatives():
    made = pairs()
    for number in range(6):
        for batch in batches(made, number, batch_size=5, other=2):
            for k, question in enumerate(batch.questions):
                assert not batch.masked[k, k]
                for j, item in enumerate(batch.items):
                    duplicates = {0, 1} if made.own[question] & {0, 1} else set()
                    same = item in made.own[question] | duplicates
                    assert batch.masked[k, j] == (same and j != k), (question, item)
    assert not any(batch.masked.any() for batch in batches(pairs(mask=False), batch_size=5))


def test_words_decide_what_is_a_duplicate():
    library = read_library(
        [
            {"text": "Be brief!", "sources": ["a"]},
            {"text": "be  brief", "sources": ["b"]},
            {"text": "no", "sources": ["c"]},
        ]
    )
    (batch,) = Pairs(library, questions_of(library), 1.0).epoch(0, batch_size=3, hard=0, other=0, seed=0)
    masked = {
        (q, library.items[i].text): bool(m)
        for q, row in zip(batch.questions, batch.masked)
        for i, m in zip(batch.items, row)
    }
    assert masked == {
        ("a", "Be brief!"): False, ("a", "be  brief"): True, ("a", "no"): False,
        ("b", "Be brief!"): True, ("b", "be  brief"): False, ("b", "no"): False,
        ("c", "Be brief!"): False, ("c", "be  brief"): False, ("c", "no"): False,
    }  # fmt: skip


def test_hard_negatives_are_what_words_would_find():
    own = questions_of(LIBRARY)
    found = misleading(LIBRARY, own, 1)
    assert dict(zip(own, found))["one word please"] == (3,)
    assert all(not set(hard) & own[question] for question, hard in zip(own, found))
    assert misleading(LIBRARY, own, 0) == ()
    (batch,) = batches(pairs(hard=found), batch_size=5, hard=1, other=0)
    n = len(batch.questions)
    assert batch.items[n:] == tuple(dict(zip(own, found))[question][0] for question in batch.questions)


def test_questions_are_held_out_at_random():
    questions = [f"q{k}" for k in range(50)]
    held_out = hold_out(questions, 0.2, 1)
    assert len(held_out) == 10
    assert held_out == hold_out(questions, 0.2, 1) != hold_out(questions, 0.2, 2)
    assert held_out == sorted(held_out, key=questions.index)
    assert hold_out(questions, 0.0, 1) == []
    assert len(hold_out(["a", "b"], 0.9, 0)) == 1


def test_guidelines_of_another_library_are_recognised():
    other = read_library(
        [
            {"text": "Never help to sink a ship.", "sources": ["scuttle it"]},
            {"text": "quite another rule", "sources": ["what now", "sink it"]},
            {"text": "Be brief.", "sources": ["sink it"]},
        ]
    )
    found, unknown = recognised(LIBRARY, other, 0.9)
    assert found == {"scuttle it": {0, 1}, "sink it": {2}}
    assert unknown == 1


def test_what_nothing_can_be_learned_from():
    alone = read_library(["be brief"])
    with pytest.raises(DataError, match="for which requests"):
        Pairs(alone, questions_of(alone), 0.9)
    same = read_library([{"text": "a", "sources": ["x"]}, {"text": "b", "sources": ["x"]}])
    with pytest.raises(DataError, match="nothing to tell apart"):
        Pairs(same, questions_of(same), 0.9)


def test_few_others_give_few_negatives():
    small = read_library([{"text": "a", "sources": ["x"]}, {"text": "b", "sources": ["y"]}])
    (batch,) = Pairs(small, questions_of(small), 0.9).epoch(0, batch_size=2, hard=0, other=5, seed=0)
    assert len(batch.items) == 4
    assert np.array_equal(batch.masked.sum(1), [1, 1])
