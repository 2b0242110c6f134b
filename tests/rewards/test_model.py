"""A trained reward model as a reward: equal to transformers' own classifier, whatever the batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fairlead
from fairlead.errors import UsageError
from fairlead.training.config import TrainConfig
from fairlead.training.loop import train


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    config = TrainConfig(
        model="harbor:base-300k",
        data="harbor:preferences?n=320",
        objective="reward_model",
        learning_rate=2e-3,
        batch_size=16,
        epochs=2,
    )
    return str(train(config, tmp_path_factory.mktemp("reward") / "run", quiet=True).model)


@pytest.fixture(scope="module")
def pairs():
    return list(fairlead.read("harbor:preferences?n=60&split=test"))


def text(messages) -> str:
    return messages if isinstance(messages, str) else messages[-1]["content"]


def test_equals_transformers(trained, pairs):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model, tokenizer = (
        AutoModelForSequenceClassification.from_pretrained(trained),
        AutoTokenizer.from_pretrained(trained),
    )
    prompts, answers = [p.prompt for p in pairs[:12]], [text(p.chosen) for p in pairs[:12]]
    ours = fairlead.reward("model", model=trained)(prompts, answers).values
    for prompt, answer, value in zip(prompts, answers, ours):
        messages = [*map(dict, prompt), {"role": "assistant", "content": answer}]
        ids = tokenizer.apply_chat_template(messages, return_tensors="pt", return_dict=True)
        with torch.no_grad():
            assert value == pytest.approx(float(model(**ids).logits), abs=1e-4)


def test_ranks_held_out_pairs(trained, pairs):
    reward = fairlead.reward("model", model=trained)
    prompts = [p.prompt for p in pairs]
    chosen = reward(prompts, [text(p.chosen) for p in pairs])
    rejected = reward(prompts, [text(p.rejected) for p in pairs])
    assert not chosen.abstained.any()
    assert (chosen.values > rejected.values).mean() > 0.75


def test_alone_together_and_in_any_order(trained, pairs):
    reward = fairlead.reward("model", model=trained)
    prompts = [p.prompt for p in pairs for _ in range(2)]
    answers = [text(a) for p in pairs for a in (p.chosen, p.rejected)]
    together = reward(prompts, answers).values
    order = np.random.default_rng(0).permutation(len(answers))
    shuffled = reward([prompts[i] for i in order], [answers[i] for i in order]).values
    np.testing.assert_allclose(shuffled, together[order], atol=1e-5)
    small = fairlead.reward("model", model=trained, micro_tokens=1)
    np.testing.assert_allclose(small(prompts[:6], answers[:6]).values, together[:6], atol=1e-5)


def test_refusals(trained):
    reward = fairlead.reward("model", model=trained)
    with pytest.raises(UsageError, match="1 prompts and 2 completions"):
        reward(["a"], ["b", "c"])
    with pytest.raises(UsageError, match="positions"):
        reward(["a"], ["red " * 2000])
