"""What is remembered of earlier prompts: the longest beginning, the least lately used forgotten, answers unchanged."""

from __future__ import annotations

import pytest
import torch

import fairlead
from fairlead.engines import Sampling
from fairlead.engines.desk import Desk
from fairlead.engines.memory import Memory
from fairlead.engines.programs import run
from fairlead.engines.shifts import Push, Shift

LOCAL = fairlead.engine("harbor:aligned-300k")
TURNS = [
    {"role": "user", "content": "where is the ship and what does it carry on this fine day?"},
    {"role": "assistant", "content": "it lies at the quay."},
]
GREEDY = Sampling(max_tokens=12, temperature=0)


def stored(count):
    return [(torch.full((1, 2, count, 3), float(count)), torch.zeros(1, 2, count, 3))]


def test_the_longest_beginning_is_found():
    memory = Memory(100)
    memory.put([1, 2, 3], (), stored(3))
    memory.put([1, 2, 4, 5, 6], (), stored(5))
    found, length = memory.find([1, 2, 4, 5, 9], (), 1)
    assert (found[0][0].shape[2], length) == (5, 4)
    assert memory.find([1, 2, 4, 5, 9], (), 5) is None
    assert memory.find([7], (), 1) is None


def test_a_sequence_takes_the_place_of_its_beginnings():
    memory = Memory(100)
    memory.put([1, 2], (), stored(2))
    memory.put([1, 2, 3], (), stored(3))
    assert memory.tokens == 3


def test_the_least_lately_used_is_forgotten_and_what_is_too_long_not_kept():
    memory = Memory(7)
    memory.put([1, 1, 1], (), stored(3))
    memory.put([2, 2, 2], (), stored(3))
    assert memory.find([1, 1], (), 2) is not None
    memory.put([3, 3, 3], (), stored(3))
    assert memory.find([2, 2], (), 1) is None
    assert memory.find([1, 1], (), 1) is not None
    memory.put([4] * 8, (), stored(8))
    assert (memory.tokens, memory.find([4], (), 1)) == (6, None)


def test_states_pushed_otherwise_are_other_states():
    memory, push = Memory(100), Push(torch.ones(4), None, False)
    memory.put([1, 2, 3, 4], (Shift({0: push}, 2, None),), stored(4))
    assert memory.find([1, 2, 3, 4], (), 1)[1] == 2
    assert memory.find([1, 2, 3, 4], (Shift({0: push}, 0, None),), 1) is None


@pytest.mark.parametrize("remember", [0, 4096])
def test_answers_are_the_same_and_cost_less(remember):
    desk, prompts = Desk(remember=remember), [TURNS[:1], [*TURNS, *TURNS[:1]], [*TURNS, *TURNS[:1]]]
    read = []
    for prompt in prompts:
        (made,) = run([lambda prompt=prompt: desk.answer(LOCAL, prompt, 0, GREEDY)])
        assert made.token_ids == LOCAL.generate([prompt], GREEDY)[0][0].token_ids
        read.append(desk.rows(LOCAL).tokens - len(made.token_ids) + 1)
        desk.give_back()
    lengths = [len(LOCAL.renderer.prompt(prompt)) for prompt in prompts]
    if not remember:
        assert read == lengths
    else:
        assert read[0] == lengths[0]
        assert read[1] < lengths[1] - lengths[0] + 8
        assert read[2] == 1
