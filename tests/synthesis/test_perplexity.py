"""Perplexities as columns: what is read, what counts, and what has none."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

import fairlead
from fairlead.errors import UsageError
from fairlead.records import Conversation
from fairlead.synthesis.base import drafts_of, rows_of
from fairlead.synthesis.perplexity import perplexity_of

ASK = {"role": "user", "content": "what is 4 plus 5?"}
SAY = {"role": "assistant", "content": "the answer is 9."}


@pytest.fixture(scope="module")
def model():
    return fairlead.engine("harbor:base-300k")


def read(records, model, counts=None, **how):
    method = fairlead.synthesizer("perplexity", **how)
    drafts = list(drafts_of(method, {"model": model}, records))
    return list(rows_of(method, drafts, Counter() if counts is None else counts))


def test_the_mean_surprise_of_a_token():
    assert perplexity_of(np.log([0.5, 0.125])) == pytest.approx(4)
    assert perplexity_of(np.zeros(3)) == 1
    assert perplexity_of(np.zeros(0)) is None
    assert perplexity_of(np.array([-1e6])) is None


def test_what_is_read_of_a_record(model):
    records = [Conversation("a", (ASK,), (SAY,), {"topic": "sums"}), Conversation("b", (), (ASK, SAY, ASK, SAY))]
    one, two = read(records, model, of=["answer", "pair", "given"])

    def raw(text):
        return math.exp(-model.logprobs([""], [text])[0][:-1].mean())

    assert one["answer_perplexity"] == pytest.approx(raw("the answer is 9."), rel=1e-5)
    assert one["pair_perplexity"] == pytest.approx(raw("what is 4 plus 5?\nthe answer is 9."), rel=1e-5)
    chat = model.logprobs([[ASK]], [SAY["content"]])[0]
    assert one["given_perplexity"] == pytest.approx(math.exp(-chat.mean()), rel=1e-5)
    assert (one["topic"], one["parent"]) == ("sums", "a")
    assert two["answer_perplexity"] == pytest.approx(raw("the answer is 9.\nthe answer is 9."), rel=1e-5)
    chat = model.logprobs([[ASK, SAY, ASK]], [SAY["content"]])[0]
    assert two["given_perplexity"] == pytest.approx(math.exp(-chat.mean()), rel=1e-5)


def test_garbled_answers_are_more_surprising(model):
    clean = list(fairlead.read("harbor:demonstrations?n=20"))
    garbled = [
        Conversation(record.id, record.prompt, ({"role": "assistant", "content": " ".join(words[::-1])},))
        for record in clean
        for words in [record.completion[0]["content"].split()]
    ]
    before, after = (read(records, model, of=["given"]) for records in (clean, garbled))
    assert np.mean([b["given_perplexity"] > a["given_perplexity"] for a, b in zip(before, after)]) > 0.9


def test_a_record_without_an_answer_fails_by_itself(model):
    counts: Counter[str] = Counter()
    rows = read(
        [Conversation("a", (ASK,), ({**SAY, "content": " "},)), Conversation("b", (ASK,), (SAY,))], model, counts
    )
    assert [row["id"] for row in rows] == ["b"]
    assert counts["failed"] == 1


def test_what_makes_no_sense_is_refused():
    for of in ([], ["answer", "answer"]):
        with pytest.raises(UsageError, match=r"perplexity\.of"):
            fairlead.synthesizer("perplexity", of=of)
    with pytest.raises(UsageError, match="of"):
        fairlead.synthesizer("perplexity", of=["prompt"])
