"""The ensemble: the mean on given probabilities, either model alone at the ends, and a plain loop."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from decoding.test_nudging import words
from tiny_models import build, build_tokenizer

from fairlead.decoding.ensemble import Ensemble
from fairlead.engines import Local, Sampling
from fairlead.engines.rows import Seen
from fairlead.errors import ModelError, UsageError

GREEDY = Sampling(max_tokens=16, temperature=0)
SAMPLED = Sampling(max_tokens=16, temperature=1.0, n=2, seed=3)
PROMPTS = ["the ship", "where is the captain?", [{"role": "user", "content": "count"}], "Süden"]


@pytest.fixture(scope="module")
def models():
    tokenizer = build_tokenizer()
    return {
        "base": Local(build("qwen2", len(tokenizer)), tokenizer),
        "aligned": Local(build("llama", len(tokenizer), num_hidden_layers=1), tokenizer),
    }


def seen(*probabilities):
    logits = torch.tensor([probabilities]).log() + 0.3
    return Seen(logits, logits.argmax(-1).tolist(), [0.0])


def test_the_mean_of_probabilities():
    one, two = seen(0.5, 0.3, 0.15, 0.05), seen(0.1, 0.2, 0.1, 0.6)
    method = Ensemble(base="x", aligned="y")
    mean = method._combine([one, two]).exp()
    torch.testing.assert_close(mean, torch.tensor([[0.3, 0.25, 0.125, 0.325]]))
    weighted = replace(method, weight=0.25)._combine([one, two]).exp()
    torch.testing.assert_close(weighted, torch.tensor([[0.4, 0.275, 0.1375, 0.1875]]))


def test_a_token_that_one_model_does_not_list_counts_as_impossible_for_it():
    one, two = seen(0.5, 0.3, 0.15, 0.05), seen(0.1, 0.2, 0.1, 0.6)
    listed = Ensemble(base="x", aligned="y", candidates=2)._combine([one, two]).exp()
    torch.testing.assert_close(listed, torch.tensor([[0.25, 0.25, 0.0, 0.3]]))


@pytest.mark.parametrize(("weight", "alone"), [(0.0, "base"), (1.0, "aligned")])
def test_all_weight_on_one_model_is_that_model(models, weight, alone):
    method = Ensemble(**models, weight=weight)
    for sampling in (GREEDY, SAMPLED):
        ours, own = method.generate(PROMPTS, sampling), models[alone].generate(PROMPTS, sampling)
        assert [[(c.text, c.token_ids) for c in row] for row in ours] == [
            [(c.text, c.token_ids) for c in row] for row in own
        ]


def test_it_equals_a_plain_loop(models):
    method = Ensemble(**models, weight=0.6)
    for prompt, (answer,) in zip(PROMPTS, method.generate(PROMPTS, GREEDY)):
        ids = models["base"].renderer.prompt(prompt)
        for token in answer.token_ids:
            with torch.inference_mode():
                base, aligned = (
                    torch.softmax(models[name].model(torch.tensor([ids])).logits[0, -1], -1)
                    for name in ("base", "aligned")
                )
            assert int((0.4 * base + 0.6 * aligned).argmax()) == token
            ids = [*ids, token]


def test_what_cannot_be_mixed(models):
    other = words()
    stranger = Local(build("llama", len(other), num_hidden_layers=1), other)
    with pytest.raises(ModelError, match=r"aligned .* different"):
        Ensemble(base=models["base"], aligned=stranger).generate(["a"], GREEDY)
    with pytest.raises(UsageError, match=r"weight is 1\.5"):
        Ensemble(base="x", aligned="y", weight=1.5)
    with pytest.raises(UsageError, match="candidates is -1"):
        Ensemble(base="x", aligned="y", candidates=-1)
