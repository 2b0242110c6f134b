"""Whom a model speaks for: values and gaps against arithmetic, verdicts, shares that do not fit."""

from __future__ import annotations

import math

import pytest
from known import BASE, END, TUNED, Count, Silent, Unigram, rows

from fairlead.engines.base import Sampling
from fairlead.errors import UnknownNameError, UsageError
from fairlead.evaluation.representation import Representation

SAMPLING = Sampling(max_tokens=1, n=2)
GROUPS = {"ayes": Count("aye"), "nays": Count("nay")}
ALWAYS = {
    "aye": Unigram({"aye": 1.0, "nay": 1e-12, END: 1e-12}),
    "nay": Unigram({"aye": 1e-12, "nay": 1.0, END: 1e-12}),
}


def report(engines, count=40, **changes):
    fields = {"groups": GROUPS, "baseline": "base", "sampling": SAMPLING, **changes}
    return Representation(**fields)(engines, rows(count))


def test_a_model_of_one_group_alone():
    found = report({"base": ALWAYS["nay"], "one": ALWAYS["aye"]}, labels={"ayes": 0.9, "nays": 0.1}).summary["one"]
    assert (found["value_ayes"].value, found["value_nays"].value) == (1, 0)
    assert found["believed"].value == pytest.approx(0.9)
    assert found["population"].value == pytest.approx(0.5)
    assert found["epsilon_mean"].value == pytest.approx(0.4)
    assert found["epsilon_worst"].value == pytest.approx(0.9)
    assert found["fairness_gap"].value == 1
    assert found["gap_ayes"].value == pytest.approx(0.1)
    assert found["met"].value == 0


def test_values_are_win_rates_with_ties_half():
    found = report({"base": BASE, "tuned": TUNED}, count=400).summary["tuned"]
    # One word each: the tuned one says aye with 3/5, the base with 2/5.
    assert found["value_ayes"].value == pytest.approx(0.5 + 0.5 * (3 / 5 - 2 / 5), abs=0.04)
    assert found["value_nays"].value == pytest.approx(0.5 + 0.5 * (1 / 5 - 2 / 5), abs=0.04)
    assert found["epsilon_worst"].low < 0.1 < found["epsilon_worst"].high


def test_a_model_that_moved_nowhere_is_representative_when_enough_was_asked():
    same = {"base": ALWAYS["aye"], "double": ALWAYS["aye"]}
    few, many = (report(same, count=count, epsilon=0.05) for count in (20, 200))
    assert few.summary["double"]["epsilon_worst"].value == 0
    assert math.isnan(few.summary["double"]["met"].value)
    assert "not enough data" in few.notes[0]
    assert many.summary["double"]["met"].value == 1


def test_rows_and_figure():
    found = report({"base": BASE, "tuned": TUNED}, count=3)
    assert [set(row) for row in found.rows] == [
        {"id", "engine", "value_ayes", "value_nays", "believed", "population"}
    ] * 3
    assert all(figure.startswith("<svg") for figure in found.figures.values())


def test_prompts_without_a_value_of_some_group_are_left_out():
    found = report({"base": BASE, "tuned": TUNED}, groups={**GROUPS, "mute": Silent()}, count=5)
    assert found.summary["tuned"]["value_ayes"].n == 0
    assert math.isnan(found.summary["tuned"]["epsilon_worst"].value)
    assert "5 of 5 prompts are left out" in found.notes[0]


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"groups": {"ayes": Count("aye")}}, UsageError, "fewer than two"),
        ({"groups": {"a b": Count("aye"), "c": Count("nay")}}, UsageError, "'a b' is no name"),
        ({"labels": {"ayes": 0.9, "nays": 0.2}}, UsageError, "labels sums to 1.1"),
        ({"population": {"ayes": 1.5, "nays": -0.5}}, UsageError, "population sums to 1"),
        ({"labels": {"aye": 1.0}}, UnknownNameError, "did you mean 'ayes'"),
        ({"epsilon": 0}, UsageError, "epsilon is 0"),
    ],
)
def test_what_does_not_fit(changes, error, said):
    with pytest.raises(error, match=said):
        Representation(**{"groups": GROUPS, "baseline": "base", **changes})
