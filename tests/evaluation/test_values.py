"""Profiles of values: published keys on answers worked out by hand, reliability, targets, behaviour."""

from __future__ import annotations

import math

import numpy as np
import pytest
from known import BASE, END, Count, Unigram, rows
from respondents import TEXT, Respondent, by_number

from fairlead.errors import UnknownNameError, UsageError
from fairlead.evaluation.values import Values

SIX = ["1 not at all", "2", "3", "4", "5", "6 very much"]
ANSWERS = [5, 2, 6, 3, 4, 4, 4, 6, 3, 3, 6, 6, 3, 4, 2, 4, 1, 6, 6, 2, 3]
PVQ = {"key": "pvq21", "options": SIX, "items": [f"item {i}" for i in range(1, 22)]}
TARGET = {
    "benevolence": 1, "universalism": 1.2, "self-direction": 0.8, "stimulation": -0.5, "hedonism": -0.4,
    "achievement": -0.6, "power": -1.8, "security": 0.2, "conformity": -0.1, "tradition": -0.5,
}  # fmt: skip


def person(answers, options=SIX, **taste) -> Respondent:
    return Respondent(by_number({f"item {i}": a for i, a in enumerate(answers, 1)}, options), **taste)


def values(**changes) -> Values:
    return Values(**{"questionnaire": PVQ, "text": TEXT, "resamples": 50, **changes})


def summary(evaluator, engine):
    return evaluator({"who": engine}, rows(1)).summary["who"]


def test_a_published_key_on_answers_worked_out_by_hand():
    found = summary(values(), person(ANSWERS))
    expected = {
        "benevolence": 2.047619, "universalism": 2.047619, "self-direction": 1.547619, "stimulation": -0.952381,
        "hedonism": -0.952381, "achievement": -0.952381, "power": -2.452381, "security": 0.047619,
        "conformity": 0.047619, "tradition": -1.452381,
    }  # fmt: skip
    assert {d: found[f"centred.{d}"].value for d in expected} == pytest.approx(expected, abs=1e-6)
    assert found["mean.power"].value - found["centred.power"].value == pytest.approx(3.952381, abs=1e-6)
    assert sum(found[f"centred.{d}"].value * found[f"centred.{d}"].n for d in expected) == pytest.approx(0)
    groups = {"openness": 0.297619, "self-enhancement": -1.702381, "conservation": -0.452381}
    groups["self-transcendence"] = 2.047619
    assert {g: found[f"group.{g}"].value for g in groups} == pytest.approx(groups, abs=1e-6)


def test_distances_to_a_target():
    found = summary(values(target=TARGET), person(ANSWERS))
    assert found["distance"].value == pytest.approx(2.094394, abs=1e-6)
    assert found["cosine"].value == pytest.approx(0.974192, abs=1e-6)
    assert found["rank_correlation"].value == pytest.approx(0.947482, abs=1e-6)
    for axis in ("distance", "cosine", "rank_correlation"):
        assert found[axis].low <= found[axis].value <= found[axis].high


def test_scores_that_do_not_compete_need_no_centre():
    twice = {"benevolence": 6.0, "power": 1.0}
    found = summary(values(target=twice, centre=False), person(ANSWERS))
    assert found["distance"].value == pytest.approx(0.5)
    assert summary(values(target=twice), person(ANSWERS))["distance"].value > 3
    report = values(baseline="one", centre=False)({"one": person([1] * 21), "two": person([6] * 21)}, rows(1))
    assert report.summary["two"]["difference.power"].value == pytest.approx(5)


def test_a_scale_that_runs_the_other_way_turns_the_profile_round():
    backwards = {**PVQ, "options": SIX[::-1], "values": [6, 5, 4, 3, 2, 1]}
    assert summary(values(questionnaire=backwards), person(ANSWERS, SIX))["centred.power"].value < -2
    wrong = {**PVQ, "options": SIX, "values": [6, 5, 4, 3, 2, 1]}
    assert summary(values(questionnaire=wrong), person(ANSWERS))["centred.power"].value > 2


