"""What every calculation starts from: a finite set of answers with probabilities, and what each is worth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fairlead.errors import UsageError

__all__ = ["Levels", "as_distribution", "as_problem", "log_sum_exp", "relative_entropy", "root"]

_SUM = 1e-6
_NOISE = 1e-9


def as_distribution(p: ArrayLike, what: str = "p") -> np.ndarray:
    """Return probabilities, float64 [A], divided by their sum.

    Raises:
        UsageError: none, not finite, not above 0, or a sum that is off 1 by more than 1e-6.
    """
    found = _vector(p, what)
    if not (found > 0).all():
        place = int(np.flatnonzero(~(found > 0))[0])
        fix = "leave out answers that are never given"
        raise UsageError(f"{what}[{place}] is {found[place]:g}, not a probability above 0", fix=fix)
    total = float(found.sum())
    if abs(total - 1) > _SUM:
        raise UsageError(f"{what} sums to {total:g}", fix="give probabilities that sum to 1")
    return found / total


def as_problem(p: ArrayLike, r: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities and rewards, float64 [A] each.

    Raises:
        UsageError: as `as_distribution`; rewards that are not finite, or not one per probability.
    """
    chances, rewards = as_distribution(p), _vector(r, "r")
    if len(chances) != len(rewards):
        raise UsageError(f"{len(chances)} probabilities and {len(rewards)} rewards", fix="give one reward per answer")
    return chances, rewards


class Levels:
    """Answers [A] of positive mass gathered by what they are worth, lowest first [L].

    Rewards within 1e-9 of the largest size are one level: sums of the same terms in another order differ in their last
    digits, and as levels of their own they would break ties in an arbitrary order.
    """

    def __init__(self, mass: ArrayLike, values: ArrayLike):
        masses, worth = np.asarray(mass, dtype=np.float64), np.asarray(values, dtype=np.float64)
        order = np.argsort(worth, kind="stable")
        apart = np.diff(worth[order]) > _NOISE * np.abs(worth).max(initial=0.0)
        found = np.concatenate([[0], np.cumsum(apart)])
        self.index: np.ndarray = np.empty(len(worth), dtype=np.int64)
        """Level of every answer [A]."""
        self.index[order] = found
        count = int(found[-1]) + 1
        self.mass: np.ndarray = np.bincount(self.index, masses, count)
        """What the answers of each level weigh together [L]."""
        self.value: np.ndarray = worth[order][np.concatenate([[True], apart])]
        """Reward of each level [L]."""


def log_sum_exp(values: np.ndarray) -> float:
    """Return log sum exp of [A] without overflow; -inf of nothing."""
    top = float(values.max(initial=-np.inf))
    return top if not np.isfinite(top) else top + float(np.log(np.exp(values - top).sum()))


def relative_entropy(phi: ArrayLike, p: ArrayLike) -> float:
    """Return KL(phi || p) in nats of distributions [A]; infinite where phi gives what p does not.

    Raises:
        UsageError: of unequal length, or not distributions (zeros are allowed in both).
    """
    above, below = (_with_zeros(given, what) for given, what in ((phi, "phi"), (p, "p")))
    if len(above) != len(below):
        raise UsageError(f"{len(above)} and {len(below)} probabilities", fix="give two distributions over one set")
    kept = above > 0
    if (below[kept] <= 0).any():
        return float("inf")
    return max(0.0, float((above[kept] * np.log(above[kept] / below[kept])).sum()))


def root(over: Callable[[float], float], low: float, high: float) -> float:
    """Return where an increasing function, negative at `low` and positive at `high`, crosses 0, to rounding."""
    from scipy.optimize import root_scalar

    reach = max(abs(low), abs(high))
    found: Any = root_scalar(over, bracket=(low, high), method="brentq", xtol=1e-15 * reach, rtol=1e-14)
    return float(found.root)


def _with_zeros(given: ArrayLike, what: str) -> np.ndarray:
    found = _vector(given, what)
    if (found < 0).any() or abs(float(found.sum()) - 1) > _SUM:
        raise UsageError(f"{what} is no distribution (sum {found.sum():g})", fix="give probabilities that sum to 1")
    return found


def _vector(given: Any, what: str) -> np.ndarray:
    found = np.asarray(given, dtype=np.float64)
    if found.ndim != 1 or len(found) == 0:
        raise UsageError(f"{what} has the shape {found.shape}", fix="give a list of one number or more")
    if not np.isfinite(found).all():
        place = int(np.flatnonzero(~np.isfinite(found))[0])
        raise UsageError(f"{what}[{place}] is {found[place]}", fix="give finite numbers")
    return found
