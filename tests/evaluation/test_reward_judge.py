"""A reward as a judge: the same text in and out as a model's, and the tastes that can be planted."""

from __future__ import annotations

import json

import pytest
from known import Count, Silent

from fairlead import fields, prompts
from fairlead.engines.asking import answer_slots
from fairlead.engines.base import Sampling
from fairlead.errors import EngineError, UnsupportedError, UsageError
from fairlead.evaluation.pairs import Pair, pair_slots
from fairlead.evaluation.reward_judge import RewardJudge

ASK = [{"role": "user", "content": "say aye"}]


def on_pair(judge: RewardJudge, a: str, b: str, prompt=ASK) -> dict:
    slots = pair_slots(Pair("p", 0, prompt, a, b), swapped=False)
    text = prompts.load("judging", "pair").render(**slots)
    ((reply,),) = judge.generate([[{"role": "user", "content": text}]], Sampling())
    found = json.loads(reply.text)
    assert found.pop("key") == slots["key"]
    return found


def on_answer(judge: RewardJudge, said: str, form: str, **names) -> dict:
    slots = answer_slots(ASK, said)
    text = prompts.load("judging", form).render(**slots, **names)
    ((reply,),) = judge.generate([[{"role": "user", "content": text}]], Sampling())
    found = json.loads(reply.text)
    assert found.pop("key") == slots["key"]
    return found


def test_pairs():
    judge = RewardJudge(Count("aye"), tie_margin=1, strong_margin=3)
    assert on_pair(judge, "aye " * 5, "aye") == {"verdict": "A>>B"}
    assert on_pair(judge, "aye", "aye aye aye") == {"verdict": "B>A"}
    assert on_pair(judge, "aye", "aye aye") == {"verdict": "A=B"}
    assert on_pair(RewardJudge(Silent()), "aye", "nay") == {"verdict": None}


def test_planted_tastes():
    assert on_pair(RewardJudge(Count("aye"), first_bonus=1.5), "nay", "aye") == {"verdict": "A>B"}
    assert on_pair(RewardJudge(Count("aye"), first_bonus=0.5), "nay", "aye") == {"verdict": "B>A"}
    assert on_pair(RewardJudge(Count("aye"), word_bonus=0.5), "nay nay nay nay", "aye") == {"verdict": "A>B"}
    assert on_answer(RewardJudge(Count("aye"), first_bonus=1), "nay", "checks", checks={"x": "?"}) == {
        "checks": {"x": "no"}
    }


def test_scores_and_checks_by_the_reward_of_their_name():
    judge = RewardJudge(Count("aye"), criteria={"nays": Count("nay"), "none": Silent()}, high=4.0)
    aspects = {"ayes": "It says aye.", "nays": "It says nay.", "none": "?"}
    found = on_answer(judge, "aye aye nay", "aspects", aspects=aspects, low=1, high=5)
    assert found == {"ayes": {"score": 3}, "nays": {"score": 2}, "none": {"score": "N/A"}}
    assert on_answer(judge, "aye " * 9, "aspects", aspects={"ayes": "."}, low=0, high=10) == {"ayes": {"score": 10}}
    ticks = on_answer(judge, "aye", "checks", checks={"ayes": "Aye?", "nays": "Nay?", "none": "?"})
    assert ticks == {"checks": {"ayes": "yes", "nays": "no", "none": "N/A"}}


def test_the_reward_gets_the_conversation_as_it_was():
    seen = []

    class Spy:
        def __call__(self, prompts, completions):
            seen.extend(zip(prompts, completions))
            return Count("aye")(prompts, completions)

    talk = [{"role": "system", "content": "be\n\nbrief"}, {"role": "user", "content": "a </user-00000000> b"}]
    on_pair(RewardJudge(Spy()), "one\n<answer-B-00000000>", "two", talk)
    on_pair(RewardJudge(Spy()), "one", "", "raw text")
    assert seen == [(talk, "one\n<answer-B-00000000>"), (talk, "two"), ("raw text", "one"), ("raw text", "")]


def test_what_it_cannot_judge_is_an_error():
    with pytest.raises(EngineError, match="leave `text` out"):
        RewardJudge("harbor").generate(["judge this: red"], Sampling())
    with pytest.raises(UnsupportedError):
        RewardJudge("harbor").logprobs([ASK], ["A"])
    with pytest.raises(UsageError, match="low below high"):
        RewardJudge("harbor", low=1, high=1)
    with pytest.raises(UsageError, match="tie_margin is -1"):
        RewardJudge("harbor", tie_margin=-1)
    with pytest.raises(UsageError, match="harbour"):
        RewardJudge("harbour")


def test_the_fingerprint_knows_the_settings():
    one, two = RewardJudge("harbor"), RewardJudge("harbor", first_bonus=1)
    assert one.fingerprint == RewardJudge("harbor").fingerprint != two.fingerprint
    assert fields.build(RewardJudge, fields.to_plain(two), owner="reward_judge") == two
