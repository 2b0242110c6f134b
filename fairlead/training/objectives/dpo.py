"""Direct preference optimisation (Rafailov et al., arXiv 2305.18290, equation 7) and its variants on the same margin.

With a = log pi(chosen) - log ref(chosen), d the same of the rejected one and g = a - d, every variant is a function
of beta, a, d and the two lengths. Log-probs are sums over tokens; `ipo` and `sigmoid_norm` divide them by length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from fairlead.errors import UsageError
from fairlead.training.objectives.base import Loss, Needs, Scores, pair_rows, token_sums

__all__ = ["DPO", "PAIR_LOSSES", "Pairs", "hinge", "ipo", "robust", "sigmoid", "sigmoid_norm"]


@dataclass(frozen=True)
class Pairs:
    """Log-ratios of P pairs, and what the losses may scale them by."""

    chosen: Tensor
    """a, float32 [P]: summed log-ratio of the chosen completion to the reference."""
    rejected: Tensor
    """d, float32 [P]."""
    chosen_length: Tensor
    """Tokens of the chosen completion, [P]."""
    rejected_length: Tensor
    """Tokens of the rejected completion, [P]."""
    beta: float
    """Temperature."""
    smoothing: float
    """Share of pairs assumed to be labelled the wrong way round."""

    @property
    def margin(self) -> Tensor:
        """beta * (a - d), [P]."""
        return self.beta * (self.chosen - self.rejected)

    @property
    def mean_margin(self) -> Tensor:
        """a / length - d / length, [P], without beta."""
        return self.chosen / self.chosen_length - self.rejected / self.rejected_length


def sigmoid(p: Pairs) -> Tensor:
    """-log sigmoid(margin), mixed with its mirror image by `smoothing` (conservative DPO)."""
    return -(1 - p.smoothing) * F.logsigmoid(p.margin) - p.smoothing * F.logsigmoid(-p.margin)


def sigmoid_norm(p: Pairs) -> Tensor:
    """`sigmoid` on length-normalised log-ratios."""
    return -F.logsigmoid(p.beta * p.mean_margin)


def hinge(p: Pairs) -> Tensor:
    """max(0, 1 - margin)."""
    return F.relu(1 - p.margin)


def ipo(p: Pairs) -> Tensor:
    """Squared distance of the length-normalised log-ratio to 1 / (2 beta) (arXiv 2310.12036)."""
    return (p.mean_margin - 1 / (2 * p.beta)) ** 2


def robust(p: Pairs) -> Tensor:
    """Unbiased under labels flipped at rate `smoothing` (arXiv 2403.00409)."""
    kept, flipped = (1 - p.smoothing) * F.logsigmoid(p.margin), p.smoothing * F.logsigmoid(-p.margin)
    return (flipped - kept) / (1 - 2 * p.smoothing)


PAIR_LOSSES: dict[str, Callable[[Pairs], Tensor]] = {
    "sigmoid": sigmoid,
    "sigmoid_norm": sigmoid_norm,
    "hinge": hinge,
    "ipo": ipo,
    "robust": robust,
}


@dataclass(frozen=True)
class DPO:
    """Preference loss on the policy's log-ratio to the reference, counted in pairs."""

    beta: float = 0.1
    """Temperature: nats of log-ratio per unit of reward."""
    loss: Literal["sigmoid", "sigmoid_norm", "hinge", "ipo", "robust"] = "sigmoid"
    """Which function of the margin; a key of `PAIR_LOSSES`."""
    smoothing: float = 0.0
    """Share of pairs assumed to be labelled the wrong way round, in [0, 0.5); used by sigmoid and robust."""

    needs: ClassVar[Needs] = Needs(record="preference", reference=True)

    def __post_init__(self) -> None:
        if self.beta <= 0:
            raise UsageError(f"dpo.beta is {self.beta}", fix="use a positive temperature such as 0.1")
        if not 0 <= self.smoothing < 0.5:
            raise UsageError(f"dpo.smoothing is {self.smoothing}", fix="use a share in [0, 0.5)")
        if self.smoothing and self.loss not in ("sigmoid", "robust"):
            raise UsageError(f"dpo.loss {self.loss!r} has no smoothing", fix="use sigmoid or robust, or smoothing 0")

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
