"""Group-robust policy gradients: the groups that a policy serves worst count most.

Groups are of prompts, or of people with a reward each. Group DRO (Sagawa et al., arXiv 1911.08731) moves the groups'
weights towards the worst; MaxMin (arXiv 2402.08925) trains on the worst group alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fairlead.errors import DataError, UsageError
from fairlead.training.advantages import combined, overlong_penalty
from fairlead.training.columns import Desk, FromRecord, Part
from fairlead.training.objectives.base import Needs
from fairlead.training.objectives.online import Advantages, Rollout
from fairlead.training.objectives.policy_gradient import PolicyGradient

__all__ = ["GroupNumber", "GroupRobust", "group_step"]


@dataclass(frozen=True)
class GroupNumber:
    """The group that a record belongs to, as a number."""

    name: str
    """Column of the data, and key in `Scores.fields`."""

    def supply(self, part: Part, desk: Desk) -> list[np.ndarray]:
        """Read numbers as they are, and number names in their alphabetical order over all records.

        Raises:
            DataError: a record without a group, or names among numbers.
        """
        extra = {record.id: getattr(record, "extra", {}).get(self.name) for record in part.records}
        names = sorted({value for value in extra.values() if isinstance(value, str)})
        if not names:
            return FromRecord(self.name).supply(part, desk)
        number = {name: float(k) for k, name in enumerate(names)}
        wrong = [id for id, value in extra.items() if not isinstance(value, str)]
        if wrong:
            what = f"{self.name!r} is {extra[wrong[0]]!r}, and a name elsewhere"
            raise DataError(what, place=part.records.place(wrong[0]), fix="name the group of every prompt")
        return [np.full(len(group.branches), number[str(extra[group.id])], dtype=np.float32) for group in part.groups]


@dataclass(frozen=True)
class GroupRobust(PolicyGradient):
    """Policy gradient in which each group's part is weighed by how badly it fares."""

    column: str | None = None
    """Column of the prompts that tells the group of each, by a number or a name; names are numbered from 0 in their
    alphabetical order. None: every one of the rollout's rewards is what the completions are worth to one group of
    people, and all are on one scale."""
    rule: Literal["dro", "maxmin"] = "dro"
    """How groups are weighed: dro, by q <- q exp(rate * loss) / sum, with minus the mean reward as the loss; or maxmin,
    all weight on the group that fares worst in this rollout."""
    group_rate: float = 0.1
    """With dro: step of the groups' weights, once per rollout; per unit of reward."""
    weights: tuple[float, ...] = ()
    """With a column: weight of each reward, in their order; none: 1 each."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.group_rate < 0:
            raise UsageError(f"group_robust.group_rate is {self.group_rate}", fix="use a value >= 0")
        if self.column == "":
            raise UsageError("group_robust.column is empty", fix="name a column of the prompts, or leave it out")
        if self.column is None and (self.weights or self.combine != "sum"):
            raise UsageError(
                "group_robust: every reward is a group's own, and the rule weighs them",
                fix="leave weights and combine out, or name the column of the prompts' groups",
            )

    @property
    def needs(self) -> Needs:
        """As a policy gradient, and the column of groups."""
        return replace(super().needs, columns=(GroupNumber(self.column),) if self.column else ())

    def begin(self, rewards: int, completions: int) -> dict[str, Tensor]:
        """Return the state before the first rollout: no groups with a column, else equal weights of the rewards.

        Raises:
            UsageError: one reward, where each is a group's.
        """
        if self.column is None and rewards < 2:
            raise UsageError(
                "there is one reward, and no column says which group a prompt belongs to", place="group_robust.column",
                fix="name a column of the prompts, or give a reward per group of people",
            )  # fmt: skip
        number = 0 if self.column else rewards
        started = {
            "groups": torch.arange(number, dtype=torch.float64),
            "shares": torch.full((number,), 1 / max(1, number), dtype=torch.float64),
        }
        return {**super().begin(rewards, completions), **started}

    def advantages(self, rollout: Rollout, state: Mapping[str, Tensor]) -> Advantages:
        """Return the worth of every completion, [N], or token, [N, T].

        With a column a completion's advantage is multiplied by its group's weight over the group's share of the
        rollout; else the rewards are summed by their groups' weights. A group that no prompt of a rollout belongs to
        keeps its weight; one that is new gets an equal share. Metrics: `worst` (the lowest mean reward of a group), and
        of each group, by its number or its reward's name, `group_NAME` (mean reward) and `share_NAME` (its weight in
        this rollout).
        """
        known, shares = state["groups"], state["shares"]
        weights = torch.tensor(self.weights or (1.0,) * rollout.rewards.shape[1], dtype=torch.float64)
        if self.column is None:
            means = _means(rollout.rewards.T)
        else:
            score = combined(rollout.rewards, rollout.group, weights, normalise=self.combine == "normalise")
            owner = rollout.columns[self.column]
            known, shares = _joined(known, shares, owner)
            means = _means(torch.where(owner == known[:, None], score, torch.nan))
        shares = _RULES[self.rule](shares, -means, self.group_rate)
        if self.column is None:
            score, factor = combined(rollout.rewards, rollout.group, shares), None
        else:
            place = (owner[:, None] == known).double()
            factor = (place * (shares * len(owner) / place.sum(0).clamp_min(1))).sum(-1)
        if self.overlong:
            cache = max(1, round(self.overlong * rollout.limit))
            score = score + overlong_penalty(rollout.lengths, rollout.limit, cache)
        found = self.worth(score, rollout, {k: v for k, v in state.items() if k not in ("groups", "shares")})
        if factor is not None:
            advantage = found.fields["advantage"]
            found.fields["advantage"] = (advantage.double() * factor.reshape(-1, *(1,) * (advantage.ndim - 1))).float()
        names = rollout.names if self.column is None else [f"{value:g}" for value in known.tolist()]
        found.metrics |= {"worst": float(means[~means.isnan()].min()) if (~means.isnan()).any() else float("nan")}
        for name, mean, share in zip(names, means.tolist(), shares.tolist()):
            found.metrics |= {f"group_{name}": mean, f"share_{name}": share}
        found.state |= {"groups": known, "shares": shares}
        return found


def group_step(shares: Tensor, losses: Tensor, rate: float) -> Tensor:
    """Return the next weights of G groups, q exp(rate * loss) / sum, float64 [G] (group DRO, algorithm 1).

    Groups whose loss is not known (NaN) keep their weight; the others share what is left.
    """
    here = ~losses.isnan()
    logits = torch.where(here, shares.log() + rate * losses.nan_to_num(0.0), -torch.inf)
    held = shares[here].sum()
    return torch.where(here, held * torch.softmax(logits, 0), shares) if here.any() else shares


def _worst(shares: Tensor, losses: Tensor, rate: float) -> Tensor:
    """Return all weight on the group with the greatest known loss, the first of equals."""
    if losses.isnan().all():
        return shares
    worst = torch.zeros_like(shares)
    worst[int(losses.nan_to_num(-torch.inf).argmax())] = 1.0
    return worst


_RULES = {"dro": group_step, "maxmin": _worst}


def _means(rows: Tensor) -> Tensor:
    """Return the means [G] over what is known of rows [G, N]; NaN where nothing is."""
    return rows.nanmean(-1)


def _joined(known: Tensor, shares: Tensor, owner: Tensor) -> tuple[Tensor, Tensor]:
    """Return the groups so far and those that are new, in the order of their numbers, each new one with 1 / G."""
    every = torch.unique(torch.cat([known, owner]))
    new = ~torch.isin(every, known)
    joined = torch.full_like(every, 1 / len(every))
    joined[~new] = shares * (1 - new.sum() / len(every)) if len(known) else shares
    return every, joined
