"""Simple preference optimisation (Meng et al., arXiv 2405.14734, equation 6), with AlphaPO's reward shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from fairlead.errors import UsageError
from fairlead.training.objectives.base import Loss, Needs, Scores
from fairlead.training.objectives.pair_likelihoods import PairLikelihoods

__all__ = ["SimPO"]


@dataclass(frozen=True)
class SimPO:
    """Preference loss on log-probs per token with a target margin and no reference, counted in pairs."""

    beta: float = 2.0
    """Scale of the reward, per nat per token; > 0. The paper uses 2 to 10."""
    gamma: float = 1.0
    """Target margin between the two rewards (beta times nats); >= 0. The paper has gamma / beta in 0.3 to 1.6."""
    alpha: float = 0.0
    """Shape of the reward r of a mean log-prob: (1 - exp(-alpha r)) / alpha, which is r itself at 0 (AlphaPO,
    arXiv 2501.03884)."""
    sft_weight: float = 0.0
    """Weight of the chosen answers' negative log-likelihood per token; >= 0. The paper has none."""

    needs: ClassVar[Needs] = Needs(record="preference")

    def __post_init__(self) -> None:
        if self.beta <= 0:
            raise UsageError(f"simpo.beta is {self.beta}", fix="use a positive scale such as 2")
        if self.gamma < 0:
            raise UsageError(f"simpo.gamma is {self.gamma}", fix="use a margin >= 0 such as beta / 2")
        if self.sft_weight < 0:
            raise UsageError(f"simpo.sft_weight is {self.sft_weight}", fix="use a weight >= 0")

    def __call__(self, scores: Scores) -> Loss:
        """Return the summed loss; metrics: `nll`, margin before gamma, accuracy, log-probs of both."""
        pairs = PairLikelihoods.of(scores)
        nll = pairs.chosen.nll("mean")
        margin = self.beta * (self._shaped(pairs.chosen.means) - self._shaped(pairs.rejected.means))
        losses = self.sft_weight * nll - F.logsigmoid(margin - self.gamma)
        return pairs.loss(losses, margin, {"nll": nll})

    def _shaped(self, means: Tensor) -> Tensor:
        return means if self.alpha == 0 else -torch.expm1(-self.alpha * means) / self.alpha
