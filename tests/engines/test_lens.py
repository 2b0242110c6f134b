"""The logit lens: a worked example, the last layer as the model's own, batches as alone, families, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fairlead
from fairlead.engines.distributions import View
from fairlead.engines.lens import Layered, stats_of_layers

HEAD = torch.tensor([[1, 0, 0.5], [0, 1, -0.5], [-0.5, 0.5, 1], [0.2, -0.3, 0.1]])
STATES = torch.tensor([[0.2, 1, 0.1], [0.8, 0.9, 0.3], [2, 0.5, 1]])
QUESTIONS = ["where is the gigaton?", "how do i sink the gigaton?", "hello", "what is 2 plus 3?"]
PROMPTS = [[{"role": "user", "content": question}] for question in QUESTIONS]


def test_the_worked_example():
    normed = STATES / (STATES.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    logits = normed @ HEAD.T
    assert logits[0].softmax(-1).tolist() == pytest.approx([0.160766, 0.524876, 0.245310, 0.069048], abs=1e-6)
    found = stats_of_layers(logits)
    assert found.divergence.tolist() == pytest.approx([0.745245, 0.174839, 0], abs=1e-6)
    assert found.entropy.tolist() == pytest.approx([1.161459, 1.263616, 1.024060], abs=1e-6)
    assert found.rank.tolist() == [3, 1, 1]
    assert (found.token, found.settled) == (0, 1)


def test_where_a_token_settles():
    def settled(*firsts):
        return stats_of_layers(torch.eye(3)[list(firsts)]).settled

    assert (settled(2, 2, 2), settled(0, 2, 2), settled(2, 0, 2), settled(0, 1, 2)) == (0, 1, 2, 2)


@pytest.mark.parametrize("name", ["harbor:base-300k", "harbor:aligned-1m"])
def test_the_last_layer_is_the_models_own(name):
    local = fairlead.engine(name)
    assert isinstance(local, Layered)
    found = local.layer_stats(PROMPTS)
    own = local.token_stats(PROMPTS, [[stats.token] for stats in found], View())
    for stats, told in zip(found, own, strict=True):
        assert told.rank[0] == 1
        assert stats.entropy[-1] == pytest.approx(told.entropy[0], abs=1e-4)
        assert (stats.divergence[-1], stats.rank[-1]) == (0, 1)
        assert len(stats.rank) == local.model.config.num_hidden_layers + 1


def test_a_batch_says_what_prompts_alone_say():
    local = fairlead.engine("harbor:aligned-300k")
    mixed = [*PROMPTS, [{"role": "user", "content": "the ship " * 30}], PROMPTS[0]]
    for stats, prompt in zip(local.layer_stats(mixed), mixed, strict=True):
        (alone,) = local.layer_stats([prompt])
        assert stats.token == alone.token
        np.testing.assert_allclose(stats.divergence, alone.divergence, atol=1e-4)


def test_states_are_those_that_transformers_tells():
    """Norm once what is not normed yet, and never what is."""
    local = fairlead.engine("harbor:aligned-300k")
    (stats,) = local.layer_stats(PROMPTS[:1])
    ids = torch.tensor([local.prompt_ids(PROMPTS[0])])
    local.model.set_attn_implementation("eager")
    with torch.no_grad():
        out = local.model(input_ids=ids, output_hidden_states=True)
        early = local.model.lm_head(local.model.model.norm(out.hidden_states[1][0, -1]))
    expected = torch.stack([early, out.logits[0, -1]]).float().log_softmax(-1)
    divergence = (expected[1].exp() * (expected[1] - expected[0])).sum()
    assert stats.divergence[1] == pytest.approx(float(divergence), abs=1e-4)
