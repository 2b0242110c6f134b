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


def count_forwards(model, monkeypatch) -> list[tuple[int, int]]:
    """Record the shape of every forward of the model's body."""
    shapes: list[tuple[int, int]] = []
    body = model.base_model
    forward = body.forward

    def counted(*args, **kwargs):
        shapes.append(tuple(kwargs["input_ids"].shape))
        return forward(*args, **kwargs)

    monkeypatch.setattr(body, "forward", counted)
    return shapes


def test_prompts_are_computed_once_for_all_samples(local, monkeypatch):
    local.generate(["warm up"], Sampling(max_tokens=1))
    shapes = count_forwards(local.model, monkeypatch)
    prompt = "where is the captain of the northern ferry?"
    first, second = local.generate([prompt, prompt], Sampling(n=8, max_tokens=4, temperature=1.0))
    width = len(local.renderer.prompt(prompt))
    assert shapes[0] == (1, width)
    assert all(shape[1] == 1 and shape[0] <= 8 for shape in shapes[1:])
    assert [c.token_ids for c in first] == [c.token_ids for c in second]
    assert len({tuple(c.token_ids) for c in first}) > 1
    assert first[0].token_ids is not second[0].token_ids


def test_finished_rows_leave_and_waiting_ones_join(families, tokenizer, monkeypatch):
    engine = Local(families("llama"), tokenizer, max_rows=4)
    prompts = mixed_prompts(24, seed=9)
    sampling = Sampling(max_tokens=12, temperature=1.2, n=2, seed=4)
    wanted = Local(families("llama"), tokenizer, max_rows=64).generate(prompts, sampling)
    shapes = count_forwards(engine.model, monkeypatch)
    found = engine.generate(prompts, sampling)
    assert [[c.token_ids for c in row] for row in found] == [[c.token_ids for c in row] for row in wanted]
    decoding = [rows for rows, width in shapes if width == 1]
    assert max(decoding) == 4
    lengths = sum(len(c.token_ids) - 1 for row in found for c in row)
    assert sum(decoding) == lengths + 6  # no row is computed after its end; 6 are the engine's check of the model


def test_samples_beyond_the_rows(families, tokenizer):
    prompt, sampling = "count: one two", Sampling(max_tokens=6, n=9, seed=1)
    few = Local(families("llama"), tokenizer, max_rows=2).generate([prompt], sampling)[0]
    many = Local(families("llama"), tokenizer).generate([prompt], sampling)[0]
    assert [c.token_ids for c in few] == [c.token_ids for c in many]


def test_samples_depend_on_the_seed_and_the_prompt(local):
    sampling = Sampling(max_tokens=12, n=2, seed=1)
    one = local.generate(["the ship", "the ferry"], sampling)
    again = local.generate(["the ship"], Sampling(max_tokens=12, n=3, seed=1))
    other = local.generate(["the ship"], Sampling(max_tokens=12, n=2, seed=2))
    assert [c.token_ids for c in one[0]] == [c.token_ids for c in again[0][:2]]
    assert [c.token_ids for c in one[0]] != [c.token_ids for c in other[0]]
    assert one[0][0].token_ids != one[1][0].token_ids


def test_stop_texts_across_token_borders(local):
    """Whatever text a completion contains, stopping at it cuts exactly there, and changes no token before."""
    prompts = mixed_prompts(8, seed=6)
    free = local.generate(prompts, Sampling(max_tokens=24, temperature=0.8, seed=3, logprobs=True))
    tried = 0
    for prompt, (whole,) in zip(prompts, free):
        for start in range(0, max(0, len(whole.text) - 4), 5):
            stop = whole.text[start : start + 3]
            if "\ufffd" in stop:
                continue
            tried += 1
            sampling = Sampling(max_tokens=24, temperature=0.8, seed=3, logprobs=True, stop=(stop, "never seen"))
            ((cut,),) = local.generate([prompt], sampling)
            assert cut.finish_reason is FinishReason.STOP
            assert stop not in cut.text
            assert whole.text.startswith(cut.text + stop)
            count = len(cut.token_ids)
            assert cut.token_ids == whole.token_ids[:count]
            assert len(cut.logprobs) == count
            assert stop in local.renderer.decode(cut.token_ids)
            assert stop not in local.renderer.decode(cut.token_ids[:-1])
    assert tried >= 10


def test_finish_reasons(local):
    answers = local.generate(mixed_prompts(30), Sampling(max_tokens=20, temperature=0))
    reasons = set()
    for (answer,) in answers:
        ended = answer.token_ids[-1] in local.renderer.stops
        assert answer.finish_reason is (FinishReason.STOP if ended else FinishReason.LENGTH)
        assert len(answer.token_ids) == 20 or ended
        assert "<|im_end|>" not in answer.text
        reasons.add(answer.finish_reason)
    assert reasons == set(FinishReason)


