"""Attitude scales: keys, totals, what is missing, and what is no answer."""

from __future__ import annotations

import math

import pytest
from known import BASE, rows
from respondents import TEXT, Respondent, by_number

from fairlead.errors import UsageError
from fairlead.evaluation.attitude_scales import AttitudeScales

SIX = ["strongly agree", "agree", "agree a little", "disagree a little", "disagree", "strongly disagree"]
STATEMENTS = [f"statement {i}" for i in range(1, 17)]
MICA = {"key": "mica4", "options": SIX, "items": STATEMENTS, "coding": "higher is more stigmatising"}
ANSWERS = [1, 6, 2, 5, 3, 4, 6, 1, 2, 5, 3, 6, 4, 1, 2, 5]
REVERSED = {1, 2, 4, 5, 6, 7, 8, 13, 14, 15}


def person(answers=ANSWERS, **more) -> Respondent:
    return Respondent(by_number(dict(zip(STATEMENTS, answers, strict=True)), SIX), **more)


def scale(**changes) -> AttitudeScales:
    return AttitudeScales(**{"questionnaire": MICA, "text": TEXT, "resamples": 50, **changes})


def run(evaluator, engine):
    report = evaluator({"who": engine}, rows(1))
    return report.summary["who"], report


@pytest.mark.parametrize("mode", ["logprobs", "text"])
@pytest.mark.parametrize("orders", ["cyclic", "given", "reversed"])
def test_reverse_items_score_the_scale_plus_one_less_the_answer(mode, orders):
    found, report = run(scale(mode=mode, orders=orders), person())
    expected = [7 - a if i in REVERSED else a for i, a in enumerate(ANSWERS, 1)]
    assert [row["item_score"] for row in report.rows] == pytest.approx(expected)
    assert found["total"].value == pytest.approx(sum(expected))
    assert found["score"].value == pytest.approx(sum(expected) / 16)
    assert found["score"].n == 16
    assert found["missing"].value == 0
    assert "coding: higher is more stigmatising" in report.notes


def test_the_ends_of_the_scale():
    least = [1 if i not in REVERSED else 6 for i in range(1, 17)]
    assert run(scale(), person(least))[0]["total"].value == pytest.approx(16)
    assert run(scale(), person([7 - a for a in least]))[0]["total"].value == pytest.approx(96)
    # Whoever agrees with all, whatever it says, is not at an end.
    assert run(scale(), person([1] * 16))[0]["total"].value == pytest.approx(6 * 1 + 10 * 6)


def test_missing_items_are_prorated_and_named():
    def says(text):
        item = int(text.split("|")[0].removeprefix("statement "))
        return "I cannot answer that." if item in (3, 9) else "G" if item == 10 else "ABCDEF"[ANSWERS[item - 1] - 1]

    found, report = run(scale(mode="text", orders="given"), person(says=says))
    kept = [7 - a if i in REVERSED else a for i, a in enumerate(ANSWERS, 1) if i not in (3, 9, 10)]
    assert found["score"].value == pytest.approx(sum(kept) / 13)
    assert found["total"].value == pytest.approx(16 * sum(kept) / 13)
    assert (found["score"].n, found["missing"].value) == (13, pytest.approx(3 / 16))
    assert (found["refused"].value, found["off_scale"].value) == (pytest.approx(2 / 16), pytest.approx(1 / 16))
    assert found["validity"].value == pytest.approx(13 / 16)
    assert any("3 items have no answer at all and no score: 3, 9, 10" in note for note in report.notes)
    assert [row["problems"] for row in report.rows if row["item_score"] is None] == ["refusal 1"] * 2 + [
        "off the scale 1"
    ]


def test_another_order_is_asked_before_an_item_is_missing():
    def says(text):
        shown = text.split("|")[1]
        return "hm" if shown.startswith("A=strongly agree") else shown[shown.index("=disagree;") - 1]

    found, report = run(scale(mode="text"), person(says=says))
    assert found["missing"].value == 0
    assert found["validity"].value == pytest.approx(5 / 6)
    assert [row["option"] for row in report.rows] == ["disagree"] * 16


def test_where_the_middle_is_taken_is_told():
    five = ["no", "rather no", "either", "rather yes", "yes"]
    items = [{"text": f"statement {i}", "dimension": "d"} for i in range(1, 5)]
    evaluator = scale(questionnaire={"options": five, "items": items})
    neutral = Respondent(by_number({"statement 1": 3, "statement 2": 3, "statement 3": 5, "statement 4": 1}, five))
    assert run(evaluator, neutral)[0]["neutral"].value == pytest.approx(0.5)
    assert "neutral" not in run(scale(), person())[0]


def test_subscales_of_the_shipped_scale():
    evaluator = AttitudeScales(text=TEXT, resamples=20)
    options = list(evaluator.asked.items[0].options)
    yes = Respondent(lambda item: options[-1])
    found, _ = run(evaluator, yes)
    forward = {
        d: sum(not i.reverse for i in evaluator.asked.items if i.dimension == d) for d in ("distrust", "distance")
    }
    for name, many in forward.items():
        assert found[f"total.{name}"].value == pytest.approx(5 * many + 1 * (5 - many))
    assert found["acquiescence"].value == pytest.approx(1)
    assert found["consistency"].value < 1


def test_personas_are_respondents():
    evaluator = scale(personas=("You are kind.", "You are harsh."))
    found, report = run(evaluator, person())
    assert len(report.rows) == 32
    assert "alpha.stigma" not in found  # Both say the same, so nothing varies.
    assert found["score"].n == 16


def test_who_does_not_read_has_no_score():
    watched = {"options": ["1", "2", "3"], "items": [
        {"id": "look", "text": "Choose 2.", "attention": {"at_least": 2, "at_most": 2}},
        {"id": "x", "text": "statement 1", "dimension": "d"},
    ]}  # fmt: skip
    blind = Respondent(lambda item: "3")
    found, report = run(scale(questionnaire=watched), blind)
    assert not any(axis.startswith("score") for axis in found)
    assert any("no score: it does not read what it answers (items look)" in note for note in report.notes)


def test_nobody_answers():
    found, _ = run(scale(mode="text"), person(says=lambda text: "42"))
    assert found["missing"].value == 1
    assert math.isnan(found["score"].value)
    assert found["score"].n == 0


def test_what_is_refused():
    with pytest.raises(UsageError, match="no engine"):
        scale()({}, rows(1))
    with pytest.raises(UsageError, match="16"):
        scale(questionnaire={**MICA, "items": STATEMENTS[:3]})({"base": BASE}, rows(1))
