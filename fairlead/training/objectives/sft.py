"""Supervised fine-tuning: the negative log-likelihood of the trained tokens (Ouyang et al., arXiv 2203.02155)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from fairlead.training.objectives.base import Loss, Needs, Scores

__all__ = ["SFT"]


@dataclass(frozen=True)
class SFT:
    """Sum of -log p over trained tokens, counted in tokens."""

    loss: Literal["nll", "dft"] = "nll"
    """nll: plain likelihood. dft: every token weighted by its own detached probability (arXiv 2508.05629)."""

    needs: ClassVar[Needs] = Needs(record="conversation")

    def __call__(self, scores: Scores) -> Loss:
        """Return the summed loss; metrics: `nll` and `confidence` (mean probability of the trained tokens)."""
        logprobs = scores.policy[scores.mask].float()
        weights = logprobs.detach().exp() if self.loss == "dft" else 1.0
        count = torch.tensor(float(len(logprobs)), device=logprobs.device)
        detached = logprobs.detach()
        return Loss(
            sum=-(logprobs * weights).sum(),
            count=count,
            metrics={"nll": (-detached.sum(), count), "confidence": (detached.exp().sum(), count)},
        )
