"""Mixture of instructions: one fine-tuning run over several domains, each under its own system prompt (2404.18410)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from fairlead.errors import UnknownNameError, UsageError
from fairlead.training.mixture import ChunkOrder, Mask, Mixture, Sampling
from fairlead.training.objectives.base import Loss, Needs, Scores

__all__ = ["MODES", "MixtureOfInstructions"]

MODES: dict[str, dict[str, Any]] = {
    "sequence": {"sampling": "all", "mask": "isolated", "order": "fixed"},
    "packing": {"sampling": "all", "mask": "none", "order": "fixed"},
    "balance": {"sampling": "cycle", "mask": "none", "order": "fixed"},
    "moi": {"sampling": "cycle", "mask": "chunk", "order": "fixed"},
    "moi_v1": {"sampling": "cycle", "mask": "none", "order": "default_first"},
}
"""Mode -> the fields that it presets."""


@dataclass(frozen=True)
class MixtureOfInstructions:
    """Negative log-likelihood of assistant turns, over chunks with conversations of every domain."""

    mode: Literal["sequence", "packing", "balance", "moi", "moi_v1"] = "moi"
    """Preset of sampling, mask and order; each of them can be set beside it."""
    column: str = "domain"
    """Column that names a record's domain."""
    domains: dict[str, str] = field(default_factory=dict)
    """Domain -> its system prompt (empty for none); their order is the fixed order. Empty: every domain found, all
    under `default_system`."""
    default_system: str = ""
    """System prompt that the model is used with by default; `default_first` puts a conversation under it first."""
    override: bool = False
    """Replace the system prompts that conversations bring with them; otherwise they are kept."""
    weights: dict[str, float] = field(default_factory=dict)
    """Domain -> its conversations in a chunk, or under `temperature` the factor of its probability; 1 by default."""
    sampling: Sampling | None = None
    """all: every conversation once, at random. cycle: chunks with every domain until the largest is used once. stop:
    until the smallest is used up. temperature: each place of a chunk is drawn by size to the power of `alpha`."""
    alpha: float = 0.0
    """Exponent of domain sizes under `temperature`: 0 balances domains, 1 keeps their proportions."""
    chunk_size: int | None = None
    """Conversations in a chunk under `temperature`; the number of domains by default."""
    max_passes: float | None = None
    """End the epoch before any domain is used more often than this."""
    order: ChunkOrder | None = None
    """Order inside a chunk: default_first, fixed or shuffle."""
    mask: Mask | None = None
    """What tokens see: isolated (their conversation), chunk, or none (all of the pack before them)."""
    loss: Literal["token", "conversation"] = "token"
    """Mean over all trained tokens, or over conversations of their own token means."""
    seed: int = 0
    """Which conversations meet in a chunk."""

    def __post_init__(self) -> None:
        for name in self.weights:
            if self.domains and name not in self.domains:
                raise UnknownNameError("domain", name, self.domains, place="mixture_of_instructions.weights")
        whole = self._resolved("sampling") != "temperature"
        bad = {k: w for k, w in self.weights.items() if w <= 0 or (whole and w != int(w))}
        if bad:
            wanted = "whole numbers of conversations in a chunk" if whole else "factors above 0"
            raise UsageError(f"mixture_of_instructions.weights holds {bad}", fix=f"use {wanted}")
        if self._resolved("sampling") == "all" and (self.weights or self.max_passes is not None):
            fix = "leave weights and max_passes out, or use another sampling"
            raise UsageError("sampling 'all' draws every conversation once", fix=fix)
        if whole and (self.alpha or self.chunk_size is not None):
            raise UsageError("alpha and chunk_size belong to sampling: temperature", fix="set it, or leave them out")
        if self.chunk_size is not None and self.chunk_size < 1:
            raise UsageError(f"mixture_of_instructions.chunk_size is {self.chunk_size}", fix="use 1 or more")
        if self.max_passes is not None and self.max_passes <= 0:
            raise UsageError(f"mixture_of_instructions.max_passes is {self.max_passes}", fix="use a number above 0")
        if self._resolved("order") == "default_first" and not self.default_system and "" not in self.domains.values():
            raise UsageError("order 'default_first' needs a default system prompt", fix="set default_system")

    @property
    def needs(self) -> Needs:
        """Conversations, in the groups that the fields describe."""
        mixture = Mixture(
            column=self.column,
            domains=self.domains,
            weights=self.weights,
            default_system=self.default_system,
            override=self.override,
            sampling=self._resolved("sampling"),
            alpha=self.alpha,
            chunk_size=self.chunk_size,
            max_passes=self.max_passes,
            order=self._resolved("order"),
            mask=self._resolved("mask"),
            seed=self.seed,
        )
        return Needs(record="conversation", grouping=mixture)

    def __call__(self, scores: Scores) -> Loss:
        """Return the summed loss and its count; metrics: `nll` per trained token, of all and of each named domain."""
        losses = -torch.where(scores.mask, scores.policy.float(), 0.0)
        tokens = scores.mask.sum().float()
        total, count = losses.sum(), tokens
        if self.loss == "conversation":
            means = _conversation_means(losses, scores.mask, scores.require("conversation"))
            total, count = means.sum(), torch.tensor(float(len(means)), device=means.device)
        metrics = {"nll": (losses.detach().sum(), tokens)}
        for number, name in enumerate(self.domains):
            chosen = scores.mask & (scores.require("domain") == number)
            metrics[f"nll_{name}"] = (losses.detach()[chosen].sum(), chosen.sum().float())
        return Loss(total, count, metrics)

    def _resolved(self, name: str) -> Any:
        own = getattr(self, name)
        return MODES[self.mode][name] if own is None else own


def _conversation_means(losses: Tensor, mask: Tensor, conversation: Tensor) -> Tensor:
    """Average [N, T] losses over the trained tokens of every conversation: [conversations]."""
    row = torch.arange(len(mask), device=mask.device)[:, None]
    key = (row * (conversation.max() + 1) + conversation)[mask]
    _, where = key.unique(return_inverse=True)
    number = int(where.max()) + 1
    sums = torch.zeros(number, device=losses.device).index_add(0, where, losses[mask])
    return sums / torch.bincount(where, minlength=number)