def mfq(answers):
    items = [f"item {i}" for i in range(1, 33)]
    options = [f"{i} of 5" for i in range(6)]
    spec = {"key": "mfq30", "options": options, "values": [0, 1, 2, 3, 4, 5], "items": items}
    return values(questionnaire=spec), person([a + 1 for a in answers], options)


def test_moral_foundations_and_attention():
    answers = [(7 * i + 3) % 6 for i in range(1, 33)]
    evaluator, who = mfq(answers)
    assert (answers[5], answers[21]) == (3, 1)
    report = evaluator({"who": who}, rows(1))
    assert not any(axis.startswith("mean") for axis in report.summary["who"])
    assert any("no profile: it does not read what it answers (items 6, 22)" in note for note in report.notes)
    evaluator, who = mfq([1 if i == 6 else 4 if i == 22 else a for i, a in enumerate(answers, 1)])
    found = summary(evaluator, who)
    expected = {"harm": 2.666667, "fairness": 3.666667, "ingroup": 2.666667, "authority": 2.666667, "purity": 1.666667}
    assert {d: found[f"mean.{d}"].value for d in expected} == pytest.approx(expected, abs=1e-6)


def test_reliability_of_a_steady_person_and_of_a_taste_for_a_label():
    steady, swayed = summary(values(), person(ANSWERS)), summary(values(), person(ANSWERS, taste={"A": 80.0}))
    assert steady["order_consistency"].value == pytest.approx(1)
    assert swayed["order_consistency"].value == pytest.approx(0)
    assert swayed["centred.power"].value == pytest.approx(0)
    assert (steady["validity"].value, steady["mass"].value) == (1.0, pytest.approx(1.0))


def test_what_is_written_and_what_is_likeliest_differ():
    def says(text):
        return "A" if text.startswith("item 1|") else "no idea" if text.startswith("item 2|") else ""

    engine = person(ANSWERS)
    object.__setattr__(engine, "says", lambda text: says(text) or engine_says(text))

    def engine_says(text):
        item = int(text.split("|")[0].removeprefix("item "))
        return "ABCDEF"[ANSWERS[item - 1] - 1]

    report = values(mismatch=True)({"who": engine}, rows(1))
    assert (report.summary["who"]["mismatch"].value, report.summary["who"]["mismatch"].n) == (1 / 20, 20)


def test_alpha_needs_respondents():
    table = [(4, 5, 4), (2, 3, 2), (5, 5, 4), (3, 2, 3), (1, 2, 1)]
    items = [{"id": str(i), "text": f"item {i}", "dimension": "d"} for i in range(3)]

    class Crowd(Respondent):
        def _logits(self, prompt):
            who, what = int(prompt[0]["content"]), int(prompt[-1]["content"].split("|")[0].removeprefix("item "))
            return {label: 40.0 * (k + 1 == table[who][what]) for k, label in enumerate("ABCDE")}

    spec = {"options": list("vwxyz"), "items": items}
    crowd = values(questionnaire=spec, personas=("0", "1", "2", "3", "4"), orders="given")
    report = crowd({"who": Crowd(lambda item: "")}, rows(1))
    assert report.summary["who"]["alpha.d"].value == pytest.approx(0.949153, abs=1e-6)
    alone = values()({"who": person(ANSWERS)}, rows(1))
    assert not any(axis.startswith("alpha") for axis in alone.summary["who"])
    assert any("alpha is not known" in note for note in alone.notes)


def test_agreement_with_people():
    spec = {"options": list("wxyz"), "items": [{"text": "item 1", "dimension": "d", "people": [1, 0, 0, 0]}] * 1}
    assert summary(values(questionnaire=spec), person([4], list("wxyz")))["agreement"].value == pytest.approx(0)
    assert summary(values(questionnaire=spec), person([1], list("wxyz")))["agreement"].value == pytest.approx(1)


