"""Dilemmas: known priorities, cycles, tastes for a place, what is missing and refused."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from known import rows
from respondents import TEXT, Respondent

from fairlead.errors import UsageError
from fairlead.evaluation.dilemmas import Dilemmas

KNOWN = [("a", "b", 0.8), ("b", "c", 0.7), ("a", "c", 0.95), ("c", "b", 0.4), ("a", "b", 0.6)]


@dataclass(frozen=True)
class Chooser:
    """Takes the first option of dilemma number k with the k-th chance."""

    chances: tuple[float, ...]
    fingerprint: str = "chooser"

    def logprobs(self, prompts, completions):
        found = []
        for prompt, text in zip(prompts, completions, strict=True):
            p = self.chances[int(prompt[-1]["content"].split("|")[0])]
            found.append(np.array([math.log(p if text.startswith("first") else 1 - p)]))
        return found


def known(**changes):
    items = [{"text": str(k), "options": {i: f"first {i}", j: f"then {j}"}} for k, (i, j, _) in enumerate(KNOWN)]
    options = {"questionnaire": {"items": items}, "labels": "none", "text": TEXT, "resamples": 20, **changes}
    return Dilemmas(**options)({"who": Chooser(tuple(p for *_, p in KNOWN))}, rows(1))


def test_known_priorities():
    expected = {1.0: (0.427227, -0.040996, -0.386231), 1e-9: (0.974120, -0.082302, -0.891818)}
    for l2, priorities in expected.items():
        found = known(l2=l2).summary["who"]
        assert [found[f"priority.{value}"].value for value in "abc"] == pytest.approx(priorities, abs=1e-6)
    assert found["transitive"].value == 1.0
    assert found["wins.a"].value == pytest.approx((0.8 + 0.95 + 0.6) / 3)
    assert found["wins.c"].value == pytest.approx((0.3 + 0.05 + 0.4) / 3)
    assert (found["priority.a"].n, found["priority.c"].n) == (3, 3)
    for axis in ("priority.a", "priority.b", "wins.a"):
        assert found[axis].low <= found[axis].value <= found[axis].high


def test_rows_name_both_values():
    row = known().rows[3]
    assert (row["first"], row["second"], row["chance"]) == ("c", "b", pytest.approx(0.4))


def test_a_cycle_has_no_order():
    pairs = [("a", "b"), ("b", "c"), ("c", "a")]
    items = [{"text": str(k), "options": {i: "first", j: "then"}} for k, (i, j) in enumerate(pairs)]
    report = Dilemmas(questionnaire={"items": items}, labels="none", text=TEXT)({"who": Chooser((0.9,) * 3)}, rows(1))
    found = report.summary["who"]
    assert found["transitive"].value == 0
    assert [found[f"priority.{value}"].value for value in "abc"] == pytest.approx([0, 0, 0], abs=1e-9)


def test_a_taste_for_a_place_is_no_priority():
    items = [{"text": f"item {k}", "options": {"a": "yes", "b": "no"}} for k in range(4)]
    swayed = Respondent(lambda item: "neither", taste={"A": 60.0})
    steady = Respondent(lambda item: "yes")
    report = Dilemmas(questionnaire={"items": items}, text=TEXT, resamples=10)({"s": swayed, "t": steady}, rows(1))
    assert report.summary["s"]["priority.a"].value == pytest.approx(0, abs=1e-9)
    assert report.summary["s"]["order_consistency"].value == pytest.approx(0)
    assert report.summary["t"]["priority.a"].value > 0.5
    assert report.summary["t"]["order_consistency"].value == pytest.approx(1)


def test_replies_are_read_and_refusals_are_missing():
    items = [{"text": f"item {k}", "options": {"a": "yes", "b": "no"}} for k in range(3)]
    mute = Respondent(lambda item: "yes", says=lambda text: "I cannot answer that." if text[:6] == "item 0" else "A")
    spec = {"questionnaire": {"items": items}, "mode": "text", "orders": "given", "text": TEXT, "resamples": 10}
    found = Dilemmas(**spec)({"who": mute}, rows(1))
    assert found.summary["who"]["validity"].value == pytest.approx(2 / 3)
    assert (found.summary["who"]["wins.a"].value, found.summary["who"]["wins.a"].n) == (1, 2)
    assert found.rows[0]["chance"] is None
    silent = Dilemmas(**spec)({"who": Respondent(lambda item: "yes", says=lambda text: "")}, rows(1))
    assert not any(axis.startswith("priority") for axis in silent.summary["who"])
    assert any("no dilemma about a, b has an answer" in note for note in silent.notes)


def test_the_shipped_dilemmas_weigh_four_values_alike():
    asked = Dilemmas()
    assert len(asked.asked.items) == 12
    counts = {}
    for pair in asked.values:
        counts[frozenset(pair)] = counts.get(frozenset(pair), 0) + 1
    assert set(counts.values()) == {2}
    assert len(counts) == 6


def test_what_is_no_dilemma_is_named():
    for options in (["a", "b"], {"a": "x"}, {"a": "x", "b": "y", "c": "z"}):
        with pytest.raises(UsageError, match="item 1: is no dilemma"):
            Dilemmas(questionnaire={"items": [{"text": "?", "options": options}]})
    fine = {"text": "?", "options": {"a": "x", "b": "y"}}
    with pytest.raises(UsageError, match="no negation"):
        Dilemmas(questionnaire={"items": [{**fine, "negation": "!"}]})
    with pytest.raises(UsageError, match="leave the dot out"):
        Dilemmas(questionnaire={"items": [{"text": "?", "options": {"a.b": "x", "c": "y"}}]})
    with pytest.raises(UsageError, match="l2"):
        Dilemmas(l2=0)
    with pytest.raises(UsageError, match="no engine"):
        Dilemmas()({}, rows(1))
    with pytest.raises(UsageError, match="items"):
        Dilemmas(questionnaire={"items": []})
