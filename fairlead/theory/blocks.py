"""Answers of n independent symbols with an additive reward: the law of their reward, and the best of exp(n delta).

Per symbol the best of exp(n delta) draws comes to the reward of the tilt at delta nats, with a deficit of order
(log n) / n, while (1/n) KL(best of N || tilt) goes to 0. Source: Yang et al. 2024 (arXiv 2404.01730).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fairlead.errors import UsageError
from fairlead.theory.best_of_n import level_masses
from fairlead.theory.problems import Levels, as_problem
from fairlead.theory.tilting import tilt, tilt_at_kl

__all__ = ["BlockBestOfN", "best_of_block", "reward_law"]

_POINTS = 40_000
_STEPS = 4096
_FIT = 1e-6


@dataclass(frozen=True)
class BlockBestOfN:
    """The best of exp(n delta) answers of n symbols; everything per symbol."""

    n: int
    """Symbols of an answer."""
    reward: float
    """Mean reward."""
    kl: float
    """Divergence from the reference in nats."""
    kl_to_tilt: float
    """Divergence from the tilt at delta in nats; NaN where that tilt is the best answers alone."""
    tilt_reward: float
    """What the tilt at delta reaches: the limit of `reward`."""


def reward_law(p: ArrayLike, r: ArrayLike, n: int, *, alpha: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return the rewards that a sum of n symbols can have, ascending [L], and the log of their probabilities [L].

    Exact to rounding, tails included: two levels by the binomial law, more by convolution on their lattice under the
    tilt at `alpha`, which is where the numbers are kept from vanishing; sums that do vanish there are left out.

    Raises:
        UsageError: probabilities or rewards that cannot be used, n below 1, or rewards of three levels or more that lie
            on no lattice coarse enough.
    """
    from scipy import stats

    chances, rewards = as_problem(p, r)
    if n < 1:
        raise UsageError(f"answers of {n} symbols", fix="use 1 or more")
    levels = Levels(chances, rewards)
    worth, mass = levels.value, levels.mass
    if len(worth) == 1:
        return np.array([n * worth[0]]), np.zeros(1)
    if len(worth) == 2:
        k = np.arange(n + 1)
        return n * worth[0] + k * (worth[1] - worth[0]), np.asarray(stats.binom.logpmf(k, n, mass[1]))
    step, places = _lattice(worth)
    if n * int(places[-1]) > _POINTS:
        what = f"{n} symbols on {places[-1]} steps of {step:g}"
        raise UsageError(what, fix=f"use fewer symbols, or rewards on a coarser lattice (n x steps <= {_POINTS:,})")
    tilted = tilt(mass, worth, alpha)
    one = np.zeros(int(places[-1]) + 1)
    one[places] = tilted.phi
    law = _power(one, n)
    kept = law > 0
    sums = n * worth[0] + step * np.flatnonzero(kept)
    return sums, np.log(law[kept]) - alpha * sums + n * tilted.log_partition


def best_of_block(p: ArrayLike, r: ArrayLike, n: int, delta: float) -> BlockBestOfN:
    """Work out the best of exp(n delta) answers of n symbols of law p [A] with rewards r [A].

    Raises:
        UsageError: as `reward_law`, or a delta that is negative or not finite.
    """
    if not 0 <= delta < math.inf:
        raise UsageError(f"delta is {delta}", fix="use nats per symbol from 0")
    ideal = tilt_at_kl(p, r, delta)
    finite = math.isfinite(ideal.alpha)
    alpha = ideal.alpha if finite else 0.0
    sums, log_mass = reward_law(p, r, n, alpha=alpha)
    log_m = level_masses(log_mass, n * delta)
    kept = log_m > -np.inf
    m, log_ratio = np.exp(log_m[kept]), (log_m - log_mass)[kept]
    kl = float(m @ log_ratio)
    to_tilt = math.nan
    if finite:
        to_tilt = max(0.0, float(m @ (log_ratio - alpha * sums[kept] + n * ideal.log_partition)))
    return BlockBestOfN(n, float(m @ sums[kept]) / n, max(0.0, kl) / n, to_tilt / n, ideal.reward)


def _lattice(worth: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the step and the places [L] of ascending rewards."""
    off = worth - worth[0]
    for parts in range(1, _STEPS + 1):
        step = off[1] / parts
        places = off / step
        if (np.abs(places - np.rint(places)) < _FIT).all():
            whole = np.rint(places).astype(np.int64)
            return float(off[-1] / whole[-1]), whole
    raise UsageError("the rewards lie on no lattice", fix="round them to multiples of one step")


def _power(one: np.ndarray, n: int) -> np.ndarray:
    """Return the n-fold convolution of a law; sums of positive terms, so every term is right to rounding."""
    found, square = np.ones(1), one
    while True:
        if n & 1:
            found = np.convolve(found, square)
        n >>= 1
        if not n:
            return found
        square = np.convolve(square, square)
