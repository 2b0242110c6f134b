"""Odds-ratio preference optimisation (Hong et al., arXiv 2403.07691, equations 6 and 7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F

from fairlead.errors import UsageError
from fairlead.training.objectives.base import Loss, Needs, Scores
from fairlead.training.objectives.log_odds import log_odds
from fairlead.training.objectives.pair_likelihoods import PairLikelihoods, Reduction

__all__ = ["ORPO"]


@dataclass(frozen=True)
class ORPO:
    """SFT on the chosen answer and -log sigmoid of the log-odds ratio of both, in one stage, counted in pairs."""

    weight: float = 0.1
    """Lambda of the paper, which uses 0.1 to 0.25 (`beta` in TRL): weight of the odds-ratio term; >= 0."""
    sft_reduction: Reduction = "mean"
    """Negative log-likelihood of a chosen answer: per token (`mean`) or over all of its tokens (`sum`)."""
    clamp: float = 1e-7
    """A mean log-prob nearer to 0 than this many nats counts as this far; keeps the odds finite. >= 0."""

    needs: ClassVar[Needs] = Needs(record="preference")

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise UsageError(f"orpo.weight is {self.weight}", fix="use a weight >= 0 such as 0.1")
        if self.clamp < 0:
            raise UsageError(f"orpo.clamp is {self.clamp}", fix="use 1e-7, or 0 for none")

    def __call__(self, scores: Scores) -> Loss:
        """Return the summed loss; metrics: `nll`, `odds_loss`, margin of the log-odds, accuracy, log-probs of both."""
        pairs = PairLikelihoods.of(scores)
        nll = pairs.chosen.nll(self.sft_reduction)
        margin = log_odds(pairs.chosen.means, self.clamp) - log_odds(pairs.rejected.means, self.clamp)
        odds_loss = -F.logsigmoid(margin)
        return pairs.loss(nll + self.weight * odds_loss, margin, {"nll": nll, "odds_loss": odds_loss})
