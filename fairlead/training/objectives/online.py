"""The contract of objectives that learn from completions of their own: rewards in, advantages out.

The loop draws completions (a rollout), has them valued, and asks the objective what each is worth; the groups that it
trains on carry the answer as fields. All of it is a pure function of tensors, with a small state where one is kept
from rollout to rollout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torch import Tensor

__all__ = ["Advantages", "Online", "Rollout"]


@dataclass
class Rollout:
    """N completions that were just drawn, padded to T tokens, and what is known of them."""

    rewards: Tensor
    """float64 [N, R]: what each of the R rewards says of each completion; NaN where it abstains."""
    names: tuple[str, ...]
    """The R rewards' names."""
    group: Tensor
    """int64 [N]: completions of one prompt share a number."""
    mask: Tensor
    """bool [N, T]: the tokens drawn, the end-of-turn token included."""
    truncated: Tensor
    """bool [N]: completions that were cut at the longest length."""
    limit: int
    """The longest length, in tokens."""
    old: Tensor | None = None
    """float32 [N, T]: per-token log-probs under the policy that drew them; None where nothing asked for them."""
    reference: Tensor | None = None
    """float32 [N, T]: the same under the reference model, where it is needed."""
    values: Tensor | None = None
    """float32 [N, T, V]: what the value heads expected before each token, where there are any."""
    columns: dict[str, Tensor] = field(default_factory=dict)
    """name -> float64 [N]: numbers that came with the prompts, NaN where one has none."""

    @property
    def lengths(self) -> Tensor:
        """Tokens of each completion, int64 [N]."""
        return self.mask.sum(-1)


@dataclass
class Advantages:
    """What a rollout's completions are worth."""

    fields: dict[str, Tensor]
    """name -> [N] or [N, T]: become `Scores.fields`; `advantage` is always there."""
    metrics: dict[str, float] = field(default_factory=dict)
    """What is to be told about the rollout, besides what the loop tells anyway."""
    state: dict[str, Tensor] = field(default_factory=dict)
    """What is kept until the next rollout."""


@runtime_checkable
class Online(Protocol):
    """An objective that learns from completions of its own (its `needs.record` is `prompt`)."""

    def begin(self, rewards: int, completions: int) -> dict[str, Tensor]:
        """Return the state before the first rollout, for so many rewards and completions per prompt.

        Raises:
            UsageError: it cannot work with so many.
        """
        ...

    def heads(self, rewards: int) -> int:
        """Return how many value heads the policy needs, for so many rewards."""
        ...

    def advantages(self, rollout: Rollout, state: Mapping[str, Tensor]) -> Advantages:
        """Return what every completion, or every token, is worth."""
        ...
