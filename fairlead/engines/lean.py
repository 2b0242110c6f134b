"""The forward of a few new tokens with fewer calls than the model's own: at batch 1 calls are what a token costs.

For decoders built as Llama's are. Their linear layers are called as modules, so adapters and other replacements of
them count; all else is computed here, and compared with the model's own forward before it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from fairlead.engines.kv import RaggedCache
    from fairlead.forward.policy import Policy

__all__ = ["Lean"]

_MODELS = {"LlamaModel", "MistralModel", "Qwen2Model", "Qwen3Model"}
"""Classes of transformers that are built so."""
_MOST = 64
"""Most new tokens per row; with more, calls no longer matter."""


class Lean:
    """The layers of a model, as they are needed for one forward after the other."""

    def __init__(self, base: Any):
        self.base = base
        self.layers = [_Layer(layer, number) for number, layer in enumerate(base.layers)]
        self.groups = base.layers[0].self_attn.num_key_value_groups

    @staticmethod
    def of(policy: Policy) -> Lean | None:
        """Return the lean forward of a model, or None where it has none or something listens to its parts."""
        base = policy.plain.base_model
        if type(base).__name__ not in _MODELS:
            return None
        silent = [base, base.norm]
        for layer in base.layers:
            norms = [m for m in layer.modules() if type(m).__name__.endswith("RMSNorm")]
            silent += [layer.self_attn, layer.mlp, *norms]
        watched = any(m._forward_hooks for m in silent) or any(m._forward_hooks_with_kwargs for m in base.layers)
        return None if watched or any(map(_replaced, [*silent, *base.layers])) else Lean(base)

    @staticmethod
    def takes(ids: Tensor, mask: Any) -> bool:
        """Whether it computes such a forward."""
        return ids.shape[1] <= _MOST and not isinstance(mask, dict)

    def hidden(self, ids: Tensor, places: Tensor, mask: Tensor | None, cache: RaggedCache) -> Tensor:
        """Return the last hidden states [N, T, H] of new tokens.

        Args:
            ids: int64 [N, T].
            places: their positions, int64 [N, T] or [1, T].
            mask: additive, [N or 1, 1, T, keys]; None where every token sees every key.
            cache: takes the tokens' keys.
        """
        states = self.base.embed_tokens(ids)
        cos, sin = (table[:, :, None] for table in self.base.rotary_emb(states, places))
        half = sin.shape[-1] // 2
        turn = torch.cat((-sin[..., :half], sin[..., half:]), -1)
        if mask is not None and ids.shape[1] > 1:
            mask = mask.repeat(1, 1, self.groups, 1)
        for layer in self.layers:
            states = layer(states, cos, turn, mask, cache)
            for hook in tuple(layer.hooks.values()):
                told = hook(layer.whole, (), states)
                states = states if told is None else told
        return _normed(self.base.norm, states)


class _Layer:
    """One decoder layer."""

    def __init__(self, layer: Any, number: int):
        self.whole, self.number = layer, number
        self.attention, self.mlp = layer.self_attn, layer.mlp
        self.hooks = layer._forward_hooks
        """What is done to its output."""
        self.before, self.between = layer.input_layernorm, layer.post_attention_layernorm
        self.norms = [getattr(self.attention, name, None) for name in ("q_norm", "k_norm")]

    def __call__(self, states: Tensor, cos: Tensor, turn: Tensor, mask: Tensor | None, cache: RaggedCache) -> Tensor:
        states = states + self.attended(_normed(self.before, states), cos, turn, mask, cache)
        mlp, new = self.mlp, _normed(self.between, states)
        return states + mlp.down_proj(mlp.act_fn(mlp.gate_proj(new)) * mlp.up_proj(new))

    def attended(self, states: Tensor, cos: Tensor, turn: Tensor, mask: Tensor | None, cache: RaggedCache) -> Tensor:
        own, (rows, count) = self.attention, states.shape[:2]
        shape = (rows, count, -1, own.head_dim)
        asking, keys, values = (layer(states).view(shape) for layer in (own.q_proj, own.k_proj, own.v_proj))
        if self.norms[0] is not None:
            asking, keys = (_normed(norm, part) for norm, part in zip(self.norms, (asking, keys)))
        heads, both = asking.shape[2], torch.cat((asking, keys), 2)
        low, high = both.chunk(2, -1)
        both = torch.addcmul(both * cos, torch.cat((high, low), -1), turn)
        asking, keys = both[:, :, :heads], both[:, :, heads:]
        keys, values = cache.own_layers[self.number].update(keys.transpose(1, 2), values.transpose(1, 2))
        # The heads that share keys stand in one matrix, so that keys are not repeated for them.
        shared = keys.shape[1]
        asking = asking.unflatten(2, (shared, -1)).permute(0, 2, 3, 1, 4).reshape(rows, shared, -1, own.head_dim)
        found = F.scaled_dot_product_attention(asking, keys, values, attn_mask=mask, scale=own.scaling)
        if count > 1:
            found = found.unflatten(2, (-1, count)).permute(0, 3, 1, 2, 4)
        return own.o_proj(found.reshape(rows, count, -1))


def _normed(norm: Any, states: Tensor) -> Tensor:
    return F.rms_norm(states, norm.weight.shape, norm.weight, norm.variance_epsilon)


def _replaced(module: nn.Module) -> bool:
    """Whether a call of a module does something else than its class says."""
    return bool(module._forward_pre_hooks or "forward" in module.__dict__)
