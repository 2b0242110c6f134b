"""The best of N draws, exactly: its distribution, reward, divergence and win rate on a finite set of answers.

With F_j the mass of all answers up to reward level j, the best of N independent draws has level j with probability
m_j = F_j^N - F_(j-1)^N; ties are broken evenly among the tied draws, so within a level it is the reference. N need not
be whole. Sources: Yang et al. 2024 (arXiv 2404.01730); Beirami et al. 2024 (arXiv 2401.01879) for bound and estimator.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fairlead.errors import UsageError
from fairlead.theory.problems import Levels, as_problem, root
from fairlead.theory.tilting import Frontier, Tilt, excess, largest_kl, tilt_at_kl

__all__ = [
    "BestOfN",
    "Efficiency",
    "best_of_n",
    "best_of_n_frontier",
    "draws_at_kl",
    "efficiency",
    "kl_bound",
    "kl_from_mass",
    "level_masses",
]

_COMPLETE = 1e-9
"""Mass that may be missing by rounding alone."""


@dataclass(frozen=True)
class BestOfN:
    """The best of N draws."""

    n: float
    """Draws."""
    phi: np.ndarray
    """Probabilities of the answers [A]."""
    reward: float
    """Mean reward."""
    kl: float
    """Divergence from the reference in nats."""
    kl_bound: float
    """log N - (N - 1) / N, which it never exceeds, and reaches only where no two answers tie."""
    win_rate: float
    """Chance to beat one fresh draw, a tie counting half; at most N / (N + 1)."""


@dataclass(frozen=True)
class Efficiency:
    """The best of N beside the tilt of the same KL."""

    best: BestOfN
    """The best of N."""
    tilt: Tilt
    """The best that is possible at its KL."""
    ratio: float
    """Its gain over the reference, as a share of the tilt's; NaN where there is nothing to gain."""
    gap: float
    """The reward that it leaves lying; nats of distance from the tilt, divided by alpha."""


def best_of_n(p: ArrayLike, r: ArrayLike, n: float) -> BestOfN:
    """Work out the best of N draws from p [A] by rewards r [A].

    Raises:
        UsageError: probabilities or rewards that cannot be used, or fewer than one draw.
    """
    chances, rewards = as_problem(p, r)
    _check(n)
    return _best(chances, rewards, Levels(chances, rewards), float(n))


def best_of_n_frontier(p: ArrayLike, r: ArrayLike, ns: ArrayLike) -> Frontier:
    """Return KL and reward of the best of N for every N [K]; answers are sorted once."""
    chances, rewards = as_problem(p, r)
    along = np.atleast_1d(np.asarray(ns, dtype=np.float64))
    for n in along:
        _check(float(n))
    levels = Levels(chances, rewards)
    log_mass = np.log(levels.mass)
    below, upward = _log_cumulative(log_mass)
    found = [_masses(log_mass, below, upward, math.log(n)) for n in along]
    reward = np.array([float(np.exp(log_m) @ levels.value) for log_m in found])
    return Frontier(along, np.array([_divergence(log_m, log_mass) for log_m in found]), reward)


def level_masses(log_mass: np.ndarray, log_n: float) -> np.ndarray:
    """Return log m_j [L], the chance that the best of exp(log_n) draws has level j.

    Args:
        log_mass: log of what each level weighs [L], lowest level first; they may sum to less than 1, and what is
            missing then lies below them all.
        log_n: log of the draws, from 0; it may be in the thousands.
    """
    return _masses(log_mass, *_log_cumulative(log_mass), log_n)


def _masses(log_mass: np.ndarray, below: np.ndarray, upward: np.ndarray, log_n: float) -> np.ndarray:
    """Return log m_j [L] from log p_j, log F_(j-1) and log F_j."""
    # N log F_j = -exp(log_n + log(-log F_j)), and log F_j - log F_(j-1) = log(1 + p_j / F_(j-1)) without cancellation.
    with np.errstate(divide="ignore", over="ignore", under="ignore"):
        lost = np.exp(log_n + np.log(-upward))
        step = np.exp(log_n + np.log(np.logaddexp(0.0, log_mass - below)))
        return -lost + np.log(-np.expm1(-step))


def kl_bound(n: ArrayLike) -> np.ndarray:
    """Return log N - (N - 1) / N nats, which the best of N draws never exceeds; shaped as `n`, a scalar for one.

    Raises:
        UsageError: fewer than one draw.
    """
    draws = np.asarray(n, dtype=np.float64)
    if not (draws >= 1).all():
        raise UsageError(f"the best of {n} draws", fix="give 1 draw or more")
    return np.log(draws) - (draws - 1) / draws