def test_positions_are_a_limit(local):
    limit = local.model.config.max_position_embeddings
    text = "a " * limit
    ids = local.renderer.prompt(text)
    (answer,) = local.generate_ids([ids[: limit - 5]], Sampling(max_tokens=50, temperature=0))[0]
    assert len(answer.token_ids) <= 5
    with pytest.raises(EngineError, match=f"prompt 2 of 2: .*reads at most {limit}"):
        local.generate(["short", text], Sampling())
    with pytest.raises(EngineError, match=f"row 1 of 1: .*reads at most {limit}"):
        local.logprobs(["short"], [text])


def test_empty_prompts(local):
    with pytest.raises(EngineError, match="prompt 1 of 1: the prompt is empty"):
        local.generate([""], Sampling())
    with pytest.raises(RenderError, match="prompt 2 of 2"):
        local.generate(["fine", []], Sampling())
    (answer,) = local.generate([[{"role": "user", "content": ""}]], Sampling(max_tokens=3))[0]
    assert answer.token_ids
    assert local.generate([], Sampling()) == []
    assert local.logprobs([], []) == []


def test_logprobs_agree_with_the_sampler(local):
    """What sampling says of its own tokens is what teacher forcing says of them."""
    prompts = [local.renderer.prompt(p) for p in mixed_prompts(10, seed=8)]
    rows = local.generate_ids(prompts, Sampling(max_tokens=16, temperature=0.7, top_k=20, n=2, logprobs=True))
    pairs = [(ids, c) for ids, row in zip(prompts, rows) for c in row]
    scored = local.logprobs_ids([ids for ids, _ in pairs], [c.token_ids for _, c in pairs])
    for (_, completion), values in zip(pairs, scored):
        np.testing.assert_allclose(completion.logprobs, values, atol=1e-4)


def test_long_rows_and_small_budgets_change_nothing(families, tokenizer):
    prompts = ["the ship"] * 6 + ["one two"]
    completions = ["leaves at noon"] * 3 + ["salt " * 30, "", "wool", "three"]
    wanted = Local(families("llama"), tokenizer).logprobs(prompts, completions)
    found = Local(families("llama"), tokenizer, max_batch_tokens=1).logprobs(prompts, completions)
    assert [len(v) for v in found] == [len(v) for v in wanted]
    for one, other in zip(found, wanted):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_live_model_is_read_at_every_call_and_left_as_it_was(tokenizer):
    model = build("llama", len(tokenizer)).train()
    engine = Local(model, tokenizer)
    before = engine.fingerprint
    first = engine.generate(["the ship"], GREEDY)[0][0]
    engine.logprobs(["the ship"], ["sails"])
    assert model.training
    assert model.config._attn_implementation == "sdpa"
    assert engine.fingerprint == before
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    assert engine.fingerprint != before
    assert engine.generate(["the ship"], GREEDY)[0][0].token_ids != first.token_ids
    model(input_ids=torch.tensor([[1, 2, 3]]), labels=torch.tensor([[1, 2, 3]])).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_named_models(folder):
    engine = Local(str(folder))
    assert engine.fingerprint == Local(str(folder)).fingerprint
    half = Local(str(folder), dtype="bfloat16")
    assert half.fingerprint != engine.fingerprint
    prompts = mixed_prompts(12)
    made = half.generate(prompts, Sampling(max_tokens=10, n=2, logprobs=True))
    assert all(c.logprobs.dtype == np.float32 and (c.logprobs <= 0).all() for row in made for c in row)
    texts = [c.text for row in engine.generate(prompts, GREEDY) for c in row]
    fine = np.concatenate(engine.logprobs(prompts, texts))
    coarse = np.concatenate(half.logprobs(prompts, texts))
    assert np.abs(fine - coarse).mean() < 0.2


def test_models_that_cannot_be_decoded_raggedly_say_so(tokenizer):
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = {"vocab_size": len(tokenizer), "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}
    mamba = AutoModelForCausalLM.from_config(AutoConfig.for_model("mamba", **shape)).eval()
    with pytest.raises(UnsupportedError, match="MambaForCausalLM"):
        Local(mamba, tokenizer).generate(["the ship"], GREEDY)


def test_broken_weights_are_an_error(tokenizer):
    model = build("llama", len(tokenizer))
    with torch.no_grad():
        model.lm_head.weight[5] = torch.nan
    with pytest.raises(EngineError, match="not finite"):
        Local(model, tokenizer).generate(["the ship"], GREEDY)


def test_what_does_not_belong_together(families, tokenizer):
    with pytest.raises(ModelError, match="the tokenizer has"):
        Local(build("llama", 100), tokenizer)
    with pytest.raises(UsageError, match="needs its tokenizer"):
        Local(families("llama"))
    with pytest.raises(UsageError, match="keeps its own dtype"):
        Local(families("llama"), tokenizer, dtype="bfloat16")
    with pytest.raises(UsageError, match="2 prompts and 1 completions"):
        Local(families("llama"), tokenizer).logprobs(["a", "b"], ["c"])