def test_differences_to_a_baseline_are_item_by_item():
    report = values(baseline="one")({"one": person(ANSWERS), "two": person(ANSWERS[::-1])}, rows(1))
    found = report.summary["two"]
    gap = found["centred.power"].value - report.summary["one"]["centred.power"].value
    assert found["difference.power"].value == pytest.approx(gap)
    same = values(baseline="one")({"one": person(ANSWERS), "two": person(ANSWERS)}, rows(1)).summary["two"]
    assert (same["difference.power"].low, same["difference.power"].high) == (0, 0)


def test_differences_of_many_dimensions_are_held_to_more():
    """One of five dimensions differs on all its items, the others by turns."""
    items = [
        {"id": f"{d}{i}", "text": f"item {8 * d + i + 1}", "dimension": f"d{d}"} for d in range(5) for i in range(8)
    ]
    spec = {"options": SIX, "items": items}
    one = [3] * 40
    two = [5] * 8 + [3 + (-1) ** i for i in range(32)]
    evaluator = values(questionnaire=spec, baseline="one", centre=False, resamples=1000)
    found = evaluator({"one": person(one), "two": person(two)}, rows(1)).summary["two"]
    assert found["difference.d0"].value == pytest.approx(2)
    assert found["difference_p.d0"].value == pytest.approx(5 * 2 / 1001)
    assert [found[f"difference_p.d{d}"].value for d in range(1, 5)] == [1.0] * 4
    alone = values(questionnaire={**spec, "items": items[:8]}, baseline="one", centre=False, resamples=1000)
    single = alone({"one": person(one), "two": person(two)}, rows(1)).summary["two"]
    assert single["difference_p.d0"].value == pytest.approx(2 / 1001)


def test_behaviour_is_valued_where_it_is_relevant():
    spec = {"options": ["no", "yes"], "items": [{"text": f"item {d}", "dimension": d} for d in ("talk", "peace", "x")]}
    talker = Unigram({"aye": 9.0, "nay": 1.0, END: 0.5})
    evaluator = Values(
        questionnaire=spec,
        labels="none",
        behaviour={"talk": Count("aye"), "peace": Count("nay", silent="nay"), "x": Count("aye", silent="aye")},
        resamples=5,
    )

    class Speaker(Unigram):
        def logprobs(self, prompts, completions):
            return [np.array([-1.0 if text == "yes" else -2.0]) for text in completions]

    report = evaluator({"speaker": Speaker(talker.weights)}, rows(20))
    found = report.summary["speaker"]
    said = [row for row in report.rows if "supports.talk" in row]
    assert len(said) == 20
    # Greedy: always "aye", never "nay"; x is never relevant.
    assert (found["revealed.talk"].value, found["revealed.talk"].n) == (20 / 25, 20)
    assert (found["revealed.peace"].value, found["revealed.peace"].n) == (-20 / 25, 20)
    assert found["revealed.x"].n == 0
    assert math.isnan(found["revealed.x"].value)


def test_what_is_refused():
    with pytest.raises(UnknownNameError, match="powr"):
        values(target={"powr": 1.0})
    with pytest.raises(UnknownNameError, match="powr"):
        values(behaviour={"powr": "harbor"})
    with pytest.raises(UnknownNameError, match="baseline engine"):
        values(baseline="none")({"base": BASE}, rows(1))
    with pytest.raises(UsageError, match="mismatch"):
        values(mismatch=True, mode="text")
    with pytest.raises(UsageError, match="no engine"):
        values()({}, rows(1))


def test_where_nobody_answers_there_is_no_profile():
    mute = person(ANSWERS)
    object.__setattr__(mute, "says", lambda text: "I cannot answer that.")
    report = values(mode="text", target=TARGET)({"mute": mute}, rows(1))
    found = report.summary["mute"]
    assert found["validity"].value == 0.0
    assert not any(axis.startswith(("mean", "centred", "distance")) for axis in found)
    assert any("126 of 126 answers are none (refusal 126)" in note for note in report.notes)
    assert any("no score for self-direction" in note for note in report.notes)
