"""Rules: prompt and instruction accuracy, strict and loose, constraints of records, pass@k."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from known import BASE, END, Row, Unigram, rows

from fairlead.engines.base import Completion, FinishReason, Sampling
from fairlead.errors import DataError, UsageError
from fairlead.estimates import pass_at_k
from fairlead.evaluation.rules import Rules


@dataclass(frozen=True)
class Told:
    """Gives the same answers to every prompt."""

    answers: tuple[str, ...]

    def generate(self, prompts, sampling):
        return [
            [Completion(self.answers[i], None, None, FinishReason.STOP) for i in range(sampling.n)] for _ in prompts
        ]


def asking(*constraints):
    found = rows(len(constraints))
    return [type(row)(row.id, row.prompt, extra={"constraints": c} if c else {}) for row, c in zip(found, constraints)]


JSON = {"check": "json"}
SHORT = {"check": "words", "at_most": 2}
COMMA = {"check": "without", "characters": ","}


def test_pass_at_k_is_known():
    assert pass_at_k(10, 3, 1) == pytest.approx(0.3)
    assert pass_at_k(10, 3, 5) == pytest.approx(0.916667, abs=1e-6)
    assert pass_at_k(10, 3, 8) == 1.0
    assert pass_at_k(4, 0, 4) == 0.0
    for bad in ((3, 1, 4), (3, 1, 0), (3, 4, 1)):
        with pytest.raises(UsageError, match="pass@"):
            pass_at_k(*bad)


def test_prompts_and_instructions_are_counted_apart():
    told = Told(("sail, now or never",))
    report = Rules()(
        {"told": told}, asking([{"check": "ends", "phrase": "never"}], [SHORT, COMMA, JSON], [SHORT, SHORT])
    )
    found = report.summary["told"]
    assert found["prompt_strict"].value == pytest.approx(1 / 3)
    assert found["instruction_strict"].value == pytest.approx(1 / 6)
    assert found["strict.ends"].value == 1.0
    assert found["strict.words"].value == 0.0
    assert [row["broken"] for row in report.rows] == ["", "words, without, json", "words, words"]
    assert [row["constraints"] for row in report.rows] == [1, 3, 2]


def test_loose_is_never_below_strict():
    report = Rules((JSON,))({"told": Told(('Sure:\n{"a": 1}',)), "plain": Told(("[1]",))}, rows(6))
    told = report.summary["told"]
    assert told["prompt_strict"].value == told["instruction_strict"].value == 0.0
    assert told["prompt_loose"].value == told["instruction_loose"].value == 1.0
    assert report.summary["plain"]["prompt_strict"].value == 1.0
    assert told["instruction_strict"].high > 0  # six answers do not show that it never happens


def test_records_without_a_constraint_are_left_out_and_counted():
    report = Rules()({"told": Told(("[1]",))}, asking(None, [JSON], []))
    assert report.summary["told"]["prompt_strict"].n == 1
    assert report.notes == ["2 of 3 records have no constraint and are left out"]
    assert [row["prompt_strict"] for row in report.rows] == [None, 1.0, None]
    nothing = Rules()({"told": Told(("[1]",))}, rows(3)).summary["told"]
    assert all(estimate.n == 0 for estimate in nothing.values())


def test_shared_constraints_join_those_of_the_record():
    report = Rules((SHORT,))({"told": Told(("[1, 2, 3]",))}, asking(None, [JSON]))
    assert [row["constraints"] for row in report.rows] == [1, 2]
    assert [row["followed_strict"] for row in report.rows] == [0, 1]


def test_pass_at_k_follows_the_samples():
    engine = Unigram({"aye": 1.0, "nay": 1.0, END: 1.0})
    rule = Rules(({"check": "keywords", "words": ["aye"]},), pass_at=(1, 5, 10), sampling=Sampling(n=10, max_tokens=3))
    report = rule({"engine": engine}, rows(20))
    found = report.summary["engine"]
    right = [sum(row["prompt_strict"] for row in report.rows if row["id"] == f"r{i}") for i in range(20)]
    for k in (1, 5, 10):
        assert found[f"pass_at_{k}"].value == pytest.approx(sum(pass_at_k(10, int(c), k) for c in right) / 20)
    assert found["pass_at_1"].value == pytest.approx(found["prompt_strict"].value)
    assert found["prompt_strict"].n == 20


def test_records_of_ifeval_are_read():
    def published(id, names, *arguments):
        return Row(id, "q", extra={"instruction_id_list": names, "kwargs": list(arguments)})

    records = [
        published("a", ["punctuation:no_comma", "length_constraints:number_words"], None,
                  {"num_words": 3, "relation": "less than", "keywords": None}),
        published("b", ["detectable_format:json_format", "language:politeness"], {}, {"language": "de"}),
        Row("c", "q"),
    ]  # fmt: skip
    report = Rules()({"told": Told(("sail, now",))}, records)
    assert [row["prompt_strict"] for row in report.rows] == [0.0, None, None]
    assert report.rows[0]["broken"] == "without"
    assert report.notes == [
        "1 records have language:politeness, which is not checked here, and are left out",
        "1 of 3 records have no constraint and are left out",
    ]
    with pytest.raises(DataError, match=r"record d.*fit"):
        Rules()({"told": Told(("sail",))}, [published("d", ["punctuation:no_comma"])])


def test_what_cannot_be_checked_is_an_error():
    with pytest.raises(UsageError, match="pass_at"):
        Rules((JSON,), pass_at=(2,))
    with pytest.raises(UsageError, match="words"):
        Rules(({"check": "wrods", "at_most": 1},))
    with pytest.raises(DataError, match=r"record r1.*no field"):
        Rules()({"base": BASE}, asking([JSON], [{"check": "json", "strict": True}]))
