"""What losses without a reference see of preference pairs: the log-prob of both answers, summed and per token."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fairlead.training.objectives.base import Loss, Scores, pair_rows, token_sums

__all__ = ["Likelihoods", "PairLikelihoods"]

Reduction = Literal["mean", "sum"]


@dataclass(frozen=True)
class Likelihoods:
    """Log-probs of some completions, in nats."""

    sums: Tensor
    """float32 [P]: over the trained tokens."""
    means: Tensor
    """float32 [P]: per trained token."""

    @classmethod
    def of(cls, scores: Scores) -> Likelihoods:
        """Sum and average the policy's log-probs of every row."""
        sums = token_sums(scores.policy, scores.mask)
        return cls(sums, sums / scores.mask.sum(-1))

    def __getitem__(self, rows: Tensor) -> Likelihoods:
        return Likelihoods(self.sums[rows], self.means[rows])

    def nll(self, reduction: Reduction) -> Tensor:
        """Return the negative log-likelihood of each completion, per token or summed: [P]."""
        return -_REDUCED[reduction](self)


_REDUCED: dict[Reduction, Callable[[Likelihoods], Tensor]] = {"mean": lambda x: x.means, "sum": lambda x: x.sums}


@dataclass(frozen=True)
class PairLikelihoods:
    """The two answers of P pairs."""

    chosen: Likelihoods
    """Of the preferred answers."""
    rejected: Likelihoods
    """Of the others."""

    @classmethod
    def of(cls, scores: Scores) -> PairLikelihoods:
        """Match the rows of the scores into pairs.

        Raises:
            UsageError: a group that is not exactly one chosen and one rejected completion.
        """
        every = Likelihoods.of(scores)
        chosen, rejected = pair_rows(scores)
        return cls(every[chosen], every[rejected])

    def loss(self, losses: Tensor, margin: Tensor, extra: Mapping[str, Tensor] | None = None) -> Loss:
        """Return the summed loss, counted in pairs, with the metrics that all such losses share.

        Args:
            losses: [P], with gradient.
            margin: [P], how far the chosen answer's score is above the rejected one's; the target is not taken off.
            extra: further metrics, [P] each.
        """
        count = torch.tensor(float(len(losses)), device=losses.device)
        metrics = {
            "margin": margin,
            "accuracy": (margin > 0).float(),
            "logprob_chosen": self.chosen.sums,
            "logprob_rejected": self.rejected.sums,
            "mean_logprob_chosen": self.chosen.means,
            "mean_logprob_rejected": self.rejected.means,
            **(extra or {}),
        }
        return Loss(losses.sum(), count, {name: (values.detach().sum(), count) for name, values in metrics.items()})
