"""Virtual tokens that prompt-learning adapters (prefix, prompt, p_tuning) put before every row.

peft adds them in its own forward, which ends in logits of every position. Here they are made by peft's modules, with
gradient, and go straight into the transformer, whose hidden states are all that is wanted.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["embeddings_of", "hidden_states", "keys_and_values_of", "virtual_count"]


def virtual_count(model: Any) -> int:
    """Return how many virtual tokens the model's active adapter has; 0 for any other model."""
    config = getattr(model, "active_peft_config", None) if hasattr(model, "peft_config") else None
    return config.num_virtual_tokens if config is not None and config.is_prompt_learning else 0


def embeddings_of(model: Any, rows: int) -> Tensor | None:
    """Return the embeddings [N, P, H] of N rows' virtual tokens; None where these are keys and values (a prefix).

    Args:
        model: a peft model with at least one virtual token.
        rows: N.
    """
    made = model.get_prompt(batch_size=rows)
    return made if isinstance(made, Tensor) else None


def keys_and_values_of(model: Any) -> list[tuple[Tensor, Tensor]]:
    """Return a prefix's keys and values [1, heads, P, D] in each layer; empty where virtual tokens are embeddings."""
    made = model.get_prompt(batch_size=1)
    return [] if isinstance(made, Tensor) else [(layer.keys, layer.values) for layer in made.layers]


def hidden_states(model: Any, embedded: Tensor, position_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """Return the last hidden states [N, L, H] of rows that virtual tokens stand before; theirs are left out.

    Args:
        model: a peft model with at least one virtual token.
        embedded: [N, L, H], the rows' embeddings.
        position_ids: int64 [N, L], counted from 0 without virtual tokens.
        attention_mask: int64 [N, L].
    """
    rows, count = len(embedded), virtual_count(model)
    base, made = model.get_base_model().base_model, model.get_prompt(batch_size=rows)
    seen = torch.cat([attention_mask.new_ones(rows, count), attention_mask], dim=1)
    position_ids = position_ids + count
    if not isinstance(made, Tensor):
        return base(
            inputs_embeds=embedded,
            position_ids=position_ids,
            attention_mask=seen,
            past_key_values=made,
            use_cache=True,
        ).last_hidden_state
    before = torch.arange(count, device=embedded.device).expand(rows, -1)
    states = base(
        inputs_embeds=torch.cat([made.to(embedded.dtype), embedded], dim=1),
        position_ids=torch.cat([before, position_ids], dim=1),
        attention_mask=seen,
        use_cache=False,
    ).last_hidden_state
    return states[:, count:]
