"""What to make of ranks before training on them, so that KL-regularised training maximises an inference-time win rate.

A transform maps the rank of an answer under the base policy to a reward. Trained against KL, the policy becomes the
tilt of the base by exp(transform / beta): `fairlead.theory.win_rates` tells how often that wins. The best transform of
best-of-n depends on the policy that it leads to; `fixed_point` solves for both.

Source: Balashankar et al. 2024 (arXiv 2412.19792), theorem 1 and section 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import cast

import numpy as np
from numpy.typing import ArrayLike

from fairlead.errors import UnknownNameError, UsageError
from fairlead.theory.win_rates import POINTS, Keep, Ranks, WinRates, tilt_ranks, win_rates

__all__ = ["KINDS", "Transform", "fixed_point", "matched", "trace"]

_DAMPING = 0.1
_ITERATIONS = 600
_SETTLED = 1e-12


@dataclass(frozen=True)
class Transform:
    """A map from ranks in [0, 1] to rewards."""

    kind: str = "exp"
    """One of `KINDS`: identity (u), log, exp (e^(t u)), neg_exp (-e^(-t u)), or best_of_n and worst_of_n, the optimal
    ones for a beta."""
    sharpness: float = 10.0
    """t of exp and neg_exp."""
    n: int = 4
    """Draws of best_of_n and worst_of_n."""
    beta: float | None = None
    """Strength of the KL for which best_of_n and worst_of_n are optimal, in the transform's own units."""
    least: float = 0.0
    """Ranks below this count as this; log needs it above 0 to be bounded."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UnknownNameError("transform", self.kind, KINDS, place="transform")
        if not 0 < self.sharpness <= 500:
            raise UsageError(f"sharpness is {self.sharpness}", fix="use a number above 0, such as 10, and at most 500")
        if self.n < 1:
            raise UsageError(f"n is {self.n}", fix="use 1 draw or more")
        if not 0 <= self.least < 1:
            raise UsageError(f"least is {self.least}", fix="use a rank from 0 on, below 1")
        if self.kind in _COUPLED and self.beta is None:
            raise UsageError(f"the transform {self.kind} depends on beta", fix="give beta: the KL's strength")
        if self.beta is not None and not 0 < self.beta < math.inf:
            raise UsageError(f"beta is {self.beta}", fix="use a number above 0")

    def __call__(self, ranks: ArrayLike) -> np.ndarray:
        """Return the rewards of ranks, float64 of their shape, as the formulas give them."""
        return _MAPS[self.kind](self, np.maximum(np.asarray(ranks, dtype=np.float64), self.least))

    @property
    def width(self) -> float:
        """The greatest reward less the least: a beta for `normalised` rewards is a beta for these divided by it."""
        low, high = (float(value) for value in self(np.array([0.0, 1.0])))
        return high - low

    def normalised(self, ranks: ArrayLike) -> np.ndarray:
        """Return the rewards moved and scaled to lie between 0 and 1.

        Raises:
            UsageError: a log that is not bounded.
        """
        low, high = self(np.array([0.0, 1.0]))
        if not np.isfinite(low):
            raise UsageError("log has no least value", fix="set least, such as 1 / (2 K) for K rollouts")
        return (self(ranks) - low) / (high - low)

    def ranks(self, beta: float | None = None, points: int = POINTS) -> Ranks:
        """Return the policy that training on it leads to, on a grid of so many points.

        Args:
            beta: strength of the KL in the transform's own units; by default that for which it is optimal.
            points: how fine.
        """
        chosen = self.beta if beta is None else beta
        if chosen is None:
            raise UsageError("a policy depends on beta", fix="give beta: the KL's strength")
        if self.kind in _COUPLED and chosen == self.beta:
            return fixed_point(self.n, chosen, _COUPLED[self.kind], points=points)
        return tilt_ranks(self(np.linspace(0.0, 1.0, points)), chosen)


def fixed_point(n: int, beta: float, keep: Keep = "best", base_n: int | None = None, points: int = POINTS) -> Ranks:
    """Return the policy that maximises the win rate of its best (or worst) of n, less beta times KL.

    Damped iteration of density = tilt of the win rate's own derivative, until it no longer moves.

    Args:
        n: draws of which the policy keeps one.
        beta: strength of the KL, per unit of win rate.
        keep: whether the best or the worst is kept.
        base_n: draws of which the base keeps one; by default `n`.
        points: points of the grid.

    Raises:
        UsageError: a beta so small that the grid is too coarse for it, or that the iteration does not settle.
    """
    base_n = n if base_n is None else base_n
    if not n * base_n <= beta * (points - 1):
        least = n * base_n / (points - 1)
        raise UsageError(
            f"beta {beta} is too small for {points} points", fix=f"use {least:.2g} or more, or more points"
        )
    cdf, moved = np.linspace(0.0, 1.0, points), math.inf
    for _ in range(_ITERATIONS):
        found = tilt_ranks(_derivative(cdf, n, base_n, keep), beta)
        moved = float(np.abs(found.cdf - cdf).max())
        cdf = (1.0 - _DAMPING) * cdf + _DAMPING * found.cdf
        if moved < _SETTLED:
            break
    if moved > 1e-6:
        raise UsageError(f"no fixed point was found for beta {beta}: still moving by {moved:.1g}", fix="raise beta")
    return tilt_ranks(_derivative(cdf, n, base_n, keep), beta)


def matched(transform: Transform, kl: float, points: int = POINTS) -> tuple[Transform, float]:
    """Return the transform and the beta, in its own units, whose policy has so much KL (nats) from the base.

    The optimal transforms change with beta; they come back as they are for the beta that was found.

    Raises:
        UsageError: more KL than the grid can hold, or none.
    """
    from scipy.optimize import brentq

    if not 0 < kl < math.log(points) - 2:
        raise UsageError(f"a KL of {kl} nats", fix=f"use one above 0 and below {math.log(points) - 2:.1f}")
    coupled = transform.kind in _COUPLED

    def excess(log_beta: float, fine: int) -> float:
        beta = math.exp(log_beta)
        return (replace(transform, beta=beta) if coupled else transform).ranks(beta, fine).kl - kl

    scale = 0.0 if coupled or transform.kind == "log" else math.log(transform.width)
    coarse = points if coupled and transform.n**2 > 0.01 * min(points, 2001) else min(points, 2001)
    low, high = scale + math.log(_least(transform, coarse)), scale + math.log(1e3)
    if excess(low, coarse) < 0:
        raise UsageError(f"{transform.kind} cannot reach a KL of {kl} nats", fix="use less")
    middle = cast(float, brentq(excess, low, high, args=(coarse,), xtol=1e-4))
    found = cast(float, brentq(excess, middle - 0.01, middle + 0.01, args=(points,), xtol=1e-7))
    beta = math.exp(found)
    return (replace(transform, beta=beta) if coupled else transform), beta


def trace(transform: Transform, n: int = 4, most: float = 2.0, steps: int = 24, points: int = 2001) -> list[WinRates]:
    """Return the win rates of a transform's policies on their way from the base up to a KL of `most` nats.

    Args:
        transform: one whose beta does not matter: it is swept.
        n: draws of which either side keeps one.
        most: the greatest KL, in nats; less where the grid is too coarse for it.
        steps: how many policies behind the base itself.
        points: points of the grid.
    """
    coupled = transform.kind in _COUPLED
    scale = 1.0 if coupled or transform.kind == "log" else transform.width
    try:
        _, last = matched(transform, most, points)
    except UsageError:
        last = scale * _least(transform, points)
    weak = max(5.0 * last, 20.0 * scale)
    found = [win_rates(Ranks.of_cdf(np.linspace(0.0, 1.0, points)), n)]
    for beta in np.geomspace(weak, last, steps):
        told = replace(transform, beta=float(beta)) if coupled else transform
        found.append(win_rates(told.ranks(float(beta), points), n))
    return found


def _least(transform: Transform, points: int) -> float:
    """Return the least beta, in units of the width, that a grid can hold."""
    return 1.01 * transform.n**2 / (points - 1) if transform.kind in _COUPLED else 1e-6


def _derivative(cdf: np.ndarray, n: int, base_n: int, keep: Keep) -> np.ndarray:
    """Return the derivative of a win rate by the policy's density, 0 at the highest rank: float64 [P]."""
    grid = np.linspace(0.0, 1.0, len(cdf))
    sides = (cdf, grid) if keep == "best" else (1.0 - cdf, 1.0 - grid)
    slope = n * base_n * sides[0] ** (n - 1) * sides[1] ** (base_n - 1)
    steps = (slope[1:] + slope[:-1]) / (2.0 * (len(cdf) - 1))
    return np.concatenate((-np.cumsum(steps[::-1])[::-1], [0.0]))


@lru_cache(maxsize=256)
def _coupled_map(kind: str, n: int, beta: float) -> np.ndarray:
    keep = _COUPLED[kind]
    return _derivative(fixed_point(n, beta, keep).cdf, n, n, keep)


def _coupled(transform: Transform, ranks: np.ndarray) -> np.ndarray:
    assert transform.beta is not None
    values = _coupled_map(transform.kind, transform.n, transform.beta)
    return np.interp(ranks, np.linspace(0.0, 1.0, len(values)), values)


def _log(_: Transform, ranks: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(ranks)


_COUPLED: dict[str, Keep] = {"best_of_n": "best", "worst_of_n": "worst"}

_MAPS: dict[str, Callable[[Transform, np.ndarray], np.ndarray]] = {
    "identity": lambda _, ranks: ranks,
    "log": _log,
    "exp": lambda transform, ranks: np.exp(transform.sharpness * ranks),
    "neg_exp": lambda transform, ranks: -np.exp(-transform.sharpness * ranks),
    **dict.fromkeys(_COUPLED, _coupled),
}

KINDS = tuple(_MAPS)
"""The transforms by name."""
