"""Contrastive preference optimisation (Xu et al., arXiv 2401.08417, equations 4 and 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F

from fairlead.errors import UsageError
from fairlead.training.objectives.base import Loss, Needs, Scores
from fairlead.training.objectives.pair_likelihoods import PairLikelihoods, Reduction

__all__ = ["CPO"]


@dataclass(frozen=True)
class CPO:
    """DPO's loss with a uniform reference, kept near the chosen answers by SFT on them, counted in pairs."""

    beta: float = 0.1
    """Temperature: nats of log-prob per unit of reward; > 0."""
    sft_weight: float = 1.0
    """Weight of the chosen answers' negative log-likelihood; >= 0."""
    sft_reduction: Reduction = "mean"
    """Negative log-likelihood of a chosen answer: per token (`mean`) or over all of its tokens (`sum`)."""

    needs: ClassVar[Needs] = Needs(record="preference")

    def __post_init__(self) -> None:
        if self.beta <= 0:
            raise UsageError(f"cpo.beta is {self.beta}", fix="use a positive temperature such as 0.1")
        if self.sft_weight < 0:
            raise UsageError(f"cpo.sft_weight is {self.sft_weight}", fix="use a weight >= 0")

    def __call__(self, scores: Scores) -> Loss:
        """Return the summed loss; metrics: `nll`, margin (times beta), accuracy, log-probs of both."""
        pairs = PairLikelihoods.of(scores)
        nll = pairs.chosen.nll(self.sft_reduction)
        margin = self.beta * (pairs.chosen.sums - pairs.rejected.sums)
        return pairs.loss(self.sft_weight * nll - F.logsigmoid(margin), margin, {"nll": nll})
