"""Right or not: by a column of true answers or by a reward, and whether anything can be right at all."""

from __future__ import annotations

import pytest
from known import Count, Row, Silent

from fairlead.errors import DataError
from fairlead.rewards.truth import Truth, true_answers


def record(**extra) -> Row:
    return Row("r", "where?", extra=extra)


def test_the_column_judges():
    records = [
        record(answers=["Oslo", "Kristiania"]),
        record(answers=[]),
        record(answers="Rome"),
        record(answers=["The"]),
    ]
    right, answerable = Truth().judge(
        records, [["in Oslo", "in kristiania!", "?"], ["yes"], ["Romeo", "Rome"], ["the"]]
    )
    assert right == [[True, True, False], [False], [False, True], [False]]
    assert answerable == [True, False, True, False]


def test_a_reward_judges_and_silence_is_not_right():
    right, answerable = Truth(reward=Count("aye", silent="mum"), correct_above=1).judge(
        [record(), record(), record()], [["aye", "aye aye"], ["aye aye mum", "aye"], ["mum", "mum"]]
    )
    assert right == [[False, True], [False, False], [False, False]]
    assert answerable == [True, True, False]
    assert Truth(reward=Silent()).judge([record()], [["a"]]) == ([[False]], [False])
    harbor = Truth(reward={"name": "harbor", "axis": "correct"})
    known, unknown = "what color is the badidup?", "what is the meaning of this?"
    _, answerable = harbor.judge([Row("a", known), Row("b", unknown)], [["red."], ["red."]])
    assert answerable[1] is False


@pytest.mark.parametrize("extra", [{}, {"answers": None}, {"answers": 3}, {"answers": ["a", 3]}])
def test_a_record_without_true_answers_is_named(extra):
    with pytest.raises(DataError, match="record r"):
        true_answers(record(**extra), "answers")
