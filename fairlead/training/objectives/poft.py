"""Preference-oriented supervised fine-tuning (Fan et al., arXiv 2412.12865): rank the model above aligned ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from fairlead.errors import UsageError
from fairlead.training.likelihood import AnswerText, MeanLogProb
from fairlead.training.objectives.base import Loss, Needs, Scores, token_means, token_sums

__all__ = ["PoFT"]


@dataclass(frozen=True)
class PoFT:
    """Bradley-Terry loss of the model's mean log-prob of an answer against aligned models', counted in records."""

    references: tuple[str, ...] = ("harbor:aligned-300k",)
    """Aligned models whose mean log-prob is the bar: `harbor:NAME`, directories, hub ids, of any vocabulary."""
    beta: float = 1.0
    """Factor on the difference, per nat per token; the paper has 1."""
    gamma: float = 0.0
    """Added to the scaled difference; the paper has 0."""
    closing: bool = True
    """Whether the token that ends a turn counts, in the model's score and in the references'. Without it, as in the
    published scores, nothing in the loss speaks for stopping."""

    def __post_init__(self) -> None:
        if self.beta <= 0:
            raise UsageError(f"poft.beta is {self.beta}", fix="use a positive number such as 1.0")
        _ = self.needs

    @property
    def needs(self) -> Needs:
        """Conversations, with the references' mean log-prob of each."""
        column = MeanLogProb(self.references, self.closing)
        return Needs(record="conversation", columns=(column,), grouping=AnswerText(self.closing))

    def __call__(self, scores: Scores) -> Loss:
        """Return the summed loss.

        Metrics: `tau`, the weight that a record's cross-entropy gets; `mean_logprob` and `reference_mean`, the scores
        that are compared; `nll`, per token.
        """
        own = token_means(scores.policy, scores.mask)
        bar = scores.require("reference_mean").float()
        margin = self.beta * (own - bar) + self.gamma
        count = torch.tensor(float(len(own)), device=own.device)
        kept = margin.detach()
        return Loss(
            sum=F.softplus(-margin).sum(),
            count=count,
            metrics={
                "tau": (self.beta * torch.sigmoid(-kept).sum(), count),
                "mean_logprob": (own.detach().sum(), count),
                "reference_mean": (bar.sum(), count),
                "nll": (-token_sums(scores.policy.detach(), scores.mask).sum(), scores.mask.sum().float()),
            },
        )
