"""Bradley-Terry reward model on a sequence-score head (Llama 2, arXiv 2307.09288, equation 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from fairlead.errors import UsageError
from fairlead.training.columns import FromRecord
from fairlead.training.objectives.base import Loss, Needs, Scores, pair_rows

__all__ = ["RewardModel"]


@dataclass(frozen=True)
class RewardModel:
    """-log sigmoid(r_chosen - r_rejected - margin), counted in pairs."""

    centring: float = 0.0
    """Weight of (r_chosen + r_rejected)^2, which keeps rewards near zero (arXiv 2312.09244); 0.01 is usual."""

    needs: ClassVar[Needs] = Needs(
        record="preference", score_head=True, columns=(FromRecord("margin", required=False),)
    )

    def __post_init__(self) -> None:
        if self.centring < 0:
            raise UsageError(f"reward_model.centring is {self.centring}", fix="use a weight >= 0")

    def __call__(self, scores: Scores) -> Loss:
        """Return the summed pair loss; a `margin` field of the records is taken off the difference.

        Metrics: `accuracy` (strict), `margin`, `reward_chosen`, `reward_rejected`.
        """
        chosen, rejected = pair_rows(scores)
        reward = scores.require("score").float()
        wanted = scores.require("margin")[chosen].float().nan_to_num(0.0)
        difference = reward[chosen] - reward[rejected]
        losses = -F.logsigmoid(difference - wanted)
        if self.centring:
            losses = losses + self.centring * (reward[chosen] + reward[rejected]) ** 2
        count = torch.tensor(float(len(chosen)), device=reward.device)
        metrics = {
            "accuracy": (difference > 0).float(),
            "margin": difference,
            "reward_chosen": reward[chosen],
            "reward_rejected": reward[rejected],
        }
        return Loss(
            sum=losses.sum(),
            count=count,
            metrics={name: (values.detach().sum(), count) for name, values in metrics.items()},
        )
