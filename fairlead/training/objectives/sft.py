"""Supervised fine-tuning: the negative log-likelihood of the trained tokens (Ouyang et al., arXiv 2203.02155)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from fairlead.errors import UsageError
from fairlead.training.objectives.base import Loss, Needs, Scores

__all__ = ["SFT"]


@dataclass(frozen=True)
class SFT:
    """Sum of -log p over trained tokens, counted in tokens (or in sequences, by `reduction`)."""

    loss: Literal["nll", "dft"] = "nll"
    """nll: plain likelihood. dft: every token weighted by its own detached probability (arXiv 2508.05629)."""
    reduction: Literal["token", "sequence", "constant"] = "token"
    """token: all trained tokens of the step weigh the same. sequence: all sequences do, whatever their length, so a
    token of a long one counts for little. constant: all tokens do, and a step is divided by its number of sequences
    times `constant`, not by its tokens (the "long-ce" of arXiv 2410.10210)."""
    constant: int = 2048
    """Tokens that a sequence counts as under `reduction: constant`; only scales the loss."""

    needs: ClassVar[Needs] = Needs(record="conversation")

    def __post_init__(self) -> None:
        if self.constant < 1:
            raise UsageError(f"sft.constant is {self.constant}", fix="use a number of tokens >= 1 such as 2048")

    def __call__(self, scores: Scores) -> Loss:
        """Return the summed loss; metrics: `nll` and `confidence` (mean probability), both over the trained tokens."""
        logprobs = torch.where(scores.mask, scores.policy.float(), 0.0)
        detached = logprobs.detach()
        probability = torch.where(scores.mask, detached.exp(), 0.0)
        losses = -logprobs * probability if self.loss == "dft" else -logprobs
        tokens = scores.mask.sum().float()
        total, count = _REDUCTIONS[self.reduction](losses.sum(-1), scores.mask.sum(-1).float(), self.constant)
        metrics = {"nll": (-detached.sum(), tokens), "confidence": (probability.sum(), tokens)}
        return Loss(total, count, metrics)


def _per_token(losses: Tensor, lengths: Tensor, constant: int) -> tuple[Tensor, Tensor]:
    return losses.sum(), lengths.sum()


def _per_sequence(losses: Tensor, lengths: Tensor, constant: int) -> tuple[Tensor, Tensor]:
    return (losses / lengths).sum(), torch.ones_like(lengths).sum()


def _per_constant(losses: Tensor, lengths: Tensor, constant: int) -> tuple[Tensor, Tensor]:
    return losses.sum() / constant, torch.ones_like(lengths).sum()


_REDUCTIONS: dict[str, Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]] = {
    "token": _per_token,
    "sequence": _per_sequence,
    "constant": _per_constant,
}
"""Sums of the losses [N] and lengths [N] of the sequences -> the sum and the count."""
