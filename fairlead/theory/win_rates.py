"""How often one distribution over answers beats another, also when each side keeps the best, or the worst, of n draws.

Only the order of answers matters, so an answer stands for its rank: the share of a base policy's answers that it beats,
uniform on [0, 1] under the base itself. A policy is then a density on ranks, whatever the model and the reward. Ties
count half throughout. All in float64, KL in nats.

Source: Balashankar et al. 2024 (arXiv 2412.19792).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from fairlead.errors import UsageError

__all__ = [
    "POINTS",
    "Keep",
    "Ranks",
    "WinRates",
    "finite_win_rate",
    "mean_ranks",
    "mid_ranks",
    "order_weights",
    "sample_win_rate",
    "sorted_chances",
    "tilt_ranks",
    "win_rates",
]

POINTS = 20_001
"""Points of a grid on [0, 1]: integrals by the trapezium rule are then right to 1e-6."""

Keep = Literal["best", "worst"]
"""Which of n draws is kept."""


@dataclass(frozen=True)
class Ranks:
    """A policy as a distribution over the ranks of its answers under a base policy, on an even grid."""

    density: np.ndarray
    """float64 [P]: at 0, 1 / (P - 1), ..., 1; 1 everywhere for the base policy."""
    cdf: np.ndarray
    """float64 [P]: its integral, from 0 to 1."""

    @property
    def grid(self) -> np.ndarray:
        """The ranks, float64 [P]."""
        return np.linspace(0.0, 1.0, len(self.density))

    @property
    def kl(self) -> float:
        """KL of the policy from the base, in nats."""
        from scipy.special import xlogy

        return _integral(xlogy(self.density, self.density))

    def win_rate(self, n: int = 1, base_n: int | None = None, keep: Keep = "best") -> float:
        """Return how often the policy beats the base when it keeps one of `n` draws, and the base one of `base_n`.

        Args:
            n: draws of the policy; 1 for the plain win rate.
            base_n: draws of the base; by default `n`.
            keep: whether both keep the best or the worst.
        """
        base_n = n if base_n is None else base_n
        _check_draws(n, base_n)
        return _RATES[keep](self.grid, self.cdf, n, base_n)

    @classmethod
    def of_cdf(cls, cdf: ArrayLike) -> Ranks:
        """Return the distribution with a cdf [P] on an even grid, P of 2 or more."""
        found = np.asarray(cdf, dtype=np.float64)
        return cls(np.maximum(np.gradient(found, 1.0 / (len(found) - 1)), 0.0), found)


@dataclass(frozen=True)
class WinRates:
    """How a policy fares against its base, as ranks alone tell."""

    n: int
    """Draws of which either side keeps one."""
    kl: float
    """KL from the base, in nats."""
    standard: float
    """Win rate of one draw against one."""
    best: float
    """Win rate of the best of n against the base's best of n."""
    worst: float
    """Win rate of the worst of n against the base's worst of n."""


def tilt_ranks(values: ArrayLike, beta: float) -> Ranks:
    """Return the policy that maximises E[values] - beta KL: its density is proportional to exp(values / beta).

    Args:
        values: the reward at the ranks of an even grid, float64 [P]; minus infinity where there is to be nothing.
        beta: strength of the KL, above 0, in units of the values.
    """
    if not 0 < beta < math.inf:
        raise UsageError(f"beta is {beta}", fix="use a number above 0")
    found = np.asarray(values, dtype=np.float64)
    density = np.exp((found - found.max()) / beta)
    total = _cumulative(density)
    return Ranks(density / total[-1], total / total[-1])


def win_rates(ranks: Ranks, n: int = 4) -> WinRates:
    """Return KL, standard, best-of-n and worst-of-n win rates of a policy."""
    return WinRates(n, ranks.kl, ranks.win_rate(), ranks.win_rate(n), ranks.win_rate(n, keep="worst"))


def mid_ranks(values: ArrayLike, base: ArrayLike) -> np.ndarray:
    """Return for each value the share of the base's values [K] below it, equal ones counting half.

    It is unchanged when any increasing map is applied to all values, and 1/2 on average over the base's own.
    """
    known = np.sort(np.asarray(base, dtype=np.float64))
    if not len(known):
        raise UsageError("there is nothing to rank among", fix="give at least one value of the base")
    found = np.asarray(values, dtype=np.float64)
    return (np.searchsorted(known, found, "left") + np.searchsorted(known, found, "right")) / (2.0 * len(known))


def mean_ranks(values: ArrayLike, base: ArrayLike) -> np.ndarray:
    """Return the rank of each of J outcomes: the chance that the base draws a worse one, and half that of an equal one.

    Args:
        values: reward of each outcome [J].
        base: its probability under the base [J].
    """
    order, below, own = sorted_chances(values, base)
    return (below + own / 2)[order]


