"""Win rates from verdicts. A verdict is a number of points: 1 the answer won, 0 it lost, .5 a tie, NaN no verdict.

A judge that is not sure may give any number between. Points are always those of one side, mostly of the model that is
compared with a baseline; those of the other side are 1 - points.

Sources: AlpacaEval (Dubois et al. 2023, arXiv 2305.14387) for the win rate, its standard error and the discrete win
rate; McNemar 1947 (Psychometrika 12:153) for two models on the same prompts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fairlead.errors import DataError, UsageError
from fairlead.estimates import Estimate, estimate_rate

__all__ = [
    "WinRateResult",
    "as_points",
    "both_orders",
    "check_confidence",
    "mcnemar",
    "points_of_preferences",
    "win_rate",
]


@dataclass(frozen=True)
class WinRateResult:
    """How often one side won; rates are shares in [0, 1] (AlpacaEval prints them times 100)."""

    rate: Estimate
    """Mean points, with a bootstrap interval (Wilson's where there is no tie)."""
    standard_error: float
    """Standard deviation of the points (n - 1) over the square root of n; NaN below two verdicts."""
    discrete: Estimate
    """Mean after rounding every verdict to win, tie (exactly .5) or loss."""
    wins: int
    """Verdicts above .5."""
    losses: int
    """Verdicts below .5."""
    draws: int
    """Verdicts of exactly .5."""
    missing: int
    """Comparisons without a verdict; they are in none of the other numbers."""

    @property
    def n(self) -> int:
        """Verdicts that count."""
        return self.wins + self.losses + self.draws


def win_rate(points: ArrayLike, *, confidence: float = 0.95, seed: int = 0) -> WinRateResult:
    """Summarise verdicts, points [N] in [0, 1] with NaN where there is none; the order of the items does not matter.

    Raises:
        DataError: points outside [0, 1].
    """
    found = as_points(points)
    kept = np.sort(found[~np.isnan(found)])
    options = {"confidence": confidence, "seed": seed}
    return WinRateResult(
        rate=estimate_rate(kept, **options),
        standard_error=float(kept.std(ddof=1)) / math.sqrt(len(kept)) if len(kept) > 1 else math.nan,
        discrete=estimate_rate(np.where(kept == 0.5, 0.5, kept > 0.5), **options),
        wins=int((kept > 0.5).sum()),
        losses=int((kept < 0.5).sum()),
        draws=int((kept == 0.5).sum()),
        missing=int(np.isnan(found).sum()),
    )


def as_points(values: ArrayLike) -> np.ndarray:
    """Return points as float64, None as NaN, in the shape they had.

    Raises:
        DataError: a value outside [0, 1].
    """
    found = np.asarray(values, dtype=np.float64)
    bad = np.flatnonzero(~np.isnan(found) & ~((found >= 0) & (found <= 1)))
    if len(bad):
        what = f"{found.ravel()[bad[0]]:g} points are no verdict"
        raise DataError(what, place=f"verdict {bad[0]}", fix="1 is a win, 0 a loss, .5 a tie, NaN no verdict")
    return found


def check_confidence(confidence: float) -> None:
    """Raise a UsageError unless `confidence` can be the coverage of an interval."""
    if not 0 < confidence < 1:
        raise UsageError(f"confidence is {confidence}", fix="use a share between 0 and 1, such as 0.95")


def points_of_preferences(preferences: ArrayLike) -> np.ndarray:
    """Turn AlpacaEval's preferences into points of the second answer: 1 first, 2 second, 1.5 or 0 a tie, None NaN.

    Raises:
        DataError: a value that is neither 0 nor in [1, 2].
    """
    found = np.asarray(preferences, dtype=np.float64)
    found = np.where(found == 0, 1.5, found)
    bad = np.flatnonzero(~np.isnan(found) & ~((found >= 1) & (found <= 2)))
    if len(bad):
        what = f"a preference of {found.ravel()[bad[0]]:g}"
        raise DataError(what, place=f"verdict {bad[0]}", fix="use 1 (first), 2 (second), between, or 0 for a tie")
    return found - 1


def both_orders(straight: ArrayLike, swapped: ArrayLike) -> np.ndarray:
    """Join the two orders of every comparison, points [N] of the same side in both: their mean.

    That side was shown second in one order and first in the other, so a judge's taste for a place cancels. NaN where
    either order has no verdict.
    """
    one, two = as_points(straight), as_points(swapped)
    if one.shape != two.shape:
        raise UsageError(f"{one.shape} verdicts in one order, {two.shape} in the other", fix="give N pairs of verdicts")
    return (one + two) / 2


def mcnemar(points: ArrayLike, others: ArrayLike) -> float:
    """Return the exact two-sided p-value that two models win equally often, from points [N] on the same items.

    Only items at which exactly one of them won count; the p-value is 1 where there is none.
    """
    from scipy import stats

    one, two = as_points(points), as_points(others)
    if one.shape != two.shape:
        raise UsageError(f"{one.shape} verdicts against {two.shape}", fix="give the verdicts of the same items")
    kept = ~np.isnan(one + two)
    won, lost = (one > 0.5) & (two <= 0.5) & kept, (two > 0.5) & (one <= 0.5) & kept
    alone, total = int(won.sum()), int(won.sum() + lost.sum())
    return float(stats.binomtest(alone, total).pvalue) if total else 1.0
