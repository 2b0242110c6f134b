"""The lean forward: the model's own hidden states with fewer calls, where it can be used at all."""

from __future__ import annotations

import pytest
import torch
from tiny_models import FAMILIES, build, build_tokenizer

from fairlead.engines import Local, Sampling
from fairlead.engines.forwards import Forwards
from fairlead.engines.sampler import check_decoding, new_cache
from fairlead.forward.policy import Policy

LEAN = {"llama", "qwen2", "mistral", "qwen3"}


def policy_of(family, **options):
    net = build(family if family != "qwen3" else "llama", 384, **options)
    if family == "qwen3":
        from transformers import AutoConfig, AutoModelForCausalLM

        torch.manual_seed(3)
        config = AutoConfig.for_model(
            "qwen3", vocab_size=384, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
            head_dim=16, intermediate_size=64, max_position_embeddings=160, initializer_range=0.25,
        )  # fmt: skip
        net = AutoModelForCausalLM.from_config(config).eval()
        with torch.no_grad():
            for layer in net.model.layers:
                layer.self_attn.q_norm.weight.uniform_(0.5, 2)
                layer.self_attn.k_norm.weight.uniform_(0.5, 2)
    return Policy(net, layout="padded")


@pytest.mark.parametrize("family", [*FAMILIES, "qwen3"])
def test_which_models_have_one(family):
    policy = policy_of(family)
    assert check_decoding(policy).lean is (family in LEAN)


@pytest.mark.parametrize("family", sorted(LEAN))
@pytest.mark.parametrize("starts", [[11], [11, 11, 11], [3, 17, 9]])
@pytest.mark.parametrize("width", [1, 5])
@torch.inference_mode()
def test_it_says_what_the_model_says(family, starts, width):
    policy = policy_of(family)
    ids = torch.randint(4, 384, (len(starts), max(starts) + width), generator=torch.Generator().manual_seed(1))
    found = []
    for lean in (False, True):
        cache, model = new_cache(policy), Forwards(policy, lean=lean)
        cache.add(len(starts), ids.device)
        for new in (starts, [width] * len(starts)):
            have = list(cache.counts)
            most = max(new)
            places = cache.begin_block(range(len(starts)), new)
            lines = [ids[k, at : at + n].tolist() for k, (at, n) in enumerate(zip(have, new))]
            given = torch.tensor([line + line[-1:] * (most - len(line)) for line in lines])
            states = model.hidden(given, places, cache.block_mask(torch.float32), cache)
            cache.end_block(new)
        found.append(states)
    torch.testing.assert_close(found[1], found[0], atol=1e-4, rtol=1e-4)


def test_listeners_are_heard():
    """Hooks behind layers act in it; with any other the model's own forward is used."""
    policy = policy_of("llama")
    heard = []
    layer = policy.plain.base_model.layers[1]
    handle = layer.register_forward_hook(lambda module, given, found: heard.append(found.shape))
    assert Forwards(policy, lean=True).lean is not None
    tokenizer = build_tokenizer()
    Local(policy.plain, tokenizer).generate(["a ship"], Sampling(max_tokens=4, temperature=0))
    assert (1, 1, 32) in [tuple(shape) for shape in heard]
    handle.remove()
    handle = layer.mlp.register_forward_hook(lambda *given: None)
    assert Forwards(policy, lean=True).lean is None
    handle.remove()
    layer.forward = layer.forward
    assert Forwards(policy, lean=True).lean is None


def test_adapters_count():
    peft = pytest.importorskip("peft")
    policy = policy_of("llama")
    net = policy.plain
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    own = Local(net, build_tokenizer())
    sampling = Sampling(max_tokens=16, temperature=0)
    before = own.generate(["the ferry"], sampling)
    adapted = Local(peft.get_peft_model(net, config), build_tokenizer())
    after = adapted.generate(["the ferry"], sampling)
    assert adapted._abilities is not None
    assert adapted._abilities.lean
    assert before[0][0].token_ids != after[0][0].token_ids
