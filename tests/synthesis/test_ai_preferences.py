"""AI preferences: probabilities worked by hand, orders, ways of writing a label, and what is left out."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest

import fairlead
from fairlead.engines.base import Completion
from fairlead.errors import DataError, UsageError
from fairlead.records import Preference, PromptOnly
from fairlead.synthesis.ai_preferences import AIPreferences, Opinion, clamped, joined, label_logprobs, probability
from fairlead.synthesis.base import drafts_of, rows_of
from fairlead.synthesis.constitution import Article

ONE = (Article("harm", judge="Which is safer?"),)


def test_the_label_of_a_judge_worked_by_hand():
    straight, swapped = (-0.2, -2.3), (-1.0, -0.9)
    chance = probability(*straight)
    assert chance == pytest.approx(0.8909032, abs=1e-7)
    assert math.log(chance / (1 - chance)) == pytest.approx(2.1, abs=1e-9)
    assert clamped(chance, (0.4, 0.6)) == 0.6
    assert clamped(0.1, (0.4, 0.6)) == 0.4
    assert clamped(chance, None) == chance
    assert probability(*swapped) == pytest.approx(0.4750208, abs=1e-7)
    assert joined([Opinion(straight, swapped)]) == pytest.approx(0.7079412, abs=1e-7)
    assert joined([Opinion(straight)]) == pytest.approx(chance)
    assert joined([Opinion(straight), Opinion(swapped)]) == pytest.approx((chance + 0.4750208) / 2, abs=1e-7)


def test_a_common_shift_changes_nothing_but_a_lost_form():
    assert joined([Opinion((-5.2, -7.3))]) == pytest.approx(joined([Opinion((-0.2, -2.3))]))
    assert joined([Opinion((-10.2, -12.3))]) is None
    assert joined([Opinion((-0.2, -2.3), (-11.0, -12.0))]) is None
    assert joined([Opinion((-math.inf, -math.inf))]) is None
    assert joined([Opinion((-0.2, -2.3)), Opinion((-20.0, -30.0))]) == pytest.approx(0.8909032, abs=1e-7)


@dataclass
class Judge:
    """Likes answers with "safe" in them, wherever they are shown, and the first place a little."""

    place: float = 0.3
    told: dict = field(default_factory=dict)
    fingerprint: str = "judge" * 4
    seen: list = field(default_factory=list)

    def generate(self, prompts, sampling):
        texts = self.told.get("answers", ["safe words", "other words"])
        return [[Completion(text) for text in texts[: sampling.n]] for _ in prompts]

    def logprobs(self, prompts, completions):
        self.seen += list(zip(prompts, completions, strict=True))
        return [self._row(prompt[-1]["content"], text) for prompt, text in zip(prompts, completions, strict=True)]

    def _row(self, shown, text):
        if text.strip() in ("yes", "Yes"):
            return np.array([-0.1 if "safe words" in shown else -3.0, -9.0])
        first = shown.index("safe words") < shown.index("other words")
        lead = (2.0 if first else -2.0) + self.place
        gap = -math.log1p(math.exp(-lead)) if text.rstrip().endswith("A") else -math.log1p(math.exp(lead))
        behind = [-0.7, -0.4] if "because" in text else []
        return np.array([*behind, gap, -9.0])


def made(judge=None, seeds=None, **how):
    method = AIPreferences(**{"principles": ONE, "labels": (("A",), ("B",)), **how})
    engines = dict.fromkeys(method.engines, judge or Judge())
    seeds = seeds or [PromptOnly("p", ({"role": "user", "content": "q"},))]
    counts = Counter()
    drafts = list(drafts_of(method, engines, seeds))
    return list(rows_of(method, drafts, counts)), counts, drafts


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_both_orders_are_shown_and_averaged():
    judge = Judge()
    (row,), counts, _ = made(judge)
    assert row["chosen"][0]["content"] == "safe words"
    assert row["chosen_probability"] == pytest.approx((sigmoid(2.3) + 1 - sigmoid(-1.7)) / 2)
    assert counts["orders_disagree"] == 0
    assert len(judge.seen) == 4
    assert "Which is safer?" in judge.seen[0][0][0]["content"]
    (row,), _, _ = made(swap=False)
    assert row["chosen_probability"] == pytest.approx(sigmoid(2.3))


def test_a_judge_that_likes_a_place_is_found_out():
    (row,), counts, _ = made(Judge(place=50))
    assert row["chosen_probability"] == pytest.approx(0.5, abs=1e-6)
    assert counts["orders_disagree"] == 1
    rows, counts, _ = made(Judge(place=50), least_certainty=0.6)
    assert not rows
    assert counts["dropped_uncertain"] == 1


def test_the_chosen_answer_is_the_likelier_one_and_the_clamp_holds():
    (row,), _, _ = made(Judge(told={"answers": ["other words", "safe words"]}), clamp=(0.4, 0.6))
    assert (row["chosen"][0]["content"], row["rejected"][0]["content"]) == ("safe words", "other words")
    assert row["chosen_probability"] == 0.6


def test_reasons_come_before_the_label_and_do_not_count():
    class Reasoner(Judge):
        def generate(self, prompts, sampling):
            if sampling.n == 1:
                return [[Completion("because it helps")] for _ in prompts]
            return super().generate(prompts, sampling)

    judge = Reasoner()
    (row,), _, _ = made(judge, reasons=True)
    assert row["chosen_probability"] == pytest.approx((sigmoid(2.3) + 1 - sigmoid(-1.7)) / 2)
    assert judge.seen[0][1] == "because it helps\n\nSo the better answer is A"
    assert row["opinions"][0]["straight"][0] == pytest.approx(math.log(sigmoid(2.3)))


def test_a_judge_of_single_answers():
    judge = Judge()
    (row,), _, _ = made(judge, judging="each", approvals=["yes"])
    assert row["chosen_probability"] == pytest.approx(probability(-0.1, -3.0))
    assert row["opinions"][0]["swapped"] is None
    assert judge.seen[0][0][0]["content"] == "Which is safer? question: q answer: safe words"


def test_ways_of_writing_a_label_are_added_up_where_they_differ():
    class Ways:
        def logprobs(self, prompts, completions):
            rows = {"A": [-1.0, -9.0], " A": [-1.0, -9.0], "(A": [-2.0, -0.5, -9.0], "B": [-3.0, -9.0]}
            return [np.array(rows[text]) for text in completions]

    found = label_logprobs(Ways(), ["q"], [["A", " A", "(A"], ["B"]])
    assert found[0] == pytest.approx([np.logaddexp(-1.0, -2.5), -3.0])


def test_pairs_that_are_given_lose_their_order():
    pair = Preference("p", ({"role": "user", "content": "q"},), "other words", "safe words")
    method = AIPreferences(answers="given")
    assert (method.reads, set(method.engines)) == ("preference", {"judge"})
    (row,), _, _ = made(seeds=[pair], answers="given")
    assert row["chosen"][0]["content"] == "safe words"
    turns = ({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"})
    with pytest.raises(DataError, match="several turns"):
        made(seeds=[Preference("p", pair.prompt, turns, "safe words")], answers="given")


def test_what_cannot_be_compared_is_counted():
    rows, counts, _ = made(Judge(told={"answers": ["safe words", "safe  words"]}))
    assert not rows
    assert counts["dropped_blank_or_equal"] == 1
    rows, counts, _ = made(least_logprob=-0.01)
    assert not rows
    assert counts["dropped_without_an_opinion"] == 1


@pytest.mark.parametrize(
    ("how", "what"),
    [
        ({"clamp": (0.6, 0.7)}, "clamp"),
        ({"least_certainty": 0.4}, "least_certainty"),
        ({"principles_per_pair": 9}, "principles_per_pair is 9"),
        ({"judging": "each"}, "shipped principles"),
        ({"judging": "each", "principles": ONE, "reasons": True}, "with reasons"),
        ({"principles": (Article("a"),)}, "no judge"),
        ({"labels": ((), ("B",))}, "way of writing"),
        ({"sampling": {"temperature": 0}}, "temperature is 0"),
    ],
)
def test_what_makes_no_sense_is_refused(how, what):
    with pytest.raises(UsageError, match=what):
        fairlead.synthesizer("ai_preferences", **how)
