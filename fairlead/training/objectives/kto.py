"""Kahneman-Tversky optimisation from thumbs up and down (Ethayarajh et al., arXiv 2402.01306, equation 8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fairlead.errors import UsageError
from fairlead.training.objectives.base import Loss, Needs, Scores, token_sums
from fairlead.training.thumbs import Thumbs, log_ratios

__all__ = ["KTO"]


@dataclass(frozen=True)
class KTO:
    """Each answer by itself against a reference point shared by the step, counted in answers."""

    beta: float = 0.1
    """Temperature: nats of log-ratio per unit of reward."""
    desirable_weight: float = 1.0
    """Weight of an answer with a thumb up."""
    undesirable_weight: float = 1.0
    """Weight of an answer with a thumb down."""
    loss: Literal["kto", "apo_zero_unpaired"] = "kto"
    """kto: the reference point is the mean log-ratio of mismatched prompts and answers, at least 0.
    apo_zero_unpaired: it is 0, and no mismatched answers are computed (arXiv 2408.06266)."""

    def __post_init__(self) -> None:
        if self.beta <= 0:
            raise UsageError(f"kto.beta is {self.beta}", fix="use a positive temperature such as 0.1")
        for name in ("desirable_weight", "undesirable_weight"):
            if getattr(self, name) <= 0:
                raise UsageError(f"kto.{name} is {getattr(self, name)}", fix="use a positive weight such as 1.0")

    @property
    def needs(self) -> Needs:
        """Feedback and a reference; for `kto` also every prompt with another record's answer."""
        mismatched = self.loss == "kto"
        return Needs(record="feedback", reference=True, grouping=Thumbs(), survey=mismatched, mismatched=mismatched)

    def survey(self, scores: Scores) -> dict[str, Tensor]:
        """Return the summed log-ratios [N] of mismatched answers."""
        return {"log_ratio": log_ratios(scores).detach()}

    def __call__(self, scores: Scores) -> Loss:
        """Return the summed loss.

        Metrics: `reference_point` (z, nats), `reward_up`, `reward_down`, `accuracy` (share of answers on their side of
        the reference point), `logprob_up`, `logprob_down`.
        """
        up = scores.require("label").bool()
        ratio = log_ratios(scores)
        z = self._reference_point(scores)
        sign = torch.where(up, 1.0, -1.0)
        weight = torch.where(up, self.desirable_weight, self.undesirable_weight)
        # 1 - sigmoid(u) written as sigmoid(-u), which keeps its digits where u is large.
        losses = weight * torch.sigmoid(-sign * self.beta * (ratio - z))
        count = torch.tensor(float(len(ratio)), device=ratio.device)
        reward, logprob = self.beta * ratio.detach(), token_sums(scores.policy, scores.mask).detach()
        metrics = {
            "reference_point": (z * count, count),
            "accuracy": ((sign * (ratio.detach() - z) > 0).float().sum(), count),
            "reward_up": (reward[up].sum(), up.sum().float()),
            "reward_down": (reward[~up].sum(), (~up).sum().float()),
            "logprob_up": (logprob[up].sum(), up.sum().float()),
            "logprob_down": (logprob[~up].sum(), (~up).sum().float()),
        }
        return Loss(sum=losses.sum(), count=count, metrics=metrics)

    def _reference_point(self, scores: Scores) -> Tensor:
        if self.loss == "apo_zero_unpaired":
            return torch.zeros((), device=scores.policy.device)
        if "log_ratio" not in scores.survey:
            raise UsageError(
                "scores carry no survey of mismatched answers", fix="call the objective's `survey` for the step first"
            )
        return scores.survey["log_ratio"].mean().clamp_min(0.0)
