"""PAMA: several rewards at once without weights of one's own (arXiv 2508.07768).

Every completion is worth as much as it is to the reward that it helps least, and nothing where it helps one and harms
another: the closed form of the minimum-norm problem over advantages, which does not grow with the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fairlead.errors import UsageError
from fairlead.training.advantages import overlong_penalty
from fairlead.training.min_norm import convex_weights, least_norm_weights, projection_of_zero, soft_minimum
from fairlead.training.objectives.online import Advantages, Rollout
from fairlead.training.objectives.policy_gradient import PolicyGradient
from fairlead.training.objectives.several import begin_each, per_reward

__all__ = ["PAMA"]

_EACH = ("token", "sequence")
"""Granularities that combine the rewards in every place by itself."""


@dataclass(frozen=True)
class PAMA(PolicyGradient):
    """Raise the log-probs of what helps all rewards; each is compared and scaled by itself, as in policy_gradient."""

    kl: float = 0.04
    """Coefficient of the KL divergence from the reference, per token; nothing else pushes bad tokens down."""
    weights: tuple[float, ...] = ()
    """How much each reward matters, in their order, above 0: advantages are divided by it, so that what matters more
    is more often the least; none: 1 each."""
    granularity: Literal["token", "sequence", "batch_weights", "batch_scalar", "vector_qp"] = "token"
    """Where the minimum-norm problem is solved: in every token; in every completion; once over the rollout's mean
    advantages, whose weights then join the rewards (batch_weights); the same, but its one number is every token's
    advantage (batch_scalar: has no expected gradient, for comparison only); or exactly, over the rewards' vectors of
    advantages (vector_qp)."""
    indifferent: Literal["silent", "binding"] = "silent"
    """What a reward says of completions of a prompt that are all worth the same to it: nothing, as if it abstained, or
    an advantage of 0, which no other can then exceed (binding: the rule to the letter)."""
    noon: bool = True
    """Take negative advantages as 0, per reward, so that nothing is ever made less likely on purpose."""
    softness: float = 0.0
    """With token and sequence: temperature of a soft minimum in place of the least, in units of advantage; 0 is the
    minimum itself."""
    fallback: bool = True
    """With token and sequence: where nothing in a rollout helps all rewards, solve vector_qp for it instead, with the
    negative advantages: several completions together may help all rewards though none does alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        conflicts = [
            (self.combine != "sum", "combine joins rewards before they are compared", "leave combine out"),
            (any(weight <= 0 for weight in self.weights), f"weights is {list(self.weights)}", "use numbers above 0"),
            (self.softness < 0, f"softness is {self.softness}", "use a temperature above 0, or 0 for none"),
            (self.softness > 0 and self.granularity not in _EACH,
             f"granularity {self.granularity} has no soft minimum", "use token or sequence, or leave softness at 0"),
            (self.softness > 0 and not self.noon,
             "a soft minimum of negative advantages is no projection of 0", "leave noon on, or softness at 0"),
        ]  # fmt: skip
        for holds, what, fix in conflicts:
            if holds:
                raise UsageError(f"pama: {what}", fix=fix)

    def begin(self, rewards: int, completions: int) -> dict[str, Tensor]:
        """Return the state before the first rollout: see `PolicyGradient`, with a moving average per reward."""
        return begin_each(super().begin(rewards, completions), rewards)

    def heads(self, rewards: int) -> int:
        """Return one value head per reward where they are the baseline."""
        return rewards if self.baseline == "value" else 0

    def advantages(self, rollout: Rollout, state: Mapping[str, Tensor]) -> Advantages:
        """Return the worth of every completion, [N], or token, [N, T].

        A reward that abstains on a completion has no say there. Metrics: `stalled` (share of completions, or of
        tokens, that nothing is learned from), `conflict` (share on which rewards disagree in sign), `binding_NAME`
        (share on which this reward's advantage is the least), `weight_NAME` (its mean weight), `fallback` (1 where
        vector_qp stood in).
        """
        scores = rollout.rewards
        if self.overlong:
            cache = max(1, round(self.overlong * rollout.limit))
            scores = scores + overlong_penalty(rollout.lengths, rollout.limit, cache)[:, None]
        worths = per_reward(self, scores, rollout, state)
        raw = worths.values
        if self.indifferent == "silent":
            same = torch.stack([_alike(score, rollout.group) for score in scores.unbind(-1)])
            raw = raw.masked_fill(same if raw.ndim == 2 else same[..., None], torch.nan)
        found, metrics = self.join(raw, rollout.mask, rollout.names)
        return Advantages(worths.plus(found), {**worths.metrics, **metrics}, worths.state)

    def join(self, raw: Tensor, mask: Tensor, names: tuple[str, ...]) -> tuple[Tensor, dict[str, float]]:
        """Return one advantage for those of R rewards, and the metrics of `advantages`.

        Args:
            raw: float64 [R, N] per completion or [R, N, T] per token; NaN where a reward has no say.
            mask: bool [N, T].
            names: the rewards'.
        """
        matters = torch.tensor(self.weights or (1.0,) * len(raw), dtype=raw.dtype)
        raw = raw / matters.reshape(-1, *(1,) * (raw.ndim - 1))
        lengths = mask.sum(-1)
        if self.granularity == "sequence" and raw.ndim == 3:
            raw = torch.where(mask, raw, 0.0).sum(-1) / lengths
        places = mask if raw.ndim == 3 else torch.ones(raw.shape[1:], dtype=torch.bool)
        kept = raw.clamp_min(0.0) if self.noon else raw
        sizes = torch.ones_like(lengths) if raw.ndim == 3 else lengths
        found, weights = self._joined(kept, places, sizes)
        stalled = float((found[places] == 0).double().mean())
        fallback = self.fallback and self.granularity in _EACH and stalled == 1.0
        if fallback:
            found, weights = _exactly(raw, places, sizes)
        told = _told(raw, kept, weights, places, names)
        return torch.where(places, found, 0.0), {**told, "stalled": stalled, "fallback": float(fallback)}

    def _joined(self, values: Tensor, places: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the advantages and the rewards' weights of R rewards' advantages [R, N] or [R, N, T]."""
        if self.granularity in _EACH:
            least = soft_minimum(values, self.softness) if self.softness else projection_of_zero(values)
            return least, convex_weights(values)
        if self.granularity == "vector_qp":
            return _exactly(values, places, sizes)
        means = _mean(values, places, sizes)
        weights = convex_weights(means)
        if self.granularity == "batch_scalar":
            return projection_of_zero(means).expand(values.shape[1:]), weights
        return _sum(values, weights), weights


def _alike(score: Tensor, group: Tensor) -> Tensor:
    """Tell of every completion [N] whether it is one of several of its prompt that are all worth the same."""
    _, index, counts = torch.unique(group, return_inverse=True, return_counts=True)
    ends = [
        torch.zeros(len(counts), dtype=score.dtype).scatter_reduce(
            0, index, score.nan_to_num(fill), reduce, include_self=False
        )
        for reduce, fill in (("amin", torch.inf), ("amax", -torch.inf))
    ]
    return ((counts > 1) & (ends[0] >= ends[1]))[index]


def _exactly(values: Tensor, places: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the shortest convex combination of R vectors of advantages over all tokens, and its weights [R]."""
    rows = torch.where(places, values.nan_to_num(0.0), 0.0)
    counted = _spread(sizes, rows)
    flat = (rows * counted.sqrt()).flatten(1)
    weights = least_norm_weights(flat @ flat.T)
    return _sum(values, weights), weights


def _sum(values: Tensor, weights: Tensor) -> Tensor:
    return (values.nan_to_num(0.0) * weights.reshape(-1, *(1,) * (values.ndim - 1))).sum(0)


def _mean(values: Tensor, places: Tensor, sizes: Tensor) -> Tensor:
    """Return each reward's mean over the tokens where it says something, [R]; NaN where it says nothing."""
    known = places & ~values.isnan()
    counted = _spread(sizes, values) * known
    return (values.nan_to_num(0.0) * counted).flatten(1).sum(-1) / counted.flatten(1).sum(-1)


def _spread(sizes: Tensor, values: Tensor) -> Tensor:
    """Return how many tokens each place stands for, in the shape of the values."""
    return sizes.double().reshape(1, -1, *(1,) * (values.ndim - 2)).expand_as(values)


def _told(raw: Tensor, kept: Tensor, weights: Tensor, places: Tensor, names: tuple[str, ...]) -> dict[str, float]:
    here = [values[places] for values in raw]
    up, down = (torch.stack([sign(values) for values in here]).any(0) for sign in (_above, _below))
    lowest = torch.where(kept.isnan(), torch.inf, kept).argmin(0)[places]
    own = weights if weights.ndim == 1 else torch.stack([values[places].mean() for values in weights])
    told = {"conflict": float((up & down).double().mean())}
    for k, name in enumerate(names):
        told |= {f"binding_{name}": float((lowest == k).double().mean()), f"weight_{name}": float(own[k])}
    return told


def _above(values: Tensor) -> Tensor:
    return values > 0


def _below(values: Tensor) -> Tensor:
    return values < 0
