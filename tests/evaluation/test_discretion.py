"""The audit of annotators: rewards, policies, oracles and judges, and what is left out and told."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from known import END, Count, Row, Silent, Unigram

from fairlead.engines.base import Completion
from fairlead.errors import DataError, UsageError
from fairlead.evaluation.discretion import Discretion

BASE = Unigram({"aye": 2.0, "nay": 2.0, "hush": 2.0, END: 1.0})
MORE_AYE, MORE_NAY = Count("aye", silent="hush"), Count("nay", silent="hush")
PRINCIPLES = {"aye": MORE_AYE, "nay": MORE_NAY}


def pair(number: int, chosen: str, rejected: str, **extra) -> Row:
    prompt = [{"role": "user", "content": f"question {number}"}]
    return Row(f"r{number}", prompt, "preference", extra, chosen=chosen, rejected=rejected)


CONFLICT, CONSENSUS, BREACH, SILENCE = ("aye", "nay"), ("aye nay", ""), ("", "aye nay"), ("hush", "aye")
RECORDS = [pair(i, *texts) for i, texts in enumerate([CONFLICT] * 6 + [CONSENSUS] * 3 + [BREACH] + [SILENCE] * 2)]


@dataclass(frozen=True)
class Reader:
    """Prefers the answer with more of the word that its instruction ends with; shown alone, the first by `lean`."""

    lean: float = 0.0
    reply: str | None = None
    fingerprint: str = "reader"

    def _gap(self, prompt) -> float:
        first, second, word = prompt[-1]["content"].split("|")
        return first.split().count(word) - second.split().count(word) + self.lean

    def logprobs(self, prompts, completions):
        chances = [
            {"A": 0.5 + 0.2 * np.sign(gap), "B": 0.5 - 0.2 * np.sign(gap), "NA": 0.0} for gap in map(self._gap, prompts)
        ]
        found = zip(prompts, chances, completions, strict=True)
        values = [0.6 if text.strip() == "NA" and self._gap(p) == 0 else c[text.strip()] for p, c, text in found]
        return [np.array([math.log(v) if v else -math.inf, 0.0]) for v in values]

    def generate(self, prompts, sampling):
        said = {1.0: "'A'", -1.0: "B.", 0.0: "N/A"}
        return [[Completion(self.reply or said[float(np.sign(self._gap(p)))])] * sampling.n for p in prompts]


TEXT = "{{ a }}|{{ b }}|{{ principle }}"
SENTENCES = {"more aye": "aye", "more nay": "nay"}


def test_situations_and_annotators():
    report = Discretion(principles=PRINCIPLES, annotators={"lover": MORE_AYE}, resamples=50)({"base": BASE}, RECORDS)
    pairs = report.summary["pairs"]
    assert [pairs[s].value for s in ("consensus", "conflict", "indifference")] == pytest.approx(
        [4 / 12, 6 / 12, 2 / 12]
    )
    assert pairs["relevant.aye"].value == pytest.approx(10 / 12)
    # Without one of two principles nothing is left to conflict with.
    assert pairs["consensus_without.nay"].value == pytest.approx(10 / 12)
    human = report.summary["human"]
    assert (human["arbitrariness"].value, human["arbitrariness"].n) == (0.25, 4)
    assert (human["supremacy.aye.nay"].value, human["supremacy.aye.nay"].n) == (1.0, 6)
    assert (report.summary["lover"]["arbitrariness"].value, report.summary["lover"]["decisive"].value) == (0.0, 10 / 12)
    assert human["agrees.aye"].value == pytest.approx(9 / 10)
    assert human["discrepancy.lover"].value == 0.0
    # The base finds short answers likelier, and is always against the longer one.
    assert report.summary["base"]["arbitrariness"].value == 1.0
    assert "priority.aye" not in human
    assert any(note == "human: aye only wins in conflicts, so no priority is given" for note in report.notes)
    assert any(note == "lover: 2 of 12 pairs are not decided" for note in report.notes)


def test_priorities_have_intervals_and_a_prior_keeps_them_finite():
    records = [pair(i, *(CONFLICT if i % 4 else CONFLICT[::-1])) for i in range(40)]
    found = Discretion(principles=PRINCIPLES, resamples=200)({"base": BASE}, records).summary["human"]
    assert found["priority.aye"].value == pytest.approx(math.log(30 / 10) / 2)
    assert found["priority.aye"].low < math.log(30 / 10) / 2 < found["priority.aye"].high
    assert found["priority.aye"].n == 40
    always = [pair(i, *CONFLICT) for i in range(10)]
    free = Discretion(principles=PRINCIPLES, resamples=20, prior_sd=2.0)({"base": BASE}, always).summary["human"]
    assert 0 < free["priority.aye"].value < math.inf


def test_supremacy_needs_conflicts_enough():
    asked = Discretion(principles=PRINCIPLES, resamples=5, least_conflicts=7)
    report = asked({"base": BASE}, RECORDS)
    assert not any(axis.startswith("supremacy") for axis in report.summary["human"])


@pytest.mark.parametrize("read", ["logprobs", "text"])
def test_an_oracle_says_what_rewards_say(read):
    by_reward = Discretion(principles={"more aye": Count("aye"), "more nay": Count("nay")}, resamples=20)
    asked = Discretion(principles=SENTENCES, oracle=Reader(), text=TEXT, read=read, resamples=20)
    one, two = (evaluator({"base": BASE}, RECORDS) for evaluator in (by_reward, asked))
    assert repr(one.summary) == repr(two.summary)


def test_an_oracle_that_prefers_a_place_says_nothing_in_both_orders():
    one_sided = Reader(lean=100.0)
    both = Discretion(principles=SENTENCES, oracle=one_sided, text=TEXT, resamples=5)({"base": BASE}, RECORDS)
    assert both.summary["pairs"]["indifference"].value == 1.0
    once = Discretion(principles=SENTENCES, oracle=one_sided, text=TEXT, orders="first", resamples=5)
    assert once({"base": BASE}, RECORDS).summary["pairs"]["consensus"].value == 1.0


def test_what_an_oracle_does_not_say_is_left_out_and_told():
    mute = Discretion(principles=SENTENCES, oracle=Reader(reply="hard to say"), text=TEXT, read="text", resamples=5)
    report = mute({"base": BASE}, RECORDS)
    assert math.isnan(report.summary["pairs"]["consensus"].value)
    assert any("12 pairs are left out" in note for note in report.notes)
    assert any("12 of 12 replies hold no verdict" in note for note in report.notes)


def test_engines_can_be_asked_as_judges(tmp_path):
    judge = Reader(reply="A")
    asked = Discretion(principles=PRINCIPLES, engines_as="judges", read="text", resamples=5)
    found = asked({"judge": judge}, RECORDS).summary["judge"]
    assert found["decisive"].value == 0.0
    once = Discretion(principles=PRINCIPLES, engines_as="judges", read="text", orders="first", resamples=5)
    assert once({"judge": judge}, RECORDS).summary["judge"]["agrees.aye"].value == pytest.approx(9 / 10)


def test_equal_pairs_change_no_estimate_and_clusters_keep_intervals_wide():
    records = [pair(i, *(CONSENSUS if i % 3 else BREACH), prompt=str(i)) for i in range(30)]
    twice = records + [pair(i + 30, r.chosen, r.rejected, prompt=r.extra["prompt"]) for i, r in enumerate(records)]
    one = Discretion(principles=PRINCIPLES, resamples=5)({"base": BASE}, records).summary["human"]["arbitrariness"]
    two = Discretion(principles=PRINCIPLES, resamples=5)({"base": BASE}, twice).summary["human"]["arbitrariness"]
    joined = Discretion(principles=PRINCIPLES, resamples=5, cluster="prompt")({"base": BASE}, twice)
    kept = joined.summary["human"]["arbitrariness"]
    assert one.value == two.value == kept.value
    assert two.high - two.low < 0.85 * (one.high - one.low)
    assert kept.high - kept.low > 0.9 * (one.high - one.low)
    assert kept.n == 60


def test_the_shipped_principles_and_a_file_of_ones_own(tmp_path):
    assert len(Discretion(oracle=Reader())._named) == 21
    path = tmp_path / "mine.yaml"
    path.write_text("kind: The answer is kind.\nbrief: The answer is brief.\n", encoding="utf-8")
    assert list(Discretion(principles=str(path), oracle=Reader())._named) == ["kind", "brief"]
    assert Discretion.files({"principles": str(path)}) == {"principles": str(path)}
    assert Discretion.files({"principles": "general"}) == {}


def test_what_is_refused(tmp_path):
    with pytest.raises(UsageError, match="nobody says who keeps to be helpful"):
        Discretion()
    with pytest.raises(UsageError, match="fewer than two"):
        Discretion(principles={"aye": MORE_AYE})
    with pytest.raises(UsageError, match=r"'aye' is 3"):
        Discretion(principles={"aye": 3, "nay": MORE_NAY})
    with pytest.raises(UsageError, match="cannot be called"):
        Discretion(principles={"a.b": MORE_AYE, "nay": MORE_NAY})
    with pytest.raises(UsageError, match="cannot be read"):
        Discretion(principles=str(tmp_path / "none.yaml"), oracle=Reader())
    with pytest.raises(UsageError, match="these names stand twice: human"):
        Discretion(principles=PRINCIPLES)({"human": BASE}, RECORDS)
    with pytest.raises(UsageError, match="more than once: r0"):
        Discretion(principles=PRINCIPLES)({"base": BASE}, [RECORDS[0], RECORDS[0]])
    with pytest.raises(DataError, match="holds no pair"):
        Discretion(principles=PRINCIPLES)({"base": BASE}, [Row("r", "q")])
    with pytest.raises(UsageError, match="no column 'person'"):
        Discretion(principles=PRINCIPLES, cluster="person")({"base": BASE}, RECORDS)
    for changes in ({"tie_margin": -1}, {"margin": 2}, {"resamples": 0}, {"prior_sd": 0.0}, {"least_conflicts": 0}):
        with pytest.raises(UsageError, match=next(iter(changes))):
            Discretion(principles=PRINCIPLES, **changes)


def test_pairs_of_several_turns_are_counted_out():
    turns = [{"role": "assistant", "content": "aye"}, {"role": "user", "content": "and?"}]
    long = Row("long", "q", "preference", chosen=turns, rejected="nay")
    report = Discretion(principles=PRINCIPLES, resamples=5)({"base": BASE}, [*RECORDS, long])
    assert report.summary["pairs"]["consensus"].n == 12
    assert any("1 pairs are left out, their answers are several turns: long" in note for note in report.notes)


def test_silent_principles_give_nothing_but_notes():
    report = Discretion(principles={"one": Silent(), "two": Silent()}, resamples=5)({"base": BASE}, RECORDS)
    assert report.summary["pairs"]["indifference"].value == 1.0
    assert math.isnan(report.summary["human"]["arbitrariness"].value)
    assert any("no decided conflict" in note for note in report.notes)
