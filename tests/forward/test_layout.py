"""The three layouts give one result, on several architectures; packing respects its budget."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from fairlead.forward.layout import Branch, Group, lay_out, pack, tokens
from fairlead.forward.policy import LAYOUTS, Policy, pick_layout

SHAPE = {
    "vocab_size": 1300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GROUPED = {**SHAPE, "num_key_value_heads": 2}
MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**GROUPED)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**GROUPED, tie_word_embeddings=True)),
    "neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**SHAPE)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**GROUPED, sliding_window=None)),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=1300, n_embd=32, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2)
    ),
}


def make_group(rng, id, prompt, *completions):
    branches = []
    for n in completions:
        trained = rng.random(n) < 0.7
        trained[-1] = True
        branches.append(Branch(rng.integers(0, SHAPE["vocab_size"], n), trained))
    return Group(
        id, rng.integers(0, SHAPE["vocab_size"], prompt), tuple(branches), {"chosen": np.ones(len(completions))}
    )


def make_groups(shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [make_group(rng, str(i), *shape) for i, shape in enumerate(shapes)]


MIXED = [(20, 30, 40, 10), (7, 90, 3), (50, 60), (1, 1), (100, 80, 120), (5, 4, 4, 4, 4)]


@pytest.mark.parametrize("name", MODELS)
def test_layouts_agree(name):
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    groups = make_groups(MIXED)
    found = {}
    for layout in ("padded", "packed", "shared"):
        policy = Policy(model, layout=layout)
        values, score = policy(lay_out(groups, layout))[:2]
        assert score is None
        model.zero_grad()
        (values**2).sum().backward()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
        found[layout] = values.detach(), gradient / gradient.abs().max()
    for layout in ("packed", "shared"):
        torch.testing.assert_close(found[layout][0], found["padded"][0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found[layout][1], found["padded"][1], atol=1e-5, rtol=1e-4)


def test_equals_plain_transformers_one_row_at_a_time():
    torch.manual_seed(0)
    model = MODELS["llama"]().eval()
    groups = make_groups(MIXED)
    rows = [(g, b) for g in groups for b in g.branches]
    expected = []
    for group, branch in rows:
        ids = torch.from_numpy(np.concatenate([group.prompt, branch.ids]))[None]
        logprobs = model(ids).logits[0].log_softmax(-1)
        at = len(group.prompt) + np.arange(len(branch.ids))
        expected.append((logprobs[at - 1, branch.ids] * torch.from_numpy(branch.trained)).detach())
    values = Policy(model, layout="shared")(lay_out(groups)).logprobs
    for row, (_, branch) in zip(zip(values, expected), rows):
        torch.testing.assert_close(row[0][: len(branch.ids)].detach(), row[1], atol=1e-5, rtol=1e-5)
        assert (row[0][len(branch.ids) :] == 0).all()


@settings(max_examples=15, deadline=None)
@given(st.lists(st.lists(st.integers(1, 40), min_size=2, max_size=5), min_size=1, max_size=6), st.integers(0, 99))
def test_any_shapes_agree(shapes, seed):
    torch.manual_seed(0)
    model = MODELS["llama"]().eval()
    groups = make_groups(shapes, seed)
    padded = Policy(model, layout="padded")(lay_out(groups, "padded"))[0].detach()
    for layout in ("packed", "shared"):
        values = Policy(model, layout=layout)(lay_out(groups, layout))[0].detach()
        torch.testing.assert_close(values, padded, atol=1e-5, rtol=1e-5)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 60), min_size=2, max_size=4), min_size=1, max_size=20),
    st.integers(30, 400),
    st.sampled_from(LAYOUTS),
)
def test_packing(shapes, budget, layout):
    groups = make_groups(shapes)
    packs = pack(groups, budget, layout)
    assert sorted(i for p in packs for i in p) == list(range(len(groups)))
    for p in packs:
        batch = lay_out([groups[i] for i in p], layout)
        assert batch.size <= budget or len(p) == 1
        if layout != "padded":
            assert batch.size == sum(tokens(groups[i], layout) for i in p)


def test_auto_layout_knows_what_it_cannot_do():
    window = {**GROUPED, "sliding_window": 16}
    model = MistralForCausalLM(MistralConfig(**window))
    assert pick_layout(model, longest=10)[0] == "shared"
    layout, why = pick_layout(model, longest=17)
    assert layout == "padded"
    assert "16" in why
    gemma = Gemma2ForCausalLM(Gemma2Config(**GROUPED, head_dim=8))
    own = gemma.config._attn_implementation
    layout, why = pick_layout(gemma)
    assert (layout, gemma.config._attn_implementation) == ("padded", own)
    assert "softcap" in why
    Policy(gemma, layout="padded").check_head()


def test_score_head_reads_each_completions_last_token():
    from transformers import LlamaForSequenceClassification

    torch.manual_seed(0)
    model = LlamaForSequenceClassification(LlamaConfig(**GROUPED, num_labels=1)).eval()
    groups = make_groups(MIXED)
    shared = Policy(model, layout="shared", score_head=True)(lay_out(groups))[1]
    own = []
    for group in groups:
        for branch in group.branches:
            ids = torch.from_numpy(np.concatenate([group.prompt, branch.ids]))[None]
            ids[ids == 0] = 3
            own.append(ids)
    for group in groups:
        group.prompt[group.prompt == 0] = 3
        for branch in group.branches:
            branch.ids[branch.ids == 0] = 3
    shared = Policy(model, layout="shared", score_head=True)(lay_out(groups))[1]
    model.set_attn_implementation("sdpa")
    theirs = torch.stack([model(ids).logits[0, 0] for ids in own])
    torch.testing.assert_close(shared, theirs, atol=1e-5, rtol=1e-5)
