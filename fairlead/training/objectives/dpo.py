"""Direct preference optimisation (Rafailov et al., arXiv 2305.18290, equation 7) and its variants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from fairlead.errors import UsageError
from fairlead.training.objectives.base import Loss, Needs, Scores, pair_rows, token_sums
from fairlead.training.objectives.pair_losses import PAIR_LOSSES, SMOOTHED, Pairs

__all__ = ["DPO"]


@dataclass(frozen=True)
class DPO:
    """Preference loss on the policy's log-ratio to the reference, counted in pairs."""

    beta: float = 0.1
    """Temperature: nats of log-ratio per unit of reward."""
    loss: Literal[
        "sigmoid",
        "sigmoid_norm",
        "hinge",
        "ipo",
        "robust",
        "exo",
        "nca",
        "bce",
        "sppo",
        "apo_zero",
        "apo_down",
        "discopop",
    ] = "sigmoid"
    """Which function of the two log-ratios (`fairlead.training.objectives.pair_losses`)."""
    smoothing: float = 0.0
    """Share of pairs assumed to be labelled the wrong way round, in [0, 0.5); used by sigmoid, robust and exo."""

    needs: ClassVar[Needs] = Needs(record="preference", reference=True)

    def __post_init__(self) -> None:
        if self.beta <= 0:
            raise UsageError(f"dpo.beta is {self.beta}", fix="use a positive temperature such as 0.1")
        if not 0 <= self.smoothing < 0.5:
            raise UsageError(f"dpo.smoothing is {self.smoothing}", fix="use a share in [0, 0.5)")
        if self.smoothing and self.loss not in SMOOTHED:
            raise UsageError(
                f"dpo.loss {self.loss!r} has no smoothing", fix=f"use {', '.join(SMOOTHED)}, or smoothing 0"
            )
        if self.loss == "exo" and not self.smoothing:
            raise UsageError("dpo.loss 'exo' is infinite without smoothing", fix="set dpo.smoothing, such as 1e-3")

    def __call__(self, scores: Scores) -> Loss:
        """Return the summed pair loss; metrics: rewards of both, margin, accuracy, log-probs of both."""
        chosen, rejected = pair_rows(scores)
        policy = token_sums(scores.policy, scores.mask)
        ratio = policy - token_sums(scores.require("reference"), scores.mask)
        length = scores.mask.sum(-1)
        pairs = Pairs(ratio[chosen], ratio[rejected], length[chosen], length[rejected], self.beta, self.smoothing)
        count = torch.tensor(float(len(chosen)), device=policy.device)
        rewards = self.beta * ratio.detach()
        metrics = {
            "reward_chosen": rewards[chosen],
            "reward_rejected": rewards[rejected],
            "margin": rewards[chosen] - rewards[rejected],
            "accuracy": (rewards[chosen] > rewards[rejected]).float(),
            "logprob_chosen": policy.detach()[chosen],
            "logprob_rejected": policy.detach()[rejected],
        }
        return Loss(
            sum=PAIR_LOSSES[self.loss](pairs).sum(),
            count=count,
            metrics={name: (values.sum(), count) for name, values in metrics.items()},
        )
