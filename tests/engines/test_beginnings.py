"""Beginnings that prompts share: found where it pays, computed once, and no token of an answer changed by it."""

from __future__ import annotations

import random

import pytest
from tiny_models import FAMILIES, LINES, build

from fairlead.engines import Local, Sampling
from fairlead.engines.beginnings import find_beginnings

WORDS = " ".join(LINES).split()


def numbers(count, start=0):
    return tuple(range(start, start + count))


def lengths(prompts):
    return [0 if shared is None else len(shared.ids) for shared in find_beginnings(prompts)]


def test_what_is_worth_sharing():
    common = numbers(300)
    assert lengths([(*common, 1), (*common, 2, 3)]) == [300, 300]
    assert lengths([(*common[:40], 1), (*common[:40], 2)]) == [0, 0]  # 40 tokens saved
    assert lengths([(*common[:40], k) for k in range(8)]) == [40] * 8
    assert lengths([(*common[:31], k) for k in range(100)]) == [0] * 100
    assert lengths([]) == []
    assert lengths([common]) == [0]


def test_a_prompt_keeps_a_token_of_its_own():
    common = numbers(300)
    assert lengths([common, (*common, 1)]) == [299, 299]
    for shared in find_beginnings([common, (*common, 1)]):
        assert shared is not None
        assert shared.ids == common[:299]


def test_groups_share_what_they_have_and_the_rest_nothing():
    one, other = numbers(300), (*numbers(40), *numbers(400, 1000))
    prompts = [(*one, 1), (*other, 1), (9, 9), (*other, 2), (*one, 2), (*other, 3)]
    assert lengths(prompts) == [300, 440, 0, 440, 300, 440]
    found = find_beginnings(prompts)
    assert found[0] is found[4]
    assert found[1] is found[3] is found[5]


def test_a_stranger_does_not_spoil_the_group():
    common = numbers(200)
    prompts = [*((*common, k) for k in range(10)), (*common[:50], 7, 7)]
    assert lengths(prompts) == [200] * 10 + [0]
    even = [*((*common, k) for k in range(10)), *((*common[:190], 7, k) for k in range(10))]
    assert lengths(even) == [190] * 20


@pytest.fixture
def alike():
    """Chats and texts that begin alike: two beginnings, and strangers among them."""
    rng = random.Random(3)
    begun = [" ".join(rng.choices(WORDS, k=k)) for k in (80, 100)]
    prompts = [f"{begun[k % 2]} {' '.join(rng.choices(WORDS, k=rng.randint(1, 6)))}" for k in range(8)]
    return [*prompts, "alone", [{"role": "user", "content": prompts[0]}], *begun]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("sampling", [
    Sampling(max_tokens=6, temperature=0, logprobs=True),
    Sampling(max_tokens=6, temperature=0.9, top_p=0.95, n=2, seed=5, logprobs=True),
], ids=["greedy", "sampled"])  # fmt: skip
def test_answers_are_those_of_prompts_computed_alone(family, sampling, tokenizer, alike, monkeypatch):
    engine = Local(build(family, len(tokenizer), max_position_embeddings=512), tokenizer, max_rows=6)
    alone = [engine.generate([prompt], sampling)[0] for prompt in alike]
    widths = []
    body = engine.model.base_model
    forward = body.forward
    monkeypatch.setattr(body, "forward", lambda **given: widths.append(given["input_ids"].numel()) or forward(**given))
    together = engine.generate(alike, sampling)
    for one, other in zip(alone, together):
        assert [answer.token_ids for answer in one] == [answer.token_ids for answer in other]
        for a, b in zip(one, other):
            assert abs(a.logprobs - b.logprobs).max() < 1e-3
    whole = sum(len(engine.renderer.prompt(prompt)) for prompt in alike)
    assert sum(width for width in widths if width > 12) < 0.5 * whole


def test_a_model_that_cannot_share_still_answers(tokenizer, alike, monkeypatch):
    """Keys that do not fit stand for a model whose attention does not continue a cache: it is found out, once."""
    from fairlead.engines import sampler

    sampling = Sampling(max_tokens=6, temperature=0)
    model = build("llama", len(tokenizer), max_position_embeddings=512)
    wanted = Local(model, tokenizer).generate(alike, sampling)
    right = sampler._keys_of
    monkeypatch.setattr(sampler, "_keys_of", lambda *given: [(0 * keys, values) for keys, values in right(*given)])
    found = Local(model, tokenizer).generate(alike, sampling)
    assert [row[0].token_ids for row in found] == [row[0].token_ids for row in wanted]