def kl_from_mass(mass: ArrayLike, n: float) -> np.ndarray:
    """Estimate the KL of the best of N in nats from the probability of the answer that was chosen.

    Exact where that answer is the only one with weight and the others are without number; 0 at mass 1, `kl_bound` at 0.

    Args:
        mass: p(chosen answer), in [0, 1]; for a model exp of its summed log-probs, averaged over prompts afterwards.
        n: draws, from 1.
    """
    eps = np.asarray(mass, dtype=np.float64)
    _check(n)
    if not ((eps >= 0) & (eps <= 1)).all():
        raise UsageError("the mass of an answer is not in [0, 1]", fix="give probabilities: exp of summed log-probs")
    with np.errstate(divide="ignore", invalid="ignore"):
        none = n * np.log1p(-eps)  # log of the chance that no draw is the answer
        others = np.exp(none) * (math.log(n) + (n - 1) * np.log1p(-eps) - (n - 1) / n)
        own = -np.expm1(none) * np.log(-np.expm1(none) / eps)
    found = np.where(eps >= 1, 0.0, others) + np.where(eps > 0, own, 0.0)
    return np.maximum(found, 0.0)[()]


def draws_at_kl(p: ArrayLike, r: ArrayLike, kl: float) -> float:
    """Return the real N whose best of N is `kl` nats away from the reference; infinite from `largest_kl` on.

    Raises:
        UsageError: as `best_of_n`, or a KL that is negative or NaN.
    """
    chances, rewards = as_problem(p, r)
    if not kl >= 0:
        raise UsageError(f"a KL of {kl}", fix="use nats from 0")
    if kl == 0:
        return 1.0
    if kl >= largest_kl(chances, rewards):
        return math.inf
    log_mass = np.log(Levels(chances, rewards).mass)

    def over(log_n: float) -> float:
        log_m = level_masses(log_mass, log_n)
        return _divergence(log_m, log_mass) - kl

    high = 1.0
    while over(high) < 0:
        high *= 2
        if high > 1e4:
            return math.inf
    log_n = root(over, 0.0, high)
    return math.exp(log_n) if log_n < 700 else math.inf


def efficiency(p: ArrayLike, r: ArrayLike, n: float) -> Efficiency:
    """Compare the best of N with the tilt of the same KL, which gains at least as much."""
    best = best_of_n(p, r, n)
    start = float(np.dot(*as_problem(p, r)))
    ideal = tilt_at_kl(p, r, best.kl)
    possible = ideal.reward - start
    ratio = (best.reward - start) / possible if best.kl > 0 and possible > 0 else math.nan
    if 0 < ideal.alpha < math.inf:
        gap = max(0.0, excess(best.kl, best.reward, ideal)) / ideal.alpha
    else:
        gap = max(0.0, ideal.reward - best.reward)
    return Efficiency(best, ideal, ratio, gap)


def _best(p: np.ndarray, r: np.ndarray, levels: Levels, n: float) -> BestOfN:
    log_mass = np.log(levels.mass)
    log_m = level_masses(log_mass, math.log(n))
    mass = np.exp(log_m)
    phi = mass[levels.index] * p / levels.mass[levels.index]
    up_to = np.cumsum(levels.mass)
    win = float(mass @ (up_to - 0.5 * levels.mass))
    kl = _divergence(log_m, log_mass)
    return BestOfN(n, phi, float(phi @ r), kl, float(kl_bound(n)), win)


def _divergence(log_m: np.ndarray, log_mass: np.ndarray) -> float:
    kept = log_m > -np.inf
    return max(0.0, float((np.exp(log_m[kept]) * (log_m[kept] - log_mass[kept])).sum()))


def _log_cumulative(log_mass: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return log F below and log F up to each level [L], each from the side on which it is small."""
    tail = np.concatenate([np.logaddexp.accumulate(log_mass[::-1])[::-1], [-np.inf]])  # from level j on
    missing = -math.expm1(min(0.0, float(tail[0])))
    start = math.log(missing) if missing > _COMPLETE else -math.inf
    forward = np.logaddexp.accumulate(np.concatenate([[start], log_mass]))
    from_above = np.log1p(-np.exp(np.minimum(tail, -math.log(2))))
    found = np.where(tail < -math.log(2), from_above, np.minimum(forward, 0.0))
    return found[:-1], found[1:]


def _check(n: float) -> None:
    if not 1 <= n < math.inf:
        raise UsageError(f"the best of {n} draws", fix="give 1 draw or more")
