"""What completions are worth to each of several rewards by itself, in the manner of `PolicyGradient`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fairlead.training.objectives.online import Rollout
from fairlead.training.objectives.policy_gradient import PolicyGradient

__all__ = ["Worths", "begin_each", "per_reward"]


@dataclass
class Worths:
    """Advantages of R scores."""

    values: Tensor
    """float64 [R, N], or [R, N, T] where they are per token; NaN where that score abstains, 0 outside the mask."""
    fields: dict[str, Tensor]
    """What else the loss needs: `return_k` and `value_k` of value head k."""
    metrics: dict[str, float]
    """What is told of the KL that is taken from the rewards."""
    state: dict[str, Tensor]
    """What is kept until the next rollout."""

    def plus(self, advantage: Tensor) -> dict[str, Tensor]:
        """Return all fields, with what was made of the advantages."""
        return {"advantage": advantage.float(), **self.fields}


def begin_each(started: Mapping[str, Tensor], scores: int) -> dict[str, Tensor]:
    """Return the state of so many scores from that of one: each has its own moving average, all share the KL's."""
    shared = {name: value for name, value in started.items() if name != "average"}
    own = {f"average_{k}": started["average"] for k in range(scores)} if "average" in started else {}
    return {**shared, **own}


def per_reward(objective: PolicyGradient, scores: Tensor, rollout: Rollout, state: Mapping[str, Tensor]) -> Worths:
    """Return the advantages of every one of R scores [N, R] under the objective's baseline, scale and KL.

    Score k has value head k, where there are value heads, and a baseline and a scale of its own.
    """
    columns, fields, metrics, kept = [], {}, {}, dict(state)
    for k, score in enumerate(scores.unbind(-1)):
        heads = None if rollout.values is None else rollout.values[..., k : k + 1]
        own = {name: value for name, value in state.items() if not name.startswith("average_")}
        own |= {"average": state[f"average_{k}"]} if f"average_{k}" in state else {}
        found = objective.worth(score, replace(rollout, values=heads), own)
        unknown = score.isnan() if found.fields["advantage"].ndim == 1 else score.isnan()[:, None] & rollout.mask
        columns.append(found.fields["advantage"].double().masked_fill(unknown, torch.nan))
        fields |= {n.replace("_0", f"_{k}"): v for n, v in found.fields.items() if n.endswith("_0")}
        metrics |= found.metrics
        kept |= {n if n != "average" else f"average_{k}": v for n, v in found.state.items()}
    return Worths(torch.stack(columns), fields, metrics, kept)
