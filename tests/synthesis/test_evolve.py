"""Evolve: chains of versions, scores given side by side in any order, and versions that are of no use."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field

import pytest

import fairlead
from fairlead.engines.base import Completion
from fairlead.errors import EngineError, UnknownNameError, UsageError
from fairlead.records import Conversation
from fairlead.synthesis.base import drafts_of, rows_of
from fairlead.synthesis.evolve import METHODS, Evolve, usable

SEED = Conversation("s", ({"role": "user", "content": "ask"},), "say")


@dataclass
class Hand:
    """Adds a plus to what is evolved, answers by echo, and scores by the number of pluses."""

    writes: list = field(default_factory=list)
    score: object = None
    fingerprint: str = "hand" * 4
    seen: list = field(default_factory=list)

    def generate(self, prompts, sampling):
        self.seen += [prompt[-1]["content"] for prompt in prompts]
        return [[Completion(self._reply(prompt[-1]["content"]))] for prompt in prompts]

    def _reply(self, text):
        if text.startswith("score"):
            versions = re.findall(r"<number-(\d+)-\w+>\n(.*)\n", text)
            scores = {name: 1 + version.count("+") for name, version in versions}
            return json.dumps(scores) if self.score is None else self.score
        if text.startswith("evolve "):
            return self.writes.pop(0) if self.writes else text.removeprefix("evolve ") + "+"
        return f"answer to {text}"


def made(hand=None, seeds=(SEED,), axis="complexity", **how):
    shown = "instruction" if axis == "complexity" else "answer"
    texts = {"evolve": f"evolve {{{{ {shown} }}}}", "score": "score {{ variants | join('\n') }}"}
    method = Evolve(**{"axis": axis, "steps": 3, "texts": texts, **how})
    drafts = list(drafts_of(method, dict.fromkeys(method.engines, hand or Hand()), list(seeds)))
    counts = Counter()
    return list(rows_of(method, drafts, counts)), counts, drafts


def test_instructions_are_evolved_one_after_the_other_and_answered():
    rows, counts, _ = made()
    asked = [row["prompt"][0]["content"] for row in rows]
    assert asked == ["ask", "ask+", "ask++", "ask+++"]
    said = [row["completion"][0]["content"] for row in rows]
    assert said == ["say", "answer to ask+", "answer to ask++", "answer to ask+++"]
    assert [row["evolved_score"] for row in rows] == [1, 2, 3, 4]
    ways = [row["evolved_by"] for row in rows]
    assert ways[0] is None
    assert len({*ways[1:]}) == 3
    assert counts["above_their_seed"] == 3


def test_answers_are_evolved_and_the_instruction_stays():
    rows, _, _ = made(axis="quality")
    assert {row["prompt"][0]["content"] for row in rows} == {"ask"}
    assert [row["completion"][0]["content"] for row in rows] == ["say", "say+", "say++", "say+++"]
    assert set(Evolve(axis="quality").engines) == {"evolver", "judge"}
    assert set(Evolve().engines) == {"evolver", "judge", "model"}


def test_all_versions_stand_in_one_question_in_an_order_of_their_own():
    hands, orders = Hand(), []
    made(hands, [Conversation(f"s{i}", SEED.prompt, "say") for i in range(12)])
    for text in hands.seen:
        if text.startswith("score"):
            found = re.findall(r"<number-\d+-\w+>\n(.*)\n", text)
            assert sorted(found) == ["ask", "ask+", "ask++", "ask+++"]
            orders.append(tuple(found))
    assert len(orders) == 12
    assert len(set(orders)) > 4


def test_versions_of_no_use_are_counted_and_the_chain_goes_on():
    hand = Hand(writes=["ask", "Here is the rewritten prompt: ask more", "ask more"])
    rows, counts, _ = made(hand)
    assert [row["prompt"][0]["content"] for row in rows] == ["ask", "ask more"]
    assert counts["rejected_versions"] == 2
    assert rows[1]["version"] == 1


@pytest.mark.parametrize(
    ("text", "good"),
    [("", False), ("ask", False), (" a  sk", True), ("the new answer is this", False), ("ask for news", True)],
)
def test_what_is_of_use(text, good):
    assert usable(text, ["ask"]) is good


@pytest.mark.parametrize("score", ["dunno", '{"1": 2}', '{"1": 1, "2": 2, "3": 3, "4": 9}', '{"1": "N/A"}'])
def test_scores_that_cannot_be_read_leave_the_seed_out(score):
    rows, counts, drafts = made(Hand(score=score), retries=0)
    assert not rows
    assert counts["dropped_unscored"] == 4
    assert drafts[0].found["scores"] is None


def test_a_reward_scores_in_the_judges_stead():
    asked = Conversation("s", ({"role": "user", "content": "what is 2 plus 1?"},), "the answer is 4.")
    hand = Hand(writes=["the answer is 3."])
    rows, counts, _ = made(hand, [asked], axis="quality", steps=1, reward={"name": "harbor", "axis": "right"})
    assert [row["evolved_score"] for row in rows] == [0, 1]
    rows, counts, _ = made(axis="quality", reward="harbor")
    assert not rows
    assert counts["dropped_unscored"] == 4


def test_seeds_are_single_turns():
    turns = ({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}) * 2
    _, counts, drafts = made(seeds=[Conversation("m", (), turns), Conversation("t", "raw", "text")])
    assert [draft.error for draft in drafts] == ["it is not one instruction with one answer"] * 2
    assert counts["failed"] == 2


def test_a_judge_that_fails_is_told():
    class Down(Hand):
        def _reply(self, text):
            if text.startswith("score"):
                raise EngineError("no answer")
            return super()._reply(text)

    assert made(Down())[2][0].failed


def test_the_shipped_texts_show_what_they_must():
    for axis, ways in METHODS.items():
        method = Evolve(axis=axis)
        assert len(ways) == method.steps == 5
        evolve = method.shown["evolve"].render(instruction="I", answer="N", method="M")
        assert "M" in evolve
        score = method.shown["score"].render(
            axis=axis, instruction="I", variants=["V1", "V2"], names=["1", "2"], low=1, high=6, key="K"
        )
        assert '{"key": "K", "1": score, "2": score}' in score
        assert "V2" in score
        assert "from 1 (the least) to 6" in score


@pytest.mark.parametrize(
    ("how", "kind", "what"),
    [
        ({"steps": 6}, UsageError, "steps is 6"),
        ({"scale": (6, 1)}, UsageError, "scale"),
        ({"retries": -1}, UsageError, "retries"),
        ({"texts": {"scores": "{{ key }}"}}, UnknownNameError, "scores"),
        ({"sampling": {"n": 2}}, UsageError, "one version"),
    ],
)
def test_what_makes_no_sense_is_refused(how, kind, what):
    with pytest.raises(kind, match=what):
        fairlead.synthesizer("evolve", **how)
