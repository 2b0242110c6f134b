"""Reward model on a sequence-score head: Bradley-Terry on pairs (Llama 2, arXiv 2307.09288, equation 2), with soft
labels, with a squared distance to absolute scores (arXiv 2410.14940), and with a side of 0 for every answer, as a cost
model has (Safe RLHF, arXiv 2310.12773, equation 6)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from fairlead.errors import DataError, UsageError
from fairlead.training.columns import Desk, FromRecord, Part
from fairlead.training.objectives.base import Loss, Needs, Scores, pair_rows

__all__ = ["Probability", "RewardModel", "Side", "SomewhereGiven"]


@dataclass(frozen=True)
class SomewhereGiven:
    """An optional number per completion that at least one record must have."""

    name: str
    """Column of the data (or NAME_chosen and NAME_rejected), and key in `Scores.fields`."""

    def supply(self, part: Part, desk: Desk) -> list[np.ndarray]:
        """Read the column.

        Raises:
            DataError: no record has it, or one is not a number.
        """
        found = FromRecord(self.name, required=False).supply(part, desk)
        if all(np.isnan(values).all() for values in found):
            raise DataError(
                f"no record has {self.name!r}",
                place=part.records.source,
                fix=f"give numbers in {self.name}_chosen and {self.name}_rejected, or set what uses them to 0",
            )
        return found


@dataclass(frozen=True)
class Probability:
    """An optional probability per record."""

    name: str
    """Column of the data, and key in `Scores.fields`."""

    def supply(self, part: Part, desk: Desk) -> list[np.ndarray]:
        """Read the column.

        Raises:
            DataError: a value outside [0, 1], or not a number.
        """
        found = FromRecord(self.name, required=False).supply(part, desk)
        for group, values in zip(part.groups, found, strict=True):
            if ((values < 0) | (values > 1)).any():
                raise DataError(
                    f"{self.name!r} is {values.tolist()}",
                    place=part.records.place(group.id),
                    fix="give a probability in [0, 1]",
                )
        return found


@dataclass(frozen=True)
class Side(SomewhereGiven):
    """The side of 0 that a completion's score belongs on, 1 or -1, which at least one record must have."""

    def supply(self, part: Part, desk: Desk) -> list[np.ndarray]:
        """Read the column.

        Raises:
            DataError: no record has it, or one is neither 1 nor -1.
        """
        found = super().supply(part, desk)
        for group, values in zip(part.groups, found, strict=True):
            if not np.isin(values[~np.isnan(values)], (-1, 1)).all():
                raise DataError(
                    f"{self.name!r} is {values.tolist()}",
                    place=part.records.place(group.id),
                    fix="give 1 for a score above 0, -1 for one below",
                )
        return found


@dataclass(frozen=True)
class RewardModel:
    """-log sigmoid(r_chosen - r_rejected - margin), counted in pairs."""

    centring: float = 0.0
    """Weight of (r_chosen + r_rejected)^2, which keeps rewards near zero (arXiv 2312.09244); 0.01 is usual."""
    pointwise: float = 0.0
    """Weight of (r - s)^2 for every answer whose absolute score s the data give, in `score_chosen` and
    `score_rejected`; 0.1 for scores in [0, 1] is a start."""

    sides: float = 0.0
    """Weight of -log sigmoid(s r) for every answer whose side of 0 the data give, in `side_chosen` and `side_rejected`:
    s is 1 above, -1 below. 1 makes a cost model of data in which the chosen answer is the more harmful one."""

    @property
    def needs(self) -> Needs:
        """Pairs with an optional margin, an optional probability, and scores and sides where they count."""
        columns = (FromRecord("margin", required=False), Probability("chosen_probability"))
        scored = (SomewhereGiven("score"),) if self.pointwise else ()
        sided = (Side("side"),) if self.sides else ()
        return Needs(record="preference", score_head=True, columns=(*columns, *scored, *sided))

    def __post_init__(self) -> None:
        for name in ("centring", "pointwise", "sides"):
            if getattr(self, name) < 0:
                raise UsageError(f"reward_model.{name} is {getattr(self, name)}", fix="use a weight >= 0")

    def __call__(self, scores: Scores) -> Loss:
        """Return the summed pair loss.

        Of the records' own columns, `margin` is taken off the difference; `chosen_probability`, the probability that
        the chosen answer is the better one, weighs the loss of this order against that of the other (1 where it is
        absent); an absent score takes no part in `pointwise`.

        Metrics: `accuracy` (strict), `margin`, `reward_chosen`, `reward_rejected`; with `pointwise` also `score_error`,
        the mean squared distance to the scores that there are, and with `sides` `side_accuracy`, the share of the
        answers with a side whose score is on it.
        """
        chosen, rejected = pair_rows(scores)
        reward = scores.require("score").float()
        margin = scores.require("margin")[chosen].float().nan_to_num(0.0)
        right = scores.require("chosen_probability")[chosen].float().nan_to_num(1.0)
        difference = reward[chosen] - reward[rejected]
        losses = -right * F.logsigmoid(difference - margin) - (1 - right) * F.logsigmoid(margin - difference)
        if self.centring:
            losses = losses + self.centring * (reward[chosen] + reward[rejected]) ** 2
        count = torch.tensor(float(len(chosen)), device=reward.device)
        total = losses.sum()
        metrics = {
            "accuracy": ((difference > 0).float().sum(), count),
            "margin": (difference.detach().sum(), count),
            "reward_chosen": (reward.detach()[chosen].sum(), count),
            "reward_rejected": (reward.detach()[rejected].sum(), count),
        }
        if self.pointwise:
            wanted = scores.fields["score"].float()
            given = ~wanted.isnan()
            error = ((reward - wanted.nan_to_num(0.0)) ** 2)[given].sum()
            total = total + self.pointwise * error
            metrics["score_error"] = (error.detach(), given.sum().float())
        if self.sides:
            side = scores.fields["side"].float()
            told = ~side.isnan()
            turned = (side.nan_to_num(0.0) * reward)[told]
            total = total - self.sides * F.logsigmoid(turned).sum()
            metrics["side_accuracy"] = ((turned > 0).float().sum(), told.sum().float())
        return Loss(sum=total, count=count, metrics=metrics)
