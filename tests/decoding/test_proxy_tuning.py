"""Proxy tuning: the equation on given logits, its two trivial cases, and a plain loop over three models."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from decoding.test_nudging import words
from tiny_models import build, build_tokenizer

from fairlead.decoding.proxy_tuning import ProxyTuning
from fairlead.engines import Local, Sampling
from fairlead.engines.rows import Seen
from fairlead.errors import EngineError, ModelError, UsageError

GREEDY = Sampling(max_tokens=16, temperature=0)
SAMPLED = Sampling(max_tokens=16, temperature=0.8, top_p=0.95, n=2, seed=3, logprobs=True)
PROMPTS = ["the ship", "where is the captain?", [{"role": "user", "content": "count"}], "Süden"]


@pytest.fixture(scope="module")
def models():
    tokenizer = build_tokenizer()
    made = {
        "large": build("qwen2", len(tokenizer)),
        "small": build("llama", len(tokenizer), num_hidden_layers=1),
        "tuned": build("llama", len(tokenizer), num_hidden_layers=2),
    }
    return {name: Local(model, tokenizer) for name, model in made.items()}


def seen(*logits):
    rows = torch.tensor([logits])
    return Seen(rows, rows.argmax(-1).tolist(), [0.0])


def test_the_equation():
    one, two, three = seen(0.0, 1.0, 2.0, -1.0), seen(3.0, 0.0, 1.0, 0.0), seen(1.0, 0.0, 2.0, -4.0)
    method = ProxyTuning(base="x", tuned="y", untuned="z")
    assert method._combine([one, two, three]).tolist() == [[2.0, 1.0, 1.0, 3.0]]
    assert replace(method, strength=0.5)._combine([one, two, three]).tolist() == [[1.0, 1.0, 1.5, 1.0]]
    # Probabilities multiplied and divided are logits added and subtracted.
    p, q, r = (torch.softmax(s.logits, -1) for s in (one, two, three))
    wanted = p * q / r / (p * q / r).sum()
    torch.testing.assert_close(torch.softmax(method._combine([one, two, three]), -1), wanted)


def test_only_tokens_that_all_three_list():
    one, two, three = seen(0.0, 1.0, 2.0, -1.0), seen(3.0, 0.5, 1.0, 0.0), seen(1.0, 0.0, 2.0, -4.0)
    method = ProxyTuning(base="x", tuned="y", untuned="z", candidates=2)
    none, inf = seen(-5.0, -5.0, 0.0, 1.0), float("inf")
    assert method._combine([one, two, three]).tolist() == [[-inf, -inf, 1.0, -inf]]
    assert torch.isfinite(method._combine([seen(1.0, 1.0, 0.0, 0.0), seen(0.0, 0.0, 1.0, 1.0), none])).all()


def test_a_model_that_was_not_tuned_changes_nothing(models):
    method = ProxyTuning(base=models["large"], tuned=models["small"], untuned=models["small"])
    for sampling in (GREEDY, SAMPLED):
        ours, own = method.generate(PROMPTS, sampling), models["large"].generate(PROMPTS, sampling)
        assert [[(c.text, c.token_ids, c.finish_reason) for c in row] for row in ours] == [
            [(c.text, c.token_ids, c.finish_reason) for c in row] for row in own
        ]
    torch.testing.assert_close(ours[0][0].logprobs, own[0][0].logprobs, atol=1e-4, rtol=1e-4)


def test_the_small_model_as_its_own_base_is_the_tuned_one(models):
    method = ProxyTuning(base=models["small"], tuned=models["tuned"], untuned=models["small"])
    ours, own = method.generate(PROMPTS, GREEDY), models["tuned"].generate(PROMPTS, GREEDY)
    assert [row[0].token_ids for row in ours] == [row[0].token_ids for row in own]


def test_it_equals_a_plain_loop(models):
    method = ProxyTuning(base=models["large"], tuned=models["tuned"], untuned=models["small"], strength=0.7)
    for prompt, (answer,) in zip(PROMPTS, method.generate(PROMPTS, GREEDY)):
        ids = models["large"].renderer.prompt(prompt)
        for token in answer.token_ids:
            with torch.inference_mode():
                large, tuned, small = (
                    models[name].model(torch.tensor([ids])).logits[0, -1] for name in ("large", "tuned", "small")
                )
            assert int((large + 0.7 * (tuned - small)).argmax()) == token
            ids = [*ids, token]


def test_what_cannot_be_mixed(models):
    other = words()
    stranger = Local(build("llama", len(other), num_hidden_layers=1), other)
    with pytest.raises(ModelError, match=r"untuned .* different"):
        ProxyTuning(base=models["large"], tuned=models["tuned"], untuned=stranger).generate(["a"], GREEDY)
    with pytest.raises(UsageError, match="candidates is -1"):
        ProxyTuning(base="x", tuned="y", untuned="z", candidates=-1)
    method = ProxyTuning(base=models["large"], tuned=models["tuned"], untuned=models["small"])
    with pytest.raises(EngineError, match="reads at most 160"):
        method.generate(["the ship " * 200], GREEDY)
