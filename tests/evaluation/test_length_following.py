"""Length following: scores of answers, bands, quartiles, what is left out, and bad input."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import numpy as np
import pytest
from judges import Scripted
from known import BASE, Row

from fairlead.engines.base import Completion, FinishReason, Sampling
from fairlead.errors import DataError, UsageError
from fairlead.evaluation.length_following import LengthFollowing
from fairlead.evaluation.writing import WRITING, quality_of
from fairlead.rewards.lengths import Request


@dataclass(frozen=True)
class Writer:
    """Answers question i with so many words."""

    words: tuple[int, ...]
    word: str = "ship"
    cut: bool = False

    def generate(self, prompts, sampling):
        reason = FinishReason.LENGTH if self.cut else FinishReason.STOP
        return [[Completion(" ".join([self.word] * n), None, None, reason)] for n, _ in zip(self.words, prompts)]


@dataclass(frozen=True)
class Says:
    """Says one text to each question."""

    texts: tuple[str, ...]

    def generate(self, prompts, sampling):
        return [[Completion(text)] for text, _ in zip(self.texts, prompts)]


def asking(*questions, **extra):
    return [Row(f"r{i}", [{"role": "user", "content": text}], extra=dict(extra)) for i, text in enumerate(questions)]


def test_answers_are_scored_against_their_prompt():
    records = asking("a story of 10 words", "a story of 20 words", "a 1,000-word story", "a story of 100 words")
    found = LengthFollowing(bands=(15, 100))({"one": Writer((10, 40, 500, 0))}, records)
    summary = found.summary["one"]
    assert [row["score"] for row in found.rows] == pytest.approx([100, 100 * 2 / 3, 50, 0])
    assert [row["required"] for row in found.rows] == [10, 20, 1000, 100]
    assert summary["score"].value == pytest.approx((100 + 200 / 3 + 50) / 4)
    assert summary["obeys"].value == 0.25
    assert summary["score.below_15"].value == 100
    assert summary["score.15_to_100"].value == pytest.approx(200 / 3)
    assert (summary["score.from_100"].value, summary["score.from_100"].n) == (25, 2)
    assert summary["ratio_median"].value == pytest.approx(0.75)
    assert summary["ratio_lower"].value == pytest.approx(0.375)
    assert summary["ratio_upper"].value == pytest.approx(1.25)
    assert found.notes == [
        "the strict and the extended parser read 1 of 4 prompts differently",
        "one: 1 answers have fewer than four words, so no distinct_4",
    ]


def test_records_without_one_length_are_left_out_and_counted():
    records = asking("a story", "two chapters, of 50 words and of 60 words", "a story of 10 words")
    found = LengthFollowing()({"one": Writer((10, 10, 10))}, records)
    assert [row["score"] for row in found.rows] == [None, None, 100]
    assert [row["obeys"] for row in found.rows] == [None, None, 1.0]
    assert found.summary["one"]["score"].n == 1
    assert found.notes == [
        "1 of 3 records ask for no length, left out",
        "1 of 3 records ask for several lengths, left out",
    ]
    nothing = LengthFollowing()({"one": Writer((10,))}, asking("a story"))
    assert nothing.summary["one"]["score"].n == 0
    assert math.isnan(nothing.summary["one"]["ratio_median"].value)


def test_the_column_goes_before_the_prompt_and_required_before_both():
    records = asking("a story of 10 words", length=20.0)
    assert LengthFollowing()({"one": Writer((20,))}, records).summary["one"]["score"].value == 100
    assert LengthFollowing(required=40)({"one": Writer((20,))}, records).summary["one"]["score"].value == 50
    assert LengthFollowing(column="size")({"one": Writer((10,))}, records).summary["one"]["score"].value == 100


@pytest.mark.parametrize("length", [0, -5, 2.5, True, "long"])
def test_a_column_without_a_length_is_an_error(length):
    with pytest.raises(DataError, match="record r0, column 'length'"):
        LengthFollowing()({"one": Writer((1,))}, asking("a story", length=length))


def test_cuts_repetition_and_other_alphabets():
    records = asking("a story of 40 words")
    found = LengthFollowing()({"cut": Writer((40,), cut=True), "slow": Writer((40,), word="один")}, records).summary
    assert found["cut"]["cut"].value == 1.0
    assert found["cut"]["distinct_4"].value == pytest.approx(1 / 37)
    assert found["slow"]["score"].value == 0.0
    other = LengthFollowing(count="words")({"slow": Writer((40,), word="один")}, records).summary
    assert other["slow"]["score"].value == 100.0


def test_quality_of_known_scores():
    assert quality_of((5, 4, 5, 4, 3, 4)) == pytest.approx(79.166667, abs=1e-6)


def rated(*scores):
    return json.dumps(dict(zip(WRITING, scores)))


def test_a_judge_rates_the_writing_beside_the_length():
    """Lengths score 100 and 50; the writing 79.17, 100 and, of a reply that stays no verdict, nothing."""
    replies = {"ship ship": rated(5, 4, 5, 4, 3, 4), "sea": rated(5, 5, 5, 5, 5, "N/A"), "no": "hm"}
    judge = Scripted(lambda parts, time: next(said for start, said in replies.items() if parts["answer"][:9] == start))
    records = asking("of 2 words", "of 2 words", "a story", "of 1 words")
    engine = Says(("ship ship", "sea", "sea", "no"))
    found = LengthFollowing(judge=judge)({"one": engine}, records)
    assert [row["quality"] for row in found.rows] == pytest.approx([79.166667, 100, None, None], abs=1e-6)
    summary = found.summary["one"]
    assert (summary["quality"].value, summary["quality"].n) == (pytest.approx((79.166667 + 100) / 2, abs=1e-6), 2)
    assert summary["score"].value == pytest.approx((100 + 50 + 100) / 3)
    assert summary["both"].value == pytest.approx((summary["score"].value + summary["quality"].value) / 2)
    assert len(judge.calls) == 2 + 5  # none about the record without a length, five about the reply that is none
    assert {how.temperature for _, how in judge.calls} == {0.5}
    assert any("1 of 3 replies hold no verdict" in note for note in found.notes)
    assert "quality" not in LengthFollowing()({"one": engine}, records).summary["one"]


def test_both_is_the_published_mean():
    """S_L 75.61 and S_Q 83.4 are 79.505 together."""
    score, quality = np.full((4, 1), 75.61), np.full((4, 1), 83.4)
    columns = dict.fromkeys(("obeys", "cut", "distinct_4", "ratio"), score) | {"score": score, "quality": quality}
    found = LengthFollowing()._summary([Request(100)] * 4, columns)
    assert found["both"].value == pytest.approx(79.505)


def test_samples_of_a_prompt_count_as_one():
    records = asking(*(["a story of 4 words"] * 6))
    found = LengthFollowing(sampling=Sampling(n=5, max_tokens=9))({"base": BASE}, records)
    assert (len(found.rows), found.summary["base"]["score"].n) == (30, 6)


@pytest.mark.parametrize("bad", [{"required": 0}, {"bands": (5, 5)}, {"bands": (0, 5)}, {"obeyed_from": 0}])
def test_bad_fields_are_named(bad):
    with pytest.raises(UsageError, match=next(iter(bad))):
        LengthFollowing(**bad)
