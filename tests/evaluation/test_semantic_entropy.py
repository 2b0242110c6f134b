"""Semantic entropy: known values, meanings by words, patterns and judges, what it tells of wrong answers."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import numpy as np
import pytest
from judges import Scripted
from known import rows

from fairlead.engines.base import Completion, Sampling
from fairlead.errors import UsageError
from fairlead.evaluation.semantic_entropy import SemanticEntropy, meaning_of
from fairlead.rewards.base import Rewards


@dataclass(frozen=True)
class Draws:
    """Answers the k-th question with the k-th text, and draws the k-th texts."""

    answers: tuple[str, ...]
    drawn: tuple[tuple[str, ...], ...]
    fingerprint: str = "draws"

    def generate(self, prompts, sampling):
        places = [int(prompt[-1]["content"].split()[-1]) for prompt in prompts]
        if sampling.temperature == 0:
            return [[Completion(self.answers[k])] for k in places]
        return [[Completion(text) for text in self.drawn[k][: sampling.n]] for k in places]


@dataclass(frozen=True)
class Right:
    """An answer that begins with "yes" is right; one that says nothing has no value."""

    def __call__(self, prompts, completions):
        values = np.array([math.nan if not c else float(c.lower().startswith("yes")) for c in completions])
        return Rewards(values, np.isnan(values))


FIVE = ("Yes.", "yes", "YES!", "no", "perhaps")


def test_known_entropy():
    report = SemanticEntropy(draws=5)({"who": Draws(("yes",), (FIVE,))}, rows(1))
    row = report.rows[0]
    assert row["entropy"] == pytest.approx(0.9502705, abs=1e-7)
    assert (row["meanings"], row["agreement"], row["answer"]) == (3, 0.6, "yes")


def test_a_pattern_finds_the_meaning():
    assert meaning_of("It is 3, no: it is 42.", r"\d+") == "42"
    assert meaning_of("The captain is ADA.", r"captain is (\w+)") == "ada"
    assert meaning_of("Nothing of  the kind!", r"\d+") == "nothing of the kind"
    drawn = (("so 4.", "4", "I say four: 4", "5"),)
    found = SemanticEntropy(draws=4, pattern=r"\d+")({"who": Draws(("= 4",), drawn)}, rows(1)).rows[0]
    assert (found["meanings"], found["agreement"]) == (2, 0.75)


def test_entropy_tells_wrong_from_right():
    """Steady where it is right, torn where it is wrong, but for one question of each kind."""
    steady, torn = ("yes",) * 4, ("yes", "no", "so", "well")
    answers = ("yes",) * 6 + ("no",) * 4
    drawn = (steady,) * 5 + (torn,) * 4 + (steady,)
    report = SemanticEntropy(draws=4, truth=Right())({"who": Draws(answers, drawn)}, rows(10))
    found = report.summary["who"]
    assert found["accuracy"].value == pytest.approx(0.6)
    # of 24 pairs of right and wrong: 5 * 3 ordered, 5 * 1 + 1 * 3 tied, 1 turned round
    assert found["auroc"].value == pytest.approx((15 + 0.5 * 8) / 24)
    assert found["auroc"].low < found["auroc"].value < found["auroc"].high
    assert found["surest_half"].value == pytest.approx(5 / 6)
    agreement = [1.0] * 5 + [0.25] * 4 + [0.0]
    right = [1] * 6 + [0] * 4
    assert found["brier"].value == pytest.approx(np.mean([(a - r) ** 2 for a, r in zip(agreement, right)]))
    assert set(report.figures) == {"entropy of meanings", "answering the surest"}


def test_answers_that_the_truth_does_not_value_are_left_out():
    drawn = (("yes",) * 4,) * 3
    report = SemanticEntropy(draws=4, truth=Right())({"who": Draws(("yes", "", "yes"), drawn)}, rows(3))
    assert report.summary["who"]["accuracy"].n == 2
    assert report.summary["who"]["auroc"].n == 0  # nothing is wrong
    assert report.notes == ["who: the truth has no value for 1 answers"]
    nothing = SemanticEntropy(draws=4, truth=Right())({"who": Draws(("",), drawn[:1])}, rows(1))
    assert nothing.summary["who"]["brier"].n == 0


COLOURS = {"red": 1, "crimson": 1, "scarlet": 1, "blue": 2, "navy": 2, "green": 3}


def same(parts, time) -> str:
    a, b = (COLOURS[parts[f"answer-{side}"].strip(".").lower()] for side in "AB")
    return json.dumps({"key": parts["key"], "verdict": "same" if a == b else "different"})


def test_a_judge_joins_other_words_of_one_meaning():
    judge = Scripted(same)
    drawn = (("crimson", "Red.", "blue", "navy"), ("green", "green", "green", "green"))
    report = SemanticEntropy(draws=4, judge=judge)({"who": Draws(("scarlet", "green"), drawn)}, rows(2))
    first, second = report.rows
    assert (first["meanings"], first["agreement"], first["entropy"]) == (2, 0.5, pytest.approx(math.log(2)))
    assert (second["meanings"], second["agreement"], second["entropy"]) == (1, 1, 0)
    assert len(judge.calls) == len({text for text, _ in judge.calls}) == 5  # equal words cost no call


def test_a_judge_without_a_verdict_keeps_meanings_apart_and_is_noted():
    judge = Scripted(lambda parts, time: "who knows")
    report = SemanticEntropy(draws=2, judge=judge, retries=0)({"who": Draws(("red",), (("red", "blue"),))}, rows(1))
    assert report.rows[0]["meanings"] == 2
    assert any("who, same meaning: 1 of 1 replies hold no verdict" in note for note in report.notes)


def test_what_is_refused():
    still = Sampling(temperature=0.0)
    for bad, message in (
        ({"draws": 1}, "draws"),
        ({"draw_sampling": still}, "all draws would be the same"),
        ({"pattern": "("}, "pattern"),
        ({"pattern": "a", "judge": Scripted(same)}, "a pattern and a judge"),
    ):
        with pytest.raises(UsageError, match=message):
            SemanticEntropy(**bad)
    with pytest.raises(UsageError, match="no engine"):
        SemanticEntropy()({}, rows(1))
