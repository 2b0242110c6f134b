"""Aligned SFT through absolute likelihood (Wang et al., arXiv 2409.10571; form and temper of arXiv 2502.01237)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from fairlead.errors import UsageError
from fairlead.training.objectives.base import Loss, Needs, Scores
from fairlead.training.objectives.log_odds import log1mexp, log_odds
from fairlead.training.objectives.pair_likelihoods import PairLikelihoods, Reduction

__all__ = ["AbsoluteLikelihood", "alignment"]


@dataclass(frozen=True)
class AbsoluteLikelihood:
    """SFT on the chosen answer, its odds up and those of the rejected answer down, each by itself; counted in pairs."""

    weight: float = 0.2
    """Lambda: weight of the alignment term; >= 0. Sensible values are 0.1 to 1 beside the SFT term, 1 without it."""
    sft_weight: float = 1.0
    """Weight of the chosen answers' negative log-likelihood; >= 0. 0 for a second stage that starts after SFT."""
    beta: float = 1.0
    """Temper of the log-odds; > 0. 1 is the paper's; other values belong to the second stage."""
    sft_reduction: Reduction = "mean"
    """Negative log-likelihood of a chosen answer: per token (`mean`) or over all of its tokens (`sum`)."""
    clamp: float = 1e-7
    """A mean log-prob nearer to 0 than this many nats counts as this far in 1 - p, without gradient there; >= 0."""

    needs: ClassVar[Needs] = Needs(record="preference")

    def __post_init__(self) -> None:
        for name in ("weight", "sft_weight", "clamp"):
            if getattr(self, name) < 0:
                raise UsageError(f"absolute_likelihood.{name} is {getattr(self, name)}", fix="use a value >= 0")
        if self.beta <= 0:
            raise UsageError(f"absolute_likelihood.beta is {self.beta}", fix="use a positive temper such as 1")
        if self.weight == self.sft_weight == 0:
            raise UsageError(
                "absolute_likelihood.weight and sft_weight are both 0", fix="give one of them a positive value"
            )

    def __call__(self, scores: Scores) -> Loss:
        """Return the summed loss.

        Metrics: `nll` and `align_loss`, the two terms; margin of the log-odds, accuracy, log-probs of both;
        `probability_chosen` and `probability_rejected`, exp of the mean log-probs; `clamped`, the share of rejected
        answers without gradient.
        """
        pairs = PairLikelihoods.of(scores)
        chosen, rejected = pairs.chosen.means, pairs.rejected.means
        nll = pairs.chosen.nll(self.sft_reduction)
        align = alignment(chosen, rejected, self.beta, self.clamp)
        margin = log_odds(chosen.detach(), self.clamp) - log_odds(rejected.detach(), self.clamp)
        extra = {
            "nll": nll,
            "align_loss": align,
            "probability_chosen": chosen.exp(),
            "probability_rejected": rejected.exp(),
            "clamped": (rejected > -self.clamp).float(),
        }
        return pairs.loss(self.sft_weight * nll + self.weight * align, margin, extra)


def alignment(chosen: Tensor, rejected: Tensor, beta: float = 1.0, clamp: float = 1e-7) -> Tensor:
    """Return -log sigmoid(beta * odds(chosen)) - log sigmoid(-beta * odds(rejected)) for mean log-probs, [P] each."""
    if beta == 1:  # sigmoid of the log-odds is the probability itself: nothing to lose in between
        return -chosen - log1mexp(rejected, clamp)
    return -F.logsigmoid(beta * log_odds(chosen, clamp)) - F.logsigmoid(-beta * log_odds(rejected, clamp))
