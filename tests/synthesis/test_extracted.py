"""Questions and answers drawn behind an opening: how they are parted, what is broken, votes, and what is dropped."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

import fairlead
from fairlead.engines.base import Completion, FinishReason
from fairlead.errors import UnsupportedError, UsageError
from fairlead.synthesis.base import blank_seeds, drafts_of, rows_of


@dataclass
class Script:
    """Writes given questions behind raw text, and given answers to messages, `n` at a time."""

    questions: list[str]
    answers: dict[str, list[str]] = field(default_factory=dict)
    fingerprint: str = "script"
    asked: list[Any] = field(default_factory=list)

    def generate(self, prompts, sampling):
        self.asked += [(prompt, sampling) for prompt in prompts]
        return [[self._made(text) for text in self._said(prompt, sampling.n)] for prompt in prompts]

    def _said(self, prompt, n):
        return self.questions[:n] if isinstance(prompt, str) else self.answers[prompt[0]["content"]][:n]

    def _made(self, text):
        cut = text.endswith("~")
        reason = FinishReason.LENGTH if cut else FinishReason.STOP
        return Completion(text.removesuffix("~"), finish_reason=reason)


def made(engine, count, counts=None, **how):
    method = fairlead.synthesizer("extracted", **how)
    drafts = list(drafts_of(method, {"model": engine}, blank_seeds(count)))
    counts = Counter() if counts is None else counts
    return list(rows_of(method, drafts, counts)), [draft.error for draft in drafts]


def said(row):
    return row["prompt"][0]["content"], row["completion"][0]["content"]


def test_a_mark_parts_question_and_answer():
    questions = [
        " why? answer: so.",
        "why? so.",
        "why?~",
        "answer: so.",
        "why? answer: so~",
        "why? answer: ",
        "why? answer: so.",
    ]
    counts: Counter[str] = Counter()
    rows, errors = made(Script(questions), 7, counts, prefix="question:", mark="answer:")
    assert [said(row) for row in rows] == [("why?", "so.")]
    assert errors == [
        None, "there is no answer", "a question ran into its limit of tokens", "there is no question",
        "an answer ran into its limit of tokens", "there is no answer", None,
    ]  # fmt: skip
    assert (counts["failed"], counts["dropped_repeated"]) == (5, 1)
    assert len(made(Script(questions), 7, prefix="question:", mark="answer:", repeated=True)[0]) == 2


def test_questions_are_asked_in_a_chat_and_the_common_answer_is_kept():
    script = Script(
        ["how many?", "who?", "cut~", "where?"],
        {
            "how many?": ["it is 12.", "I count 1,200 and then 13", "so 13."],
            "who?": ["me", "you", "them"],
            "where?": ["~", "~", "here, at 5"],
        },
    )
    counts: Counter[str] = Counter()
    rows, errors = made(script, 4, counts, prefix="q", votes=3, vote_on="number")
    assert [said(row) for row in rows] == [
        ("how many?", "I count 1,200 and then 13"), ("who?", "me"), ("where?", "here, at 5")
    ]  # fmt: skip
    assert [(row["common_end"], row["agreement"]) for row in rows] == [("13", 2 / 3), (None, 0), ("5", 1 / 3)]
    assert errors[2] == "a question ran into its limit of tokens"
    rows, _ = made(script, 4, counts, prefix="q", votes=3, vote_on="number", agreement=0.5)
    assert [said(row)[0] for row in rows] == ["how many?"]
    assert counts["dropped_disagreement"] == 2
    (row, *_), _ = made(Script(["a?"], {"a?": ["Yes  it is", "no", "yes it is"]}), 1, prefix="q", votes=3)
    assert (row["common_end"], said(row)[1]) == ("yes it is", "Yes  it is")


def test_blocks_take_the_openings_by_turns():
    script = Script(["x?"] * 9)
    rows, _ = made(script, 5, prefix="q:", openings=["", " solve"], block=2, questions_only=True, repeated=True)
    starts = [prompt for prompt, _ in script.asked]
    assert starts == ["q:", "q: solve", "q:"]
    assert [row["prompt"][0]["content"] for row in rows] == ["x?", "x?", "solve x?", "solve x?", "x?"]
    assert len({sampling.seed for _, sampling in script.asked}) == 3


def test_a_model_writes_behind_its_own_opening():
    model = fairlead.engine("harbor:aligned-300k")
    how = {"sampling": {"max_tokens": 48, "logprobs": True}, "answering": {"max_tokens": 48}}
    rows, errors = made(model, 24, **how)
    assert len(rows) >= 18
    assert sum(error is None for error in errors) >= len(rows)
    assert all(-5 < row["question_logprob"] < 0 for row in rows)
    opening = model.renderer.user_opening([])
    chat = model.renderer.prompt([{"role": "user", "content": "where is it?"}])
    assert model.renderer.prompt(opening) == chat[: len(model.renderer.prompt(opening))]
    questions, _ = made(model, 24, questions_only=True, sampling={"max_tokens": 48, "logprobs": True})
    assert {said(row)[0] for row in rows} <= {row["prompt"][0]["content"] for row in questions}


def test_a_template_out_of_reach_is_told():
    with pytest.raises(UnsupportedError):
        made(Script(["x?"]), 1)


@pytest.mark.parametrize(
    ("how", "what"),
    [
        ({"openings": []}, "openings"),
        ({"openings": ["a", "a"]}, "openings"),
        ({"mark": "answer:"}, "mark needs a plain prefix"),
        ({"votes": 0}, "votes is 0"),
        ({"agreement": 1.5, "votes": 2}, "agreement 1.5"),
        ({"agreement": 0.5}, "agrees with itself"),
        ({"votes": 2, "questions_only": True}, "or by nobody"),
        ({"sampling": {"n": 2}}, "ask for more questions with count"),
        ({"block": 0}, "block is 0"),
    ],
)
def test_settings_that_make_no_sense(how, what):
    with pytest.raises(UsageError, match=what):
        fairlead.synthesizer("extracted", **how)
