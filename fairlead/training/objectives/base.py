"""The contract of objectives: per-token log-probs of completions, grouped by prompt, in; a sum and a count out.

An objective is a pure function of tensors. It declares what it needs; group building and the forward supply it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor

from fairlead.errors import UsageError

if TYPE_CHECKING:
    from fairlead.forward.divergence import Divergence
    from fairlead.training.columns import Column
    from fairlead.training.groups import Grouping

__all__ = ["Loss", "Memory", "Needs", "Objective", "Scores", "Survey", "pair_rows", "token_means", "token_sums"]


@dataclass(frozen=True)
class Needs:
    """What an objective wants in its scores and in its records."""

    record: str = "conversation"
    """Kind of record it trains on: conversation | preference | feedback | ranking; prompt for one that learns from
    completions of its own (see `fairlead.training.objectives.online`)."""
    reference: bool = False
    """Per-token log-probs of the frozen starting model."""
    score_head: bool = False
    """A scalar per completion from a sequence-score head, instead of log-probs."""
    columns: tuple[Column, ...] = ()
    """Values per completion that come with the records or are computed before the first step: `Scores.fields`."""
    grouping: Grouping | None = None
    """How records become groups, where one record is not simply one group."""
    collision: bool = False
    """How likely two draws from the policy agree, per token."""
    teacher: str | None = None
    """A frozen model with the policy's vocabulary, whose per-token log-probs are wanted."""
    divergence: Divergence | None = None
    """The per-token divergence between teacher and policy that is wanted; needs `teacher`."""
    survey: bool = False
    """What the objective's own `survey` (see `Survey`) finds over the whole step."""
    mismatched: bool = False
    """That survey is of every prompt with the completions of another record, not with its own."""
    old: bool = False
    """Of its own completions, their log-probs when they were drawn, for its `advantages`."""
    sampler: bool = False
    """Of its own completions, their log-probs as whoever drew them told: the field `sampler`."""
    varied: bool = False
    """Of its own completions, those of a prompt must differ in worth: other prompts replace those where they do not."""


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
    teacher: Tensor | None = None
    """float32 [N, T]: as `policy`, under the teacher, no gradient."""
    divergence: Tensor | None = None
    """float32 [N, T]: divergence of teacher and policy in nats at each completion token, with gradient."""
    values: Tensor | None = None
    """float32 [N, T, V]: what each value head expects before each token, with gradient."""
    collision: Tensor | None = None
    """float32 [N, T]: log of the sum over the vocabulary of the policy's squared probabilities, no gradient."""
    fields: dict[str, Tensor] = field(default_factory=dict)
    """[N] or [N, T] columns from the records: chosen, label, score, weight, margin..."""
    survey: dict[str, Tensor] = field(default_factory=dict)
    """What the objective's `survey` found over the whole step: 1-D tensors, no gradient."""
    progress: float = 0.0
    """Share of the optimizer steps that are done, in [0, 1)."""
    training: bool = True
    """False where held-out groups are measured."""

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


@runtime_checkable
class Survey(Protocol):
    """An objective whose loss depends on the whole step, however that is split into forward passes and ranks.

    Where its `needs` ask for it, the loop calls `survey` on every forward pass without gradient before the step's
    losses, joins what it returns over passes and ranks, and hands that to each call as `Scores.survey`.
    """

    def survey(self, scores: Scores) -> dict[str, Tensor]:
        """Return 1-D tensors of whatever the loss must know about all rows of the step."""
        ...


def token_sums(values: Tensor, mask: Tensor) -> Tensor:
    """Sum [N, T] values over the masked tokens of each row, in float32: [N]."""
    return torch.where(mask, values.float(), 0.0).sum(-1)


def token_means(values: Tensor, mask: Tensor) -> Tensor:
    """Average [N, T] values over the masked tokens of each row, in float32: [N]."""
    return token_sums(values, mask) / mask.sum(-1)


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
