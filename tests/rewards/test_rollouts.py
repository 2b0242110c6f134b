"""Rollouts: read from both forms of what `generate` leaves, found by their prompt, valued or believed."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest

from fairlead.errors import DataError, UsageError
from fairlead.rewards.base import Rewards
from fairlead.rewards.rollouts import key_of, read_rollouts, valued_once


@dataclass(frozen=True)
class Words:
    """Counts words."""

    def __call__(self, prompts, completions) -> Rewards:
        return Rewards(np.array([float(len(c.split())) for c in completions]), np.zeros(len(completions), dtype=bool))


def turn(text, role="user"):
    return [{"role": role, "content": text}]


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


SINGLE = [
    {"id": f"{p}-{i}", "prompt": turn(p), "completion": turn(text, "assistant"), "reward": len(text.split()) + 0.0}
    for p, said in {"p": ("a", "a b", "a b c"), "q": ("x", "x")}.items()
    for i, text in enumerate(said)
]
RANKED = [{"id": "p", "prompt": "raw", "completions": ["a", "a b"], "scores": [1.0, 2.0], "models": {"model": "m"}}]


def test_one_row_per_answer(tmp_path):
    found = read_rollouts(written(tmp_path / "all.jsonl", SINGLE))
    key = found.find(turn("p"))
    assert found.answers[key] == ("a", "a b", "a b c")
    assert found.scores[key].tolist() == [1, 2, 3]
    assert found.makers == {None}
    assert {k: v.tolist() for k, v in found.told(Words()).items()} == {key: [1, 2, 3], key_of(turn("q")): [1, 1]}


def test_one_row_per_prompt(tmp_path):
    found = read_rollouts(written(tmp_path / "ranked.jsonl", RANKED))
    assert found.answers == {key_of("raw"): ("a", "a b")}
    assert found.makers == {"m"}


def test_missing_scores_are_worked_out(tmp_path):
    rows = [{k: v for k, v in row.items() if k != "reward"} for row in SINGLE]
    found = read_rollouts(written(tmp_path / "bare.jsonl", rows))
    assert np.isnan(found.scores[key_of(turn("p"))]).all()
    assert found.told(Words())[key_of(turn("p"))].tolist() == [1, 2, 3]


def test_scores_of_another_reward_are_found_out(tmp_path):
    rows = [{**row, "reward": 2 * row["reward"]} for row in SINGLE]
    found = read_rollouts(written(tmp_path / "other.jsonl", rows))
    with pytest.raises(UsageError, match="rescore: true"):
        found.told(Words())
    assert found.valued(Words())[key_of(turn("p"))].tolist() == [1, 2, 3]


def test_a_system_message_makes_another_prompt():
    bare, led = turn("p"), [*turn("be brief", "system"), *turn("p")]
    assert len({key_of(bare), key_of(led), key_of("p")}) == 3


def test_what_is_not_there_is_said(tmp_path):
    found = read_rollouts(written(tmp_path / "all.jsonl", SINGLE))
    with pytest.raises(UsageError, match="no rollouts of the prompt 'other'"):
        found.find(turn("other"))
    with pytest.raises(DataError, match="one answer to 'p'"):
        read_rollouts(written(tmp_path / "one.jsonl", SINGLE[:1]))
    pair = {"id": "1", "prompt": "p", "chosen": "a", "rejected": "b"}
    with pytest.raises(DataError, match="preference"):
        read_rollouts(written(tmp_path / "pair.jsonl", [pair]))
    chat = [{"id": str(i), "prompt": turn("p"), "completion": [*turn("a", "assistant"), *turn("b")]} for i in (1, 2)]
    with pytest.raises(DataError, match="one assistant turn"):
        read_rollouts(written(tmp_path / "chat.jsonl", chat))


def test_equal_answers_to_a_prompt_are_valued_once():
    seen = []

    def words(prompts, completions):
        seen.extend(zip(prompts, completions))
        return Words()(prompts, completions)

    prompts, said = ["p", "q", "p", "p", "q"], ["a", "a", "a b", "a", "a"]
    assert valued_once(words, prompts, said).tolist() == [1, 1, 2, 1, 1]
    assert seen == [("p", "a"), ("q", "a"), ("p", "a b")]
    assert valued_once(words, [], []).tolist() == []
