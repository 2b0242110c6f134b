"""The contract of objectives: per-token log-probs of completions, grouped by prompt, in; a sum and a count out.

An objective is a pure function of tensors. It declares what it needs; group building and the forward supply it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from fairlead.errors import UsageError

__all__ = ["Loss", "Memory", "Needs", "Objective", "Scores", "pair_rows", "token_sums"]


@dataclass(frozen=True)
class Needs:
    """What an objective wants in its scores and in its records."""

    record: str = "conversation"
    """Kind of record it trains on: conversation | preference | feedback | ranking."""
    reference: bool = False
    """Per-token log-probs of the frozen starting model."""
    score_head: bool = False
    """A scalar per completion from a sequence-score head, instead of log-probs."""


@dataclass
class Scores:
    """What the forward says of N completions, padded to T tokens."""

    policy: Tensor
    """float32 [N, T]: log-prob of each completion token under the policy, 0 outside `mask`, with gradient."""
    mask: Tensor
    """bool [N, T]: True on the tokens that count (assistant text and end of turn)."""
    group: Tensor
    """int64 [N]: completions of one prompt share a number."""
    reference: Tensor | None = None
    """float32 [N, T]: as `policy`, under the reference model, no gradient."""
    old: Tensor | None = None
    """float32 [N, T]: as `policy`, under the model that sampled the completions, no gradient."""
    score: Tensor | None = None
    """float32 [N]: the sequence-score head's value of each completion, with gradient."""
    fields: dict[str, Tensor] = field(default_factory=dict)
    """[N] or [N, T] columns from the records: chosen, label, score, weight, margin..."""

    def require(self, name: str) -> Tensor:
        """Return an optional tensor or a field, or say that it is missing."""
        value = getattr(self, name, None)
        value = self.fields.get(name) if value is None else value
        if value is None:
            raise UsageError(f"scores carry no {name!r}", fix="declare it in the objective's `needs`")
        return value


@dataclass
class Loss:
    """An unreduced result: the loop divides once by the global count."""

    sum: Tensor
    """Scalar with gradient: the summed loss."""
    count: Tensor
    """Scalar: how many terms the sum has (tokens, pairs, completions)."""
    metrics: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """name -> (sum, count), detached scalars; reduced over micro-batches and ranks the same way."""


@runtime_checkable
class Objective(Protocol):
    """A frozen dataclass whose call is the loss."""

    @property
    def needs(self) -> Needs:
        """What group building and the forward must supply."""
        ...

    def __call__(self, scores: Scores) -> Loss:
        """Return the summed loss of the scores, its count and its metrics."""
        ...


@runtime_checkable
class Memory(Protocol):
    """An objective that remembers between steps (such as a running reward shift).

    It is called as `objective(scores, state)`. What it wants to remember it puts into `Loss.metrics`; once a step the
    loop reduces the metrics over micro-batches and ranks and asks for the next state, which it checkpoints.
    """

    def init(self) -> dict[str, Tensor]:
        """Return the state before the first step."""
        ...

    def remember(self, state: Mapping[str, Tensor], totals: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        """Return the state after a step from the step's globally summed metrics."""
        ...


def token_sums(values: Tensor, mask: Tensor) -> Tensor:
    """Sum [N, T] values over the masked tokens of each row, in float32: [N]."""
    return torch.where(mask, values.float(), 0.0).sum(-1)


def pair_rows(scores: Scores) -> tuple[Tensor, Tensor]:
    """Return the row numbers (chosen [P], rejected [P]) of the P pairs, matched by group.

    Raises:
        UsageError: a group that is not exactly one chosen and one rejected completion.
    """
    chosen = scores.require("chosen").bool()
    rows = torch.arange(len(chosen), device=chosen.device)
    first, second = rows[chosen], rows[~chosen]
    first = first[scores.group[first].argsort(stable=True)]
    second = second[scores.group[second].argsort(stable=True)]
    if len(first) != len(second) or not torch.equal(scores.group[first], scores.group[second]):
        raise UsageError("a group is not one chosen and one rejected completion", fix="give preference records")
    if len(scores.group[first].unique()) != len(first):
        raise UsageError("two pairs share a group number", fix="number every pair as its own group")
    return first, second
