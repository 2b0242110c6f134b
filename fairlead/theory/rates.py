"""Large deviations of the reward of long answers: cumulants, Renyi cross entropy, rate function.

For answers of n independent symbols of law p and an additive reward, all quantities per symbol. With
L(s) = log sum p exp(s r), the scaled cumulants of the reward under the tilt at alpha are L(alpha + t) - L(alpha), and
the chance that the mean reward is near x falls like exp(-n J(x)). Source: Yang et al. 2024 (arXiv 2404.01730).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from fairlead.errors import UsageError
from fairlead.theory.problems import as_distribution, as_problem, log_sum_exp, root
from fairlead.theory.tilting import tilt

__all__ = ["cumulant", "rate", "renyi_cross_entropy", "scaled_cumulant"]

_TOO_FAR = 1e12


def cumulant(p: ArrayLike, r: ArrayLike, s: float) -> float:
    """Return L(s) = log sum p exp(s r) of distributions and rewards [A]."""
    chances, rewards = as_problem(p, r)
    return log_sum_exp(np.log(chances) + s * rewards)


def scaled_cumulant(p: ArrayLike, r: ArrayLike, alpha: float, t: float) -> float:
    """Return (1/n) log E exp(t r(Y)) under the tilt at alpha, which does not depend on n."""
    return cumulant(p, r, alpha + t) - cumulant(p, r, alpha)


def renyi_cross_entropy(p: ArrayLike, q: ArrayLike, order: float) -> float:
    """Return H_a(p || q) = log(sum p q^(a - 1)) / (1 - a) nats; at order 1 its limit, -sum p log q.

    With r = log q, L(s) = -s H_(1+s)(p || q).
    """
    chances, others = as_distribution(p), as_distribution(q, "q")
    if len(chances) != len(others):
        raise UsageError(f"{len(chances)} and {len(others)} probabilities", fix="give two distributions over one set")
    if not math.isfinite(order):
        raise UsageError(f"the order is {order}", fix="use a finite order")
    logs = np.log(others)
    if abs(order - 1) < 1e-9:
        return -float(chances @ logs)
    return log_sum_exp(np.log(chances) + (order - 1) * logs) / (1 - order)


def rate(p: ArrayLike, r: ArrayLike, alpha: float, x: float) -> float:
    """Return J(x) = sup_t t x - [L(alpha + t) - L(alpha)], nats per symbol: how unlikely a mean reward of x is.

    It is KL(tilt at s || tilt at alpha) for the s whose mean reward is x: 0 at the mean of the tilt at alpha, finite at
    the least and the highest reward, infinite beyond.

    Raises:
        UsageError: probabilities or rewards that cannot be used, or alpha or x that is not finite.
    """
    chances, rewards = as_problem(p, r)
    if not (math.isfinite(alpha) and math.isfinite(x)):
        raise UsageError(f"alpha is {alpha} and x is {x}", fix="use finite numbers")
    low, high = float(rewards.min()), float(rewards.max())
    if not low <= x <= high:
        return math.inf
    here = tilt(chances, rewards, alpha)
    if x in (low, high):
        return max(0.0, -math.log(min(1.0, float(here.phi[rewards == x].sum()))))

    def over(s: float) -> float:
        return tilt(chances, rewards, s).reward - x

    reach = 1.0 / (high - low)
    while over(alpha - reach) > 0 or over(alpha + reach) < 0:
        reach *= 2
        if reach * (high - low) > _TOO_FAR:
            return rate(chances, rewards, alpha, high if x > here.reward else low)
    s = root(over, alpha - reach, alpha + reach)
    log_ratio = (s - alpha) * rewards - (cumulant(chances, rewards, s) - cumulant(chances, rewards, alpha))
    return max(0.0, float(tilt(chances, rewards, s).phi @ log_ratio))
