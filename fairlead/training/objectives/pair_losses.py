"""Losses of a preference pair: functions of beta, the two log-ratios to the reference, and the lengths.

With a = log pi(chosen) - log ref(chosen), d the same of the rejected one, the margin is beta * (a - d). Log-ratios are
sums over tokens; `ipo` and `sigmoid_norm` divide them by length.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "PAIR_LOSSES",
    "SMOOTHED",
    "Pairs",
    "apo_down",
    "apo_zero",
    "bce",
    "discopop",
    "exo",
    "hinge",
    "ipo",
    "nca",
    "robust",
    "sigmoid",
    "sigmoid_norm",
    "sppo",
]


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


def exo(p: Pairs) -> Tensor:
    """Reverse KL from the smoothed label to sigmoid(margin); needs `smoothing` > 0 (arXiv 2402.00856)."""
    right = torch.sigmoid(p.margin) * (F.logsigmoid(p.margin) - math.log(1 - p.smoothing))
    wrong = torch.sigmoid(-p.margin) * (F.logsigmoid(-p.margin) - math.log(p.smoothing))
    return right + wrong


def nca(p: Pairs) -> Tensor:
    """Noise-contrastive: raises the chosen completion's own likelihood, too (arXiv 2402.05369)."""
    a, d = p.beta * p.chosen, p.beta * p.rejected
    return -F.logsigmoid(a) - 0.5 * F.logsigmoid(-a) - 0.5 * F.logsigmoid(-d)


def bce(p: Pairs) -> Tensor:
    """Classifies each completion by itself, without a reward shift (`bco_pair` in TRL)."""
    return -F.logsigmoid(p.beta * p.chosen) - F.logsigmoid(-p.beta * p.rejected)


def sppo(p: Pairs) -> Tensor:
    """Squared distance of each log-ratio to +-1 / (2 beta), win probabilities taken as 0 and 1 (arXiv 2405.00675)."""
    return (p.chosen - 0.5 / p.beta) ** 2 + (p.rejected + 0.5 / p.beta) ** 2


def apo_zero(p: Pairs) -> Tensor:
    """Anchored: chosen up, rejected down, for a policy worse than the chosen answers (arXiv 2408.06266)."""
    return 1 - torch.sigmoid(p.beta * p.chosen) + torch.sigmoid(p.beta * p.rejected)


def apo_down(p: Pairs) -> Tensor:
    """Anchored: both down, the rejected further, for a policy better than the chosen answers (arXiv 2408.06266)."""
    return torch.sigmoid(p.beta * p.chosen) + 1 - torch.sigmoid(p.margin)


def discopop(p: Pairs) -> Tensor:
    """Logistic and exponential loss mixed by the margin at temperature 0.05 (arXiv 2406.08414)."""
    share = torch.sigmoid(p.margin / 0.05)
    # The exponential is far from its range wherever its share is not negligible; the cap keeps 0 * inf out.
    return -F.logsigmoid(p.margin) * (1 - share) + torch.exp(-p.margin.clamp_min(-80.0)) * share


PAIR_LOSSES: dict[str, Callable[[Pairs], Tensor]] = {
    f.__name__: f
    for f in (sigmoid, sigmoid_norm, hinge, ipo, robust, exo, nca, bce, sppo, apo_zero, apo_down, discopop)
}
"""name -> loss of each pair, [P]."""
SMOOTHED = ("sigmoid", "robust", "exo")
"""Losses that `smoothing` means something to."""
