"""The model sizes that the benchmarks share, with random weights or with a small model's inside."""

from __future__ import annotations

import tempfile

SHAPES = {
    "S": {"kind": "llama", "vocab_size": 8192, "hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 4,
          "num_attention_heads": 6, "num_key_value_heads": 2},
    "M": {"kind": "qwen2", "vocab_size": 49152, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 9,
          "num_attention_heads": 8, "num_key_value_heads": 2},
}  # fmt: skip
_CONSTANT = 1e-3
"""A number too small to change a norm that a hidden state carries where the small model has no dimension."""


def random_model(name: str, dtype=None):
    """Return a model of the size `name` with random weights, the same at every call."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = dict(SHAPES[name])
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        shape.pop("kind"), **shape, max_position_embeddings=2048, tie_word_embeddings=True, pad_token_id=0,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config).to(dtype or torch.float32).eval()


def grown(small, name: str, **changes):
    """Return a Llama of the size `name` that answers as a smaller one, which fills the first of its dimensions.

    Layers that the small model does not have pass on what they get, and tokens that it does not know are impossible.
    Every product is done at full size, so it costs what a model of that size costs: random weights would, but their
    answers say nothing. Keys have as many heads as the small model's, at least; the output head is not the embedding.

    Args:
        small: a Llama with heads of the same dimension and no bias, such as Harbor's 3m models.
        name: one of `SHAPES`.
        changes: what differs from that size, such as another `vocab_size`.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    shape, own = SHAPES[name] | changes, small.config
    shape.pop("kind")
    heads = shape["num_attention_heads"]
    shape["num_key_value_heads"] = next(n for n in range(own.num_key_value_heads, heads + 1) if heads % n == 0)
    config = LlamaConfig(
        **shape, max_position_embeddings=2048, tie_word_embeddings=False, pad_token_id=own.pad_token_id,
        bos_token_id=own.bos_token_id, eos_token_id=own.eos_token_id, rope_parameters=own.rope_parameters,
        rms_norm_eps=own.rms_norm_eps, hidden_act=own.hidden_act,
    )  # fmt: skip
    if config.head_dim != own.head_dim or own.num_attention_heads != own.num_key_value_heads:
        raise ValueError("the small model's heads do not fit")
    large, width = LlamaForCausalLM(config).eval(), own.hidden_size
    shrink = (width / config.hidden_size) ** 0.5  # a norm is over all dimensions, most of them zeros
    per_key = heads // config.num_key_value_heads
    used = [k * per_key * own.head_dim + d for k in range(own.num_attention_heads) for d in range(own.head_dim)]
    with torch.no_grad():
        for weight in large.parameters():
            weight.zero_()
        for to, of in zip(large.model.layers, small.model.layers):
            for norm in ("input_layernorm", "post_attention_layernorm"):
                getattr(to, norm).weight[:width] = getattr(of, norm).weight * shrink
            to.self_attn.q_proj.weight[used, :width] = of.self_attn.q_proj.weight
            to.self_attn.o_proj.weight[:width, used] = of.self_attn.o_proj.weight
            for part in ("k_proj", "v_proj"):
                getattr(to.self_attn, part).weight[: own.hidden_size, :width] = getattr(of.self_attn, part).weight
            inner = own.intermediate_size
            for part in ("gate_proj", "up_proj"):
                getattr(to.mlp, part).weight[:inner, :width] = getattr(of.mlp, part).weight
            to.mlp.down_proj.weight[:width, :inner] = of.mlp.down_proj.weight
        embedding, head = large.model.embed_tokens.weight, large.lm_head.weight
        embedding[: own.vocab_size, :width] = small.model.embed_tokens.weight
        embedding[:, width] = _CONSTANT
        large.model.norm.weight[:width] = small.model.norm.weight * shrink
        large.model.norm.weight[width] = 1.0
        head[: own.vocab_size, :width] = small.lm_head.weight
        head[own.vocab_size :, width] = -1e3 / _CONSTANT
    return large


def saved(net, tokenizer, **options):
    """Return the engine of a model that lies in a folder, as users' models do, used once; `options` are `Local`'s."""
    from fairlead.engines import Local, Sampling

    with tempfile.TemporaryDirectory(prefix="fairlead-bench-") as folder:
        net.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        local = Local(folder, **{"dtype": str(net.dtype).removeprefix("torch."), **options})
    local.generate_ids([[3]], Sampling(max_tokens=1))
    return local
