"""Digits by rank and as given, from columns and rewards."""

from __future__ import annotations

from collections import Counter

import pytest

import fairlead
from fairlead.errors import DataError, UsageError
from fairlead.records import Conversation
from fairlead.synthesis.base import drafts_of, rows_of
from fairlead.synthesis.deita_examples import DeitaExamples, levels
from fairlead.synthesis.deita_scores import DeitaScores


def record(name, **columns):
    question, answer = {"role": "user", "content": f"q {name}"}, {"role": "assistant", "content": "a"}
    return Conversation(name, (question,), (answer,), columns)


def test_six_groups_by_rank():
    assert levels([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]) == [1, 2, 3, 4, 5, 6]
    assert levels([5, 1, 9]) == [4, 2, 6]
    assert levels([2, 2, 2, 2]) == [4, 4, 4, 4]
    assert levels([0, 0, 0, 0, 0, 1]) == [3, 3, 3, 3, 3, 6]
    assert levels([]) == []


def test_rows_are_what_the_scorer_will_see():
    method = DeitaExamples(column="worth", digits="as given")
    rows = list(method({}, [record("x", worth=2), record("y", worth=[6]), record("z", worth=None)]))
    assert [row["completion"][0]["content"] for row in rows] == ["2", "6"]
    shown = DeitaScores().shown["quality"]
    assert rows[0]["prompt"] == shown.prompt(("q x", "a"))


def test_a_reward_labels(tmp_path):
    pool = list(fairlead.read("harbor:pool?n=60"))
    method, counts = DeitaExamples(reward={"name": "harbor", "axis": "polite"}, form="raw"), Counter()
    rows = list(rows_of(method, list(drafts_of(method, {}, pool)), counts))
    exact = fairlead.reward("harbor", axis="polite")(
        [r.prompt for r in pool], [r.completion[0]["content"] for r in pool]
    )
    assert counts["dropped_without_label"] == exact.abstained.sum() > 0
    assert len(rows) == 60 - exact.abstained.sum()
    polite = {row["completion"] for row in rows if row["scored"] == 1}
    rude = {row["completion"] for row in rows if row["scored"] == 0}
    assert len(polite) == len(rude) == 1
    assert min(polite) > max(rude)
    assert rows[0]["prompt"].endswith("Quality from 1 to 6: ")


@pytest.mark.parametrize(
    "columns", [{}, {"worth": "high"}, {"worth": [1, 2]}, {"worth": True}, {"worth": float("nan")}]
)
def test_labels_that_are_none_name_their_record(columns):
    with pytest.raises(DataError, match="record x"):
        list(DeitaExamples(column="worth")({}, [record("x", **columns)]))


def test_labels_that_are_no_digits():
    with pytest.raises(DataError, match=r"such as 2\.5"):
        list(DeitaExamples(column="worth", digits="as given")({}, [record("x", worth=2.5)]))


def test_a_reward_values_no_whole_conversation():
    whole = Conversation("w", "", (*record("x").prompt, *record("x").completion))
    with pytest.raises(DataError, match="record w"):
        list(DeitaExamples(reward="harbor")({}, [whole]))


@pytest.mark.parametrize("fields", [{}, {"column": "a", "reward": "harbor"}])
def test_one_source_of_labels(fields):
    with pytest.raises(UsageError, match="one source of labels"):
        DeitaExamples(**fields)
