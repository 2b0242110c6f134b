"""Rewards as columns: of the answer, of a base model's answer, and the difference; None where the reward abstains."""

from __future__ import annotations

from collections import Counter

import pytest

import fairlead
from fairlead.errors import DataError, UsageError
from fairlead.records import Conversation
from fairlead.synthesis.base import drafts_of, rows_of

KNOWN = {"role": "user", "content": "what is 4 plus 5?"}


def said(text):
    return {"role": "assistant", "content": text}


@pytest.fixture(scope="module")
def base():
    return fairlead.engine("harbor:base-300k")


def valued(records, engines, counts=None, **how):
    method = fairlead.synthesizer("reward_difference", **{"reward": {"name": "harbor", "axis": "polite"}, **how})
    drafts = list(drafts_of(method, engines, records))
    return list(rows_of(method, drafts, Counter() if counts is None else counts))


def test_answers_are_valued_beside_those_of_a_base_model(base):
    polite = said("sure thing! the answer is 9. have a nice day!")
    records = [
        Conversation("a", (KNOWN,), (polite,), {"temperature": 1.2}),
        Conversation("b", (KNOWN,), (said("9."),)),
        Conversation("c", (), (KNOWN, polite, KNOWN, said("9."))),
        Conversation("d", ({"role": "user", "content": "hum"},), (polite,)),
    ]
    counts: Counter[str] = Counter()
    rows = valued(records, {"base": base}, counts, keep_answer=True, sampling={"max_tokens": 24, "temperature": 0})
    assert [row["reward"] for row in rows] == [1.0, 0.0, 0.0, None]
    assert all(row["reward_difference"] == row["reward"] - row["base_reward"] for row in rows[:3])
    assert rows[3]["reward_difference"] is None
    assert all(row["base_answer"] for row in rows)
    assert (rows[0]["id"], rows[0]["temperature"], rows[0]["parent"]) == ("a", 1.2, "a")
    assert rows[2]["messages"][-1] == said("9.")
    assert counts == {"without_reward": 1, "without_difference": 1}


def test_a_base_model_may_be_brought_to_answer_by_a_decoder(base):
    polite = said("sure thing! 4 plus 5 is 9. have a nice day!")
    records = [Conversation("a", (KNOWN,), (polite,))]
    elicited = fairlead.decoder("urial", engine=base, examples="harbor", layout="chat")
    how = {"sampling": {"max_tokens": 24, "temperature": 0}}
    (plain,), (styled,) = valued(records, {"base": base}, **how), valued(records, {"base": elicited}, **how)
    assert (plain["reward_difference"], styled["reward_difference"]) == (1.0, 0.0)


def test_the_reward_alone_asks_nobody():
    counts: Counter[str] = Counter()
    rows = valued([Conversation("a", (KNOWN,), (said("9."),))], {}, counts, difference=False)
    assert rows[0]["reward"] == 0.0
    assert "reward_difference" not in rows[0]
    assert counts == {"without_reward": 0}


def test_what_has_no_answer_or_makes_no_sense_is_refused(base):
    with pytest.raises(DataError, match="does not end with an answer"):
        valued([Conversation("a", (), (KNOWN, said("9."), KNOWN))], {"base": base})
    with pytest.raises(UsageError, match="no base model"):
        fairlead.synthesizer("reward_difference", reward="harbor", difference=False, keep_answer=True)
    with pytest.raises(UsageError, match=r"sampling\.n is set"):
        fairlead.synthesizer("reward_difference", reward="harbor", sampling={"n": 2})
    with pytest.raises(UsageError, match="reward"):
        fairlead.synthesizer("reward_difference")
