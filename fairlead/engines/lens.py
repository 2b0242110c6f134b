"""What a model would say if it stopped at every layer: the logit lens (nostalgebraist 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from fairlead.errors import UnsupportedError
from fairlead.forward.layout import Branch, Group, lay_out, pack
from fairlead.messages import Prompt

if TYPE_CHECKING:
    from fairlead.engines.local import Local

__all__ = ["LayerStats", "Layered", "layer_stats", "stats_of_layers"]

_NORMS = ("norm", "ln_f", "final_layernorm", "final_layer_norm", "final_norm")
"""What models call their last norm."""


@dataclass(frozen=True)
class LayerStats:
    """Next-token distributions P_0 .. P_L behind one prompt, read off the embedding and after each of L layers."""

    token: int
    """The token that the last layer finds likeliest."""
    divergence: np.ndarray
    """float32 [L + 1]: KL(P_L || P_l) in nats; the last is 0."""
    entropy: np.ndarray
    """float32 [L + 1]: of P_l, in nats."""
    rank: np.ndarray
    """int32 [L + 1]: 1 + how many tokens are likelier in P_l than `token`."""

    @property
    def settled(self) -> int:
        """The first layer from which on `token` stays the likeliest."""
        behind = np.flatnonzero(self.rank > 1)
        return int(behind[-1]) + 1 if len(behind) else 0


@runtime_checkable
class Layered(Protocol):
    """An engine that tells what it would say at every layer."""

    def layer_stats(self, prompts: Sequence[Prompt]) -> list[LayerStats]:
        """Return the distributions of the first token of an answer to each prompt, layer by layer."""
        ...


def stats_of_layers(logits: Tensor) -> LayerStats:
    """Return what logits [L + 1, V] say, the last row being the model's own."""
    logp = logits.float().log_softmax(-1)
    probs = logp.exp()
    last = logp[-1]
    token = int(last.argmax())
    divergence = torch.where(last.exp() > 0, last.exp() * (last - logp), 0.0).sum(-1)
    return LayerStats(
        token,
        divergence.clamp(min=0).cpu().numpy(),
        torch.special.entr(probs).sum(-1).cpu().numpy(),
        (1 + (logp > logp[:, token : token + 1]).sum(-1)).int().cpu().numpy(),
    )


@torch.no_grad()
def layer_stats(local: Local, prompts: Sequence[Prompt]) -> list[LayerStats]:
    """Read the states of a local model's last prompt tokens, after its last norm, through its output head.

    Raises:
        UnsupportedError: a model with virtual tokens, or whose last norm is not found.
        RenderError: a prompt that cannot be rendered.
        RequestError: a prompt that is empty or too long.
    """
    asked = [local.prompt_ids(prompt) for prompt in prompts]
    # The one token of an answer is a place to look at: what it is makes no difference.
    branch = Branch(np.zeros(1, dtype=np.int64), np.ones(1, dtype=bool))
    groups = [Group(id=str(k), prompt=np.array(ids, dtype=np.int64), branches=(branch,)) for k, ids in enumerate(asked)]
    found: dict[int, LayerStats] = {}
    with local.reading(max(map(len, asked), default=1) + 1) as policy:
        norm = _last_norm(policy.plain.base_model)
        if norm is None:
            what = f"a {type(policy.plain.base_model).__name__} of unknown last norm"
            raise UnsupportedError(f"{local.name} is {what}", fix="name a model of a known family, such as Llama")
        head = policy.head()
        for picked in pack(groups, local.max_batch_tokens, policy.layout):
            batch = lay_out([groups[g] for g in picked], policy.layout).to(next(policy.parameters()).device)
            *before, last = (states.index_select(0, batch.source) for states in policy.layers(batch))
            layers = [head.tile(states, 0, len(head.weight)) for states in (*map(norm, before), last)]
            found |= dict(zip(picked, map(stats_of_layers, torch.stack(layers, 1)), strict=True))
    return [found[k] for k in range(len(asked))]


def _last_norm(base: Any) -> Any:
    return next((getattr(base, name) for name in _NORMS if hasattr(base, name)), None)