def sorted_chances(values: ArrayLike, chances: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sort outcomes by value: each one's place among the distinct values [J], and per distinct value the probability
    of less and its own.
    """
    found, weights = np.asarray(values, dtype=np.float64), np.asarray(chances, dtype=np.float64)
    if found.shape != weights.shape or found.ndim != 1:
        raise UsageError(f"{found.shape} values and {weights.shape} probabilities", fix="give one for each outcome")
    if (weights < 0).any() or not math.isclose(weights.sum(), 1.0, abs_tol=1e-9):
        raise UsageError(f"probabilities that sum to {weights.sum():.6g}", fix="give probabilities of all outcomes")
    distinct, places = np.unique(found, return_inverse=True)
    own = np.bincount(places, weights=weights, minlength=len(distinct))
    return places, np.cumsum(own) - own, own


def finite_win_rate(
    policy: ArrayLike,
    base: ArrayLike,
    values: ArrayLike,
    n: int = 1,
    base_n: int | None = None,
    keep: Keep = "best",
) -> float:
    """Return the win rate of a policy over J outcomes, exactly.

    Args:
        policy: probability of each outcome [J].
        base: its probability under the base [J].
        values: its reward [J]; equal rewards are ties.
        n: draws of which the policy keeps one.
        base_n: draws of which the base keeps one; by default `n`.
        keep: whether the best or the worst.
    """
    base_n = n if base_n is None else base_n
    _check_draws(n, base_n)
    ours, theirs = (
        _of_n(*sorted_chances(values, side)[1:], count, keep) for side, count in ((policy, n), (base, base_n))
    )
    return float(ours @ (np.cumsum(theirs) - theirs / 2))


def order_weights(samples: int, n: int, keep: Keep = "best") -> np.ndarray:
    """Return the chance of each of the sorted samples [M] to be the best, or worst, of n drawn without replacement."""
    if not 1 <= n <= samples:
        raise UsageError(f"the {keep} of {n} among {samples} samples", fix="draw at least n samples on either side")
    return _order_weights(samples, n)[:: -1 if keep == "worst" else 1].copy()


def sample_win_rate(
    policy: ArrayLike, base: ArrayLike, n: int = 1, base_n: int | None = None, keep: Keep = "best"
) -> float:
    """Estimate a win rate without bias from rewards of the policy's samples [A] and of the base's [B].

    Averages over every choice of `n` of A and `base_n` of B samples; see `finite_win_rate` for the arguments.
    """
    base_n = n if base_n is None else base_n
    ours, theirs = (np.sort(np.asarray(side, dtype=np.float64)) for side in (policy, base))
    ranks = np.concatenate(([0.0], np.cumsum(order_weights(len(theirs), base_n, keep))))
    beaten, tied = np.searchsorted(theirs, ours, "left"), np.searchsorted(theirs, ours, "right")
    return float(order_weights(len(ours), n, keep) @ (ranks[beaten] + ranks[tied])) / 2


@lru_cache(maxsize=1024)
def _order_weights(samples: int, n: int) -> np.ndarray:
    every = math.comb(samples, n)
    return np.array([math.comb(i, n - 1) / every for i in range(samples)])


def _of_n(below: np.ndarray, own: np.ndarray, n: int, keep: Keep) -> np.ndarray:
    """Return the probability of each sorted outcome to be the one that is kept of n."""
    if keep == "best":
        return (below + own) ** n - below**n
    above = np.maximum(1.0 - below - own, 0.0)
    return (above + own) ** n - above**n


def _best(grid: np.ndarray, cdf: np.ndarray, n: int, base_n: int) -> float:
    return 1.0 - base_n * _integral(cdf**n * grid ** (base_n - 1))


def _worst(grid: np.ndarray, cdf: np.ndarray, n: int, base_n: int) -> float:
    return base_n * _integral((1.0 - cdf) ** n * (1.0 - grid) ** (base_n - 1))


_RATES: dict[str, Callable[[np.ndarray, np.ndarray, int, int], float]] = {"best": _best, "worst": _worst}


def _integral(values: np.ndarray) -> float:
    return float(np.trapezoid(values, dx=1.0 / (len(values) - 1)))


def _cumulative(values: np.ndarray) -> np.ndarray:
    steps = (values[1:] + values[:-1]) / (2.0 * (len(values) - 1))
    return np.concatenate(([0.0], np.cumsum(steps)))


def _check_draws(*counts: int) -> None:
    for n in counts:
        if n < 1:
            raise UsageError(f"one of {n} draws", fix="use 1 draw or more")
