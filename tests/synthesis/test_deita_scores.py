"""Turns, scores per turn, and what becomes of those that are missing."""

from __future__ import annotations

from collections import Counter

import pytest

import fairlead
from fairlead.engines.base import Completion
from fairlead.engines.digits import expected_score, label_logprobs
from fairlead.errors import UnsupportedError, UsageError
from fairlead.records import Conversation
from fairlead.synthesis.base import drafts_of, rows_of
from fairlead.synthesis.deita_prompts import DIGITS, Shown, turns_of
from fairlead.synthesis.deita_scores import DeitaScores


def user(text):
    return {"role": "user", "content": text}


def said(text):
    return {"role": "assistant", "content": text}


LONG = Conversation(
    "c", "", ({"role": "system", "content": "s"}, user("one"), said("two"), said("more"), user("three")), {"tag": 7}
)


@pytest.mark.parametrize(
    ("record", "turns"),
    [
        (Conversation("a", (user("q"),), (said("r"),)), [("q", "r")]),
        (Conversation("b", "raw ", "text"), [("raw ", "text")]),
        (LONG, [("one", "two\nmore"), ("three", "")]),
        (Conversation("d", "", (said("nobody asked"),)), []),
    ],
)
def test_turns_of_a_record(record, turns):
    assert turns_of(record) == turns


def test_complexity_is_scored_without_the_answer():
    prompt = Shown("complexity", None, "chat").prompt(("the question", "the answer"))
    assert "the question" in prompt[0]["content"]
    assert "the answer" not in prompt[0]["content"]
    assert Shown("quality", "{{ answer }}|", "raw").prompt(("q", "a")) == "a| "


def test_scores_are_the_models_and_columns_stay():
    engine = fairlead.engine("harbor:base-300k")
    method = DeitaScores()
    (row,) = method({"complexity": engine, "quality": engine}, [LONG])
    assert (row["tag"], row["id"], row["method"]) == (7, "c", "deita_scores")
    assert row["messages"] == [dict(turn) for turn in LONG.completion]
    asked = [Shown("quality", None, "chat").prompt(turn) for turn in turns_of(LONG)]
    wanted = expected_score(label_logprobs(engine, asked, DIGITS, method.sampling))
    assert row["quality"] == pytest.approx(wanted.tolist())
    assert len(row["complexity"]) == 2
    assert all(1 <= score <= 6 for score in (*row["quality"], *row["complexity"]))


def test_one_axis_needs_one_scorer():
    engine = fairlead.engine("harbor:base-300k")
    (row,) = DeitaScores(axes="quality", form="raw")({"quality": engine}, [LONG])
    assert "complexity" not in row


def test_a_record_without_a_user_turn_is_an_error_of_its_own():
    method, engine = DeitaScores(axes="complexity"), fairlead.engine("harbor:base-300k")
    nobody = Conversation("d", "", (said("nobody asked"),))
    first, second = drafts_of(method, {"complexity": engine}, [nobody, LONG])
    assert first.error == "there is no user turn to score"
    assert second.error is None


class Server:
    """Tells the digit 5 of one turn, and no digit of the other."""

    remote = True
    fingerprint = "server"

    def __init__(self):
        self.calls = 0

    def logprobs(self, prompts, completions):
        raise UnsupportedError("no log-probs of given texts")

    def generate(self, prompts, sampling):
        self.calls += 1
        told = [{"5": -0.1} if "one" in prompt[0]["content"] else {"well": -0.1} for prompt in prompts]
        return [[Completion("5", extra={"top_logprobs": [one]})] for one in told]


@pytest.mark.parametrize(("on_missing", "scores"), [(None, [5.0, None]), (3.0, [5.0, 3.0])])
def test_a_score_that_is_missing_stays_missing_and_is_counted(on_missing, scores):
    method = DeitaScores(axes="complexity", on_missing=on_missing, complexity_text="{{ instruction }}")
    server, counts = Server(), Counter()
    drafts = list(drafts_of(method, {"complexity": server}, [LONG, LONG]))
    rows = list(rows_of(method, drafts[:1], counts))
    assert server.calls == 1
    assert rows[0]["complexity"] == scores
    assert counts["missing_complexity"] == 1


@pytest.mark.parametrize(
    ("change", "said_so"),
    [
        ({"on_missing": 9}, "on_missing is 9"),
        ({"quality_text": "{{ reply }}"}, "cannot be filled"),
        ({"complexity_text": "{{ answer }}"}, "cannot be filled"),
        ({"axes": "beauty"}, "axes"),
    ],
)
def test_settings_that_make_no_sense(change, said_so):
    with pytest.raises(UsageError, match=said_so):
        DeitaScores(**change)
