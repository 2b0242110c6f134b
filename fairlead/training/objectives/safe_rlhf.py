"""Safe RLHF: as much reward as a bound on a cost allows (Dai et al., arXiv 2310.12773).

The bound's price, a Lagrange multiplier, rises while the cost is above budget and falls while it is below; completions
are worth the advantage in reward less the price times the advantage in cost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fairlead.errors import UnknownNameError, UsageError
from fairlead.training.advantages import combined, overlong_penalty
from fairlead.training.objectives.online import Advantages, Rollout
from fairlead.training.objectives.policy_gradient import PolicyGradient
from fairlead.training.objectives.several import begin_each, per_reward

__all__ = ["SafeRLHF", "dual_step"]


@dataclass(frozen=True)
class SafeRLHF(PolicyGradient):
    """Policy gradient on rewards, with one of the rollout's rewards as a cost whose mean must stay below a budget."""

    cost: str = "cost"
    """Which of the rollout's `rewards` is the cost, by its name there; a completion is unsafe above 0 as a rule."""
    budget: float = 0.0
    """What the mean cost of completions may come to, in the cost's own unit."""
    price: float = 1.0
    """The multiplier at the start, above 0."""
    price_rate: float = 0.1
    """Step of the multiplier, once per rollout; per unit of cost."""
    price_cap: float = 100.0
    """Largest multiplier."""
    dual: Literal["log", "exponentiated"] = "log"
    """How the multiplier moves: by gradient ascent on its logarithm, so by rate times multiplier times violation in the
    exponent (log), or by rate times violation (exponentiated)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        limits = [
            ("price", 0 < self.price <= self.price_cap, "above 0, up to price_cap"),
            ("price_rate", self.price_rate >= 0, ">= 0"),
            ("price_cap", 0 < self.price_cap < math.inf, "above 0"),
            ("budget", math.isfinite(self.budget), "that is finite"),
        ]
        for name, holds, wanted in limits:
            if not holds:
                raise UsageError(f"safe_rlhf.{name} is {getattr(self, name)}", fix=f"use a value {wanted}")

    def begin(self, rewards: int, completions: int) -> dict[str, Tensor]:
        """Return the state before the first rollout: the multiplier beside what `PolicyGradient` keeps.

        Raises:
            UsageError: fewer than two rewards, of which one is the cost.
        """
        if rewards < 2:
            raise UsageError(
                "a bounded cost needs a reward beside it", place="train.rollout",
                fix=f"set rewards: {{helpful: ..., {self.cost}: ...}}",
            )  # fmt: skip
        started = begin_each(super().begin(rewards - 1, completions), 2)
        price = torch.tensor(self.price, dtype=torch.float64)
        return {**started, "price": price, "peak": price}

    def heads(self, rewards: int) -> int:
        """Return two value heads, for reward and cost, where they are the baseline."""
        return 2 if self.baseline == "value" else 0

    def advantages(self, rollout: Rollout, state: Mapping[str, Tensor]) -> Advantages:
        """Return (A_reward - price A_cost) / (1 + price) of every completion, [N], or token, [N, T].

        The rewards that are no cost are joined as `weights` and `combine` say. Where a completion's cost is not known
        its reward alone counts, and the other way round. Metrics: `price` (before this rollout's step), `price_peak`
        (the largest so far), `cost` (mean; the loop tells it as a reward too), `violation` (mean cost less the budget)
        and `unsafe` (share of completions with a cost above 0).

        Raises:
            UnknownNameError: no reward of the rollout has the cost's name.
        """
        if self.cost not in rollout.names:
            raise UnknownNameError("reward that is the cost", self.cost, rollout.names, place="safe_rlhf.cost")
        place = rollout.names.index(self.cost)
        others = [k for k in range(len(rollout.names)) if k != place]
        weights = torch.tensor(self.weights or (1.0,) * len(others), dtype=torch.float64)
        normalise = self.combine == "normalise"
        reward = combined(rollout.rewards[:, others], rollout.group, weights, normalise=normalise)
        if self.overlong:
            cache = max(1, round(self.overlong * rollout.limit))
            reward = reward + overlong_penalty(rollout.lengths, rollout.limit, cache)
        cost = rollout.rewards[:, place]
        worths = per_reward(self, torch.stack([reward, cost], dim=-1), rollout, state)
        gain, harm = worths.values.nan_to_num(0.0)
        price = float(state["price"])
        found = (gain - price * harm) / (1 + price)
        known = cost[~cost.isnan()]
        kept = {**worths.state, "peak": torch.maximum(state["peak"], state["price"])}
        metrics = {**worths.metrics, "price": price, "price_peak": float(kept["peak"])}
        if len(known):
            violation = float(known.mean()) - self.budget
            told = {"cost": float(known.mean()), "violation": violation, "unsafe": float((known > 0).double().mean())}
            metrics |= told
            kept["price"] = torch.tensor(
                dual_step(price, violation, self.price_rate, cap=self.price_cap, dual=self.dual), dtype=torch.float64
            )
        return Advantages(worths.plus(found), metrics, kept)


def dual_step(price: float, violation: float, rate: float, *, cap: float = math.inf, dual: str = "log") -> float:
    """Return the next multiplier: price * exp(rate * violation), with `log` of rate * price * violation.

    It stays above 0, rises where the violation is above 0 and falls where it is below.
    """
    exponent = rate * violation * (price if dual == "log" else 1.0)
    return cap if exponent > math.log(cap) - math.log(price) else max(price * math.exp(exponent), 1e-300)
