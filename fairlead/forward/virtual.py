"""Virtual tokens that prompt-learning adapters (prefix, prompt, p_tuning) put before every row.

peft adds them in its own forward, which ends in logits of every position. Here they are made by peft's modules, with
gradient, and go straight into the transformer, whose hidden states are all that is wanted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Virtual", "hidden_states", "made_by", "virtual_count"]


@dataclass(frozen=True)
class Virtual:
    """Virtual tokens of N rows; one of the two is there."""

    count: int
    """P tokens."""
    embeddings: Tensor | None = None
    """[N, P, H]: stand before the rows' embeddings."""
    cache: Any = None
    """A transformers cache that holds their keys and values in every layer, [N, heads, P, D]."""

    def keys_and_values(self) -> list[tuple[Tensor, Tensor]]:
        """Return each layer's keys and values; empty where the tokens are embeddings."""
        return [] if self.cache is None else [(layer.keys, layer.values) for layer in self.cache.layers]


def virtual_count(model: Any) -> int:
    """Return how many virtual tokens the model's active adapter has; 0 for any other model."""
    config = getattr(model, "active_peft_config", None) if hasattr(model, "peft_config") else None
    return config.num_virtual_tokens if config is not None and config.is_prompt_learning else 0


def made_by(model: Any, rows: int) -> Virtual:
    """Return the virtual tokens of as many rows, made anew so that they carry a gradient.

    Args:
        model: a peft model with at least one virtual token.
        rows: N.
    """
    count, made = virtual_count(model), model.get_prompt(batch_size=rows)
    return Virtual(count, embeddings=made) if isinstance(made, Tensor) else Virtual(count, cache=made)


def hidden_states(model: Any, embedded: Tensor, position_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """Return the last hidden states [N, L, H] of rows that virtual tokens stand before; theirs are left out.

    Args:
        model: a peft model with at least one virtual token.
        embedded: [N, L, H], the rows' embeddings.
        position_ids: int64 [N, L], counted from 0 without virtual tokens.
        attention_mask: int64 [N, L].
    """
    rows = len(embedded)
    virtual = made_by(model, rows)
    base = model.get_base_model().base_model
    seen = torch.cat([attention_mask.new_ones(rows, virtual.count), attention_mask], dim=1)
    position_ids = position_ids + virtual.count
    if virtual.embeddings is None:
        return base(
            inputs_embeds=embedded,
            position_ids=position_ids,
            attention_mask=seen,
            past_key_values=virtual.cache,
            use_cache=True,
        ).last_hidden_state
    before = torch.arange(virtual.count, device=embedded.device).expand(rows, -1)
    states = base(
        inputs_embeds=torch.cat([virtual.embeddings.to(embedded.dtype), embedded], dim=1),
        position_ids=torch.cat([before, position_ids], dim=1),
        attention_mask=seen,
        use_cache=False,
    ).last_hidden_state
    return states[:, virtual.count :]
