"""The best that a policy can do at a given distance from its reference: the exponential tilt.

    tilt_a(y) = p(y) exp(a r(y)) / exp(L(a)),    L(a) = log sum_y p(y) exp(a r(y)),    a = 1 / beta

maximises E r - beta KL(. || p). Its reward is L'(a), its variance of reward L''(a), its KL a L'(a) - L(a), in nats.
Source: Yang et al. 2024, "Asymptotics of Language Model Alignment" (arXiv 2404.01730).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fairlead.errors import UsageError
from fairlead.theory.problems import as_distribution, as_problem, log_sum_exp, relative_entropy, root

__all__ = [
    "Frontier",
    "Tilt",
    "distance_from_tilt",
    "excess",
    "largest_kl",
    "mismatched_tilt",
    "small_alpha",
    "tilt",
    "tilt_at_kl",
    "tilt_frontier",
]

_ROUNDING = 1e-13
_SO_LARGE = 1e18
"""Alpha times the spread of rewards from which a tilt is the best answers alone, to rounding."""


@dataclass(frozen=True)
class Tilt:
    """An exponential tilt of a reference."""

    alpha: float
    """1 / beta, per unit of reward: also the price of reward in nats, dKL / dE r. Infinite: only the best answers."""
    phi: np.ndarray
    """Its probabilities [A]."""
    reward: float
    """Its mean reward."""
    kl: float
    """Its divergence from the reference in nats."""
    log_partition: float
    """L(alpha); infinite where alpha is."""
    variance: float
    """Its variance of reward."""


@dataclass(frozen=True)
class Frontier:
    """KL and reward along a family of policies."""

    along: np.ndarray
    """What grows: alpha, or N [K]."""
    kl: np.ndarray
    """Nats [K]."""
    reward: np.ndarray
    """Mean reward [K]."""


def tilt(p: ArrayLike, r: ArrayLike, alpha: float) -> Tilt:
    """Tilt the reference p [A] by rewards r [A]; a negative alpha seeks low rewards, an infinite one the best alone.

    Raises:
        UsageError: probabilities or rewards that cannot be used, or alpha is NaN or minus infinity.
    """
    chances, rewards = as_problem(p, r)
    if math.isnan(alpha) or alpha == -math.inf:
        raise UsageError(f"alpha is {alpha}", fix="use a finite number, or inf for the best answers alone")
    return _tilt(chances, rewards, alpha)


def tilt_at_kl(p: ArrayLike, r: ArrayLike, kl: float) -> Tilt:
    """Return the policy of the highest mean reward within `kl` nats of the reference.

    It is the tilt with exactly that KL; from `largest_kl` on it is the reference restricted to its best answers.

    Raises:
        UsageError: as `tilt`, or a KL that is negative or NaN.
    """
    chances, rewards = as_problem(p, r)
    if not kl >= 0:
        raise UsageError(f"a KL of {kl}", fix="use nats from 0")
    if kl >= largest_kl(chances, rewards):
        return _tilt(chances, rewards, math.inf)
    if kl < _ROUNDING:
        return _tilt(chances, rewards, math.sqrt(2 * kl / _tilt(chances, rewards, 0.0).variance))

    def over(alpha: float) -> float:
        return _tilt(chances, rewards, alpha).kl - kl

    spread = float(np.ptp(rewards))
    high = 1.0 / spread
    while over(high) < 0:
        high *= 2
        if high * spread > _SO_LARGE:
            return _tilt(chances, rewards, math.inf)
    return _tilt(chances, rewards, root(over, 0.0, high))


def largest_kl(p: ArrayLike, r: ArrayLike) -> float:
    """Return -log p(best answers): no policy needs more nats, for the reward cannot rise any further."""
    chances, rewards = as_problem(p, r)
    return max(0.0, -math.log(min(1.0, float(chances[_best(rewards)].sum()))))


def tilt_frontier(p: ArrayLike, r: ArrayLike, alphas: ArrayLike) -> Frontier:
    """Return KL and reward of the tilts at alphas [K]."""
    chances, rewards = as_problem(p, r)
    along = np.atleast_1d(np.asarray(alphas, dtype=np.float64))
    found = [_tilt(chances, rewards, float(alpha)) for alpha in along]
    return Frontier(along, np.array([one.kl for one in found]), np.array([one.reward for one in found]))


def mismatched_tilt(p: ArrayLike, q: ArrayLike, alpha: float) -> Tilt:
    """Tilt p [A] by r = log q of another distribution q [A]: p q^alpha, normalised; q itself for uniform p, alpha 1."""
    return tilt(p, np.log(as_distribution(q, "q")), alpha)


def distance_from_tilt(p: ArrayLike, r: ArrayLike, phi: ArrayLike, alpha: float) -> float:
    """Return KL(phi || tilt) in nats of a policy phi [A]; see `excess` for the same from two numbers."""
    return relative_entropy(phi, tilt(p, r, alpha).phi)


def excess(kl: float, reward: float, against: Tilt) -> float:
    """Return the nats by which any policy with this KL and mean reward is away from a tilt of finite alpha.

    Exactly KL(phi || tilt) = KL(phi || p) - KL(tilt || p) + alpha (E_tilt r - E_phi r), whatever phi is: at equal KL,
    alpha times the reward that it leaves lying.
    """
    if not math.isfinite(against.alpha):
        raise UsageError("the tilt has an infinite alpha", fix="compare at a KL below `largest_kl`")
    return kl - against.kl + against.alpha * (against.reward - reward)


def small_alpha(p: ArrayLike, r: ArrayLike, alpha: float) -> tuple[float, float]:
    """Return reward and KL of a tilt to the leading order in alpha: E r + alpha Var r and alpha^2 Var r / 2.

    Hence gain = sqrt(2 KL Var r), the square-root law of plots of reward over KL.
    """
    chances, rewards = as_problem(p, r)
    mean = float(chances @ rewards)
    variance = float(chances @ (rewards - mean) ** 2)
    return mean + alpha * variance, alpha**2 * variance / 2


def _tilt(p: np.ndarray, r: np.ndarray, alpha: float) -> Tilt:
    if math.isinf(alpha):
        best = _best(r)
        phi = np.where(best, p, 0.0)
        kl = -math.log(min(1.0, float(phi.sum())))
        return Tilt(alpha, phi / phi.sum(), float(r.max()), max(0.0, kl), math.inf, 0.0)
    top = float(r.max() if alpha >= 0 else r.min())  # from here nothing overflows, and no two large numbers cancel
    raised = alpha * (r - top)
    spread = log_sum_exp(np.log(p) + raised)
    phi = p * np.exp(raised - spread)
    phi /= phi.sum()
    off = float(phi @ (r - top))
    variance = float(phi @ (r - top - off) ** 2)
    return Tilt(alpha, phi, top + off, max(0.0, alpha * off - spread), spread + alpha * top, variance)


def _best(r: np.ndarray) -> np.ndarray:
    return r >= r.max() - 1e-9 * np.abs(r).max(initial=0.0)
