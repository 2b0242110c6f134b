"""How decoding runs a model: new tokens behind a cache to hidden states, and those to logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor

from fairlead.engines.kv import RaggedCache
from fairlead.engines.lean import Lean

if TYPE_CHECKING:
    from fairlead.forward.policy import Policy

__all__ = ["Forwards"]


class Forwards:
    """Forwards of one model; made anew for every loan of it.

    Args:
        policy: the model, in evaluation mode, with an attention implementation that takes additive masks.
        lean: whether it is known to have a lean forward.
    """

    def __init__(self, policy: Policy, *, lean: bool = False):
        self.policy, self.head = policy, policy.head()
        self.lean = Lean.of(policy) if lean else None
        # The module, not its weight: it may compute with a packed copy.
        self._project: Callable[[Tensor], Tensor] = policy.plain.get_output_embeddings()

    def hidden(self, ids: Tensor, places: Tensor, mask: Any, cache: RaggedCache) -> Tensor:
        """Return the last hidden states [N, T, H] of new tokens, and put their keys into the cache.

        Args:
            ids: int64 [N, T].
            places: their positions, int64 [N, T].
            mask: as the cache gives it.
            cache: where the rows are.
        """
        if self.lean is not None and self.lean.takes(ids, mask):
            return self.lean.hidden(ids, places, mask, cache)
        return self.policy.plain.base_model(
            input_ids=ids, position_ids=places, attention_mask=mask, past_key_values=cache, use_cache=True
        ).last_hidden_state

    def logits(self, hidden: Tensor) -> Tensor:
        """Return float32 logits [M, V] of hidden states [M, H]."""
        if hidden.dtype != self.head.weight.dtype:
            return self.head.tile(hidden, 0, len(self.head.weight))
        return self.head.finished(self._project(hidden).float())
