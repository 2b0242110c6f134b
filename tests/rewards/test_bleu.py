"""BLEU as a reward: the published variant's known answers, its options, and what GRPO makes of a group of values."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fairlead
from fairlead.errors import DataError, UsageError
from fairlead.training.advantages import group_advantages

P, R1 = "The cat sat on the mat.", "The cat is on the mat."
R2 = "There is a cat sitting on the mat today, my friend."


def bleu(text, *references, **fields):
    reward = fairlead.reward("bleu", references={"q": references}, **fields)
    return float(reward(["q"], [text]).values[0])


def test_known_values():
    assert bleu(P, R1) == pytest.approx(0.5946036, abs=1e-7)
    assert bleu(P, R1, smooth=False) == pytest.approx(0.4889230, abs=1e-7)
    assert bleu(P, R2) == pytest.approx(0.1623663, abs=1e-7)
    assert bleu(P, R2, parts="brevity") == pytest.approx(0.4243728, abs=1e-7)
    assert bleu(P, R1, R2) == pytest.approx(0.5946036, abs=1e-7)


@pytest.mark.parametrize(
    ("text", "reference", "value"),
    [
        (R2, R2, 1),
        ("cat", R1, 0.00247875),
        ("dogs bark", R1, 0.0524476),
        ("", R1, 0),
        (" \n", R1, 0),
        ("No", "Yes", 0.8408964),
        (" ".join([R1] * 3), R1, 0.3127670),
    ],
)
def test_known_values_of_edges(text, reference, value):
    assert bleu(text, reference) == pytest.approx(value, abs=1e-7)


def test_tiny_answers_are_not_overrated_with_effective_orders():
    assert bleu("No", "Yes", effective_order=True) == pytest.approx(0.5)
    assert bleu("Yes", "Yes", effective_order=True) == 1


def test_a_short_reference_switches_the_brevity_penalty_off_unless_the_closest_counts():
    short = "my friend"
    assert bleu(P, R2, short, parts="brevity") == 1
    assert bleu("one two three four five six seven eight", R2, short, reflen="closest", parts="brevity") < 1


def test_a_group_and_its_advantages():
    reward = fairlead.reward("bleu", references={"q": R1})
    values = reward(["q"] * 4, [P, R1, "A dog.", "cat"]).values
    assert values == pytest.approx([0.5946036, 1, 0.1416268, 0.0024788], abs=1e-7)
    advantages = group_advantages(torch.from_numpy(values), torch.zeros(4, dtype=torch.int64))
    assert advantages.numpy() == pytest.approx([0.3523276, 1.2454413, -0.6456085, -0.9521603], abs=1e-6)


def test_writing_without_spaces_is_refused_or_parted():
    with pytest.raises(DataError, match="set tokenise: characters"):
        bleu("我喜欢狗。", "我喜欢猫。")
    assert bleu("我喜欢狗。", "我喜欢猫。", tokenise="characters") == pytest.approx(
        (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25
    )
    assert bleu("a,b c", "a,b c d", tokenise="none", parts="precision") == 1


def test_only_the_answer_part_is_valued():
    said = f"<think>\nhm\n</think>\n<answer>{P}</answer>"
    assert bleu(said, R1, answer_tag="answer") == bleu(P, R1)
    assert bleu("<think>hm</think><answer> </answer>", R1, answer_tag="answer") == 0


def test_values_do_not_depend_on_what_was_asked_before():
    prompts = [{"a": R1}, {"b": R2}]
    reward = fairlead.reward("bleu", references=prompts[0] | prompts[1])
    together = reward(["a", "b", "a"], [P, P, R1]).values
    assert np.array_equal(together, [bleu(P, R1), bleu(P, R2), 1])
    assert np.array_equal(reward(["b"], [P]).values, together[1:2])


@pytest.mark.parametrize("fields", [{"order": 0}, {"most": 0}, {"answer_tag": "<a>"}])
def test_settings_without_sense(fields):
    with pytest.raises(UsageError):
        fairlead.reward("bleu", references={"q": "a"}, **fields)
