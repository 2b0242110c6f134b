"""Several rewards as one: their weighted sum, their harmonic mean, or the mean of their z-scores within a prompt.

The last two are how BLEUBERI (Chang et al. 2025, arXiv 2505.11080) joins BLEU with ROUGE-L and with a reward model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from fairlead import catalog
from fairlead.errors import UsageError
from fairlead.messages import Prompt
from fairlead.rewards.base import Reward, Rewards, RewardSpec, check_lengths
from fairlead.rewards.references import prompt_key

__all__ = ["CombinedReward", "harmonic_mean", "z_scores"]


@dataclass(frozen=True)
class CombinedReward:
    """What several rewards come to together; abstains where any of them does."""

    rewards: tuple[RewardSpec, ...]
    """The rewards, two or more: catalog names, or {name, fields...}."""
    weights: tuple[float, ...] = ()
    """One number above 0 per reward; empty for 1 each."""
    how: Literal["sum", "harmonic", "z_scores"] = "sum"
    """sum of weight times value; harmonic, the weighted harmonic mean of values that are 0 or more (0 where one is 0);
    z_scores, the weighted mean of values in standard deviations from the mean of the call's completions to the same
    prompt, for rewards on different scales: every prompt needs two completions or more."""
    epsilon: float = 1e-6
    """Added to every standard deviation of z_scores, in units of the reward."""

    def __post_init__(self) -> None:
        if len(self.rewards) < 2:
            raise UsageError("combined.rewards has fewer than two", fix="name two rewards or more")
        if self.weights and (
            len(self.weights) != len(self.rewards) or not all(0 < weight < math.inf for weight in self.weights)
        ):
            what = f"combined.weights is {list(self.weights)} for {len(self.rewards)} rewards"
            raise UsageError(what, fix="give one number above 0 per reward, or none")
        if not self.epsilon > 0:
            raise UsageError(f"combined.epsilon is {self.epsilon}", fix="use a number above 0")
        _ = self._built

    @cached_property
    def _built(self) -> tuple[Reward, ...]:
        return tuple(catalog.from_spec("reward", spec) for spec in self.rewards)

    def __call__(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> Rewards:
        """Value completion i as an answer to prompt i.

        Raises:
            UsageError: lists of unequal length, a negative value in a harmonic mean, one completion alone of a prompt
                for z_scores.
        """
        check_lengths(prompts, completions)
        values = np.full((len(self._built), len(completions)), np.nan)
        for row, reward in enumerate(self._built):
            found = reward(prompts, completions)
            if len(found) != len(completions):
                what = f"{type(reward).__name__} valued {len(found)} of {len(completions)} completions"
                raise UsageError(what, fix="return one value per completion")
            values[row] = found.values
        weights = np.array(self.weights or (1.0,) * len(values))
        joined = _JOIN[self.how](values, weights, prompts, self.epsilon)
        return Rewards(joined, np.isnan(joined))


def harmonic_mean(values: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the weighted harmonic mean over the first axis of values [K, N] that are 0 or more: 0 where one is 0.

    Raises:
        UsageError: a negative value.
    """
    if (values < 0).any():
        raise UsageError(f"a reward of {np.nanmin(values):g} in a harmonic mean", fix="join these by sum or z_scores")
    shares = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    zero = (values == 0).any(0) & ~np.isnan(values).any(0)
    inverse = (shares[:, None] / np.where(values == 0, 1.0, values)).sum(0)
    return np.where(zero, 0.0, shares.sum() / inverse)


def z_scores(values: np.ndarray, epsilon: float = 1e-6) -> np.ndarray:
    """Return values [N] less their mean, by their standard deviation (n - 1) plus `epsilon`; NaN is left out.

    NaN throughout where fewer than two values are there.
    """
    known = values[~np.isnan(values)]
    if len(known) < 2:
        return np.full(len(values), np.nan)
    return (values - known.mean()) / (known.std(ddof=1) + epsilon)


def _sum(values: np.ndarray, weights: np.ndarray, prompts: Sequence[Prompt], epsilon: float) -> np.ndarray:
    return weights @ values


def _harmonic(values: np.ndarray, weights: np.ndarray, prompts: Sequence[Prompt], epsilon: float) -> np.ndarray:
    return harmonic_mean(values, weights)


def _grouped(values: np.ndarray, weights: np.ndarray, prompts: Sequence[Prompt], epsilon: float) -> np.ndarray:
    groups: dict[Any, list[int]] = {}
    for i, prompt in enumerate(prompts):
        groups.setdefault(prompt_key(prompt), []).append(i)
    scores = np.full_like(values, np.nan)
    for key, members in groups.items():
        if len(members) < 2:
            what = f"one completion alone of the prompt {key[-1][1][:200] if key else ''!r} has no z-score"
            raise UsageError(what, place="combined", fix="draw two or more per prompt, or join by sum")
        # A completion that any reward abstains on is no part of the group for the others either.
        known = ~np.isnan(values[:, members]).any(0)
        inside = np.array(members)[known]
        for row in range(len(values)):
            scores[row, inside] = z_scores(values[row, inside], epsilon)
    return weights @ scores / weights.sum()


_JOIN: dict[str, Callable[[np.ndarray, np.ndarray, Sequence[Prompt], float], np.ndarray]] = {
    "sum": _sum,
    "harmonic": _harmonic,
    "z_scores": _grouped,
}
