from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from tiny_models import FAMILIES, LINES, build

from fairlead.engines.base import FinishReason, Sampling
from fairlead.engines.local import Local
from fairlead.errors import EngineError, ModelError, RenderError, UnsupportedError, UsageError

GREEDY = Sampling(max_tokens=20, temperature=0, logprobs=True)


def mixed_prompts(count: int, seed: int = 0) -> list:
    """Texts and chats of mixed length, cut from the training lines."""
    rng = random.Random(seed)
    prompts = []
    for k in range(count):
        line = " ".join(rng.choices(" ".join(LINES).split(), k=rng.randint(1, 24)))
        prompts.append(line if k % 2 else [{"role": "user", "content": line}])
    return prompts


@torch.no_grad()
def reference(model, ids: list[int], stops, max_tokens: int) -> tuple[list[int], np.ndarray]:
    """Greedy continuation by transformers' generate() alone, and its log-probs by a plain forward."""
    row = torch.tensor([ids])
    out = model.generate(
        row,
        attention_mask=torch.ones_like(row),
        max_new_tokens=max_tokens,
        do_sample=False,
        eos_token_id=sorted(stops),
        pad_token_id=0,
    )
    made = out[0, len(ids) :]
    logits = model(input_ids=out).logits[0, len(ids) - 1 : -1].float()
    return made.tolist(), logits.log_softmax(-1).gather(-1, made[:, None])[:, 0].numpy()


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_and_logprobs_equal_transformers(family, families, tokenizer):
    model = families(family)
    engine = Local(model, tokenizer, max_rows=16)
    prompts = mixed_prompts(50)
    answers = engine.generate(prompts, GREEDY)
    for prompt, (answer,) in zip(prompts, answers):
        ids, logprobs = reference(model, engine.renderer.prompt(prompt), engine.renderer.stops, 20)
        assert answer.token_ids == ids
        np.testing.assert_allclose(answer.logprobs, logprobs, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_batch_equals_alone(family, families, tokenizer):
    engine = Local(families(family), tokenizer, max_rows=16)
    prompts = mixed_prompts(20, seed=1)
    for sampling in (GREEDY, Sampling(max_tokens=16, temperature=0.9, top_p=0.95, n=3, seed=5, logprobs=True)):
        together = engine.generate(prompts, sampling)
        order = list(range(len(prompts)))
        random.Random(2).shuffle(order)
        shuffled = engine.generate([prompts[k] for k in order], sampling)
        for place, k in enumerate(order):
            assert [c.token_ids for c in shuffled[place]] == [c.token_ids for c in together[k]]
        for prompt, wanted in zip(prompts[:6], together):
            (alone,) = engine.generate([prompt], sampling)
            assert [c.token_ids for c in alone] == [c.token_ids for c in wanted]
            for one, other in zip(alone, wanted):
                np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_teacher_forced_logprobs_equal_plain_forward(family, families, tokenizer):
    model = families(family)
    engine = Local(model, tokenizer, max_batch_tokens=300)
    prompts = mixed_prompts(20, seed=3)
    prompts += prompts[:10]
    completions = [" ".join(random.Random(k).choices(LINES[k % 4].split(), k=1 + k % 9)) for k in range(30)]
    scored = engine.logprobs(prompts, completions)
    for prompt, completion, values in zip(prompts, completions, scored):
        row = engine.renderer.example(prompt, completion)
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([row.ids])).logits[0].float().log_softmax(-1)
        places = [t for t in range(row.split, len(row.ids)) if row.loss_mask[t]]
        wanted = [float(logits[t - 1, row.ids[t]]) for t in places]
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, wanted, atol=1e-4)
