"""The two laws of steering, as curves and as fits: alignment rises linearly at first, helpfulness falls quadratically.

Source: Wolf et al. 2024, "Tradeoffs Between Alignment and Helpfulness in Language Models with Steering Methods" (arXiv
2401.16332): Theorem 1 (alignment), Theorem 2 (helpfulness). r is the steering coefficient.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fairlead.errors import UsageError

__all__ = ["AlignmentFit", "HelpfulnessFit", "best_coefficient", "fit_alignment", "fit_helpfulness"]


@dataclass(frozen=True)
class AlignmentFit:
    """B(r) = tanh(slope r + offset): the mean of +1 (aligned) and -1 (not) over answers.

    With answers whose logits move apart by 2 * slope or more per unit of r, and tanh(offset) = B(0), this bounds B(r)
    from below for r >= 0 and from above for r <= 0; it is exact for two answers.
    """

    slope: float
    """Half of the logits' change per unit of r."""
    offset: float
    """artanh of the alignment at r = 0."""
    r2: float = math.nan
    """Share of the variance that the fit explains."""

    def __call__(self, coefficients: ArrayLike) -> np.ndarray:
        """Return B at coefficients, any shape."""
        return np.tanh(self.slope * np.asarray(coefficients, dtype=np.float64) + self.offset)


@dataclass(frozen=True)
class HelpfulnessFit:
    """P(r) = 1 / (1 + a (1 + b^2 r^2 / 2)) with a = 1 / P(0) - 1: the probability of the right answer.

    With wrong answers whose logits move relative to the right one at random, symmetric around 0 and with variance
    b^2 r^2, this bounds P(r) from above.
    """

    start: float
    """The probability at r = 0."""
    rate: float
    """b: the spread of the logits' change per unit of r."""
    r2: float = math.nan
    """Share of the variance that the fit explains."""

    def __call__(self, coefficients: ArrayLike) -> np.ndarray:
        """Return P at coefficients, any shape."""
        squares = np.square(np.asarray(coefficients, dtype=np.float64))
        return 1 / (1 + (1 / self.start - 1) * (1 + self.rate**2 * squares / 2))

    def reach(self, loss: float) -> float:
        """Return the largest |r| that costs at most `loss` of the probability; infinite if none costs so much.

        Raises:
            UsageError: a loss that is not between 0 and the probability at r = 0.
        """
        if not 0 < loss < self.start:
            raise UsageError(f"a loss of {loss} from {self.start:.3g}", fix="use a share of the start, such as 0.05")
        odds = 1 / self.start - 1
        if self.rate == 0 or odds == 0:
            return math.inf
        return math.sqrt(2 * ((1 / (self.start - loss) - 1) / odds - 1)) / self.rate


def fit_alignment(coefficients: ArrayLike, alignment: ArrayLike) -> AlignmentFit:
    """Fit B(r) by least squares to three points or more, [N] each, alignment in [-1, 1].

    Raises:
        UsageError: fewer than 3 different coefficients, or a fit that does not converge.
    """
    from scipy.optimize import curve_fit

    r, values = _points(coefficients, alignment)
    inner = np.arctanh(np.clip(values, -0.99, 0.99))
    start = np.polyfit(r, inner, 1)
    try:
        (slope, offset), _ = curve_fit(lambda x, a, b: np.tanh(a * x + b), r, values, p0=start, maxfev=20_000)
    except RuntimeError as error:
        raise UsageError(f"no tanh fits the alignment ({error})", fix="fit a range in which it rises") from error
    fit = AlignmentFit(float(slope), float(offset))
    return AlignmentFit(fit.slope, fit.offset, _explained(values, fit(r)))


def fit_helpfulness(coefficients: ArrayLike, probability: ArrayLike) -> HelpfulnessFit:
    """Fit P(r) by least squares to three points or more, [N] each, probabilities above 0.

    Starts from the line of 1 / P - 1 over r^2.

    Raises:
        UsageError: fewer than 3 different coefficients, a probability that is not above 0, or a fit that does not
            converge.
    """
    from scipy.optimize import curve_fit

    r, values = _points(coefficients, probability)
    if not (values > 0).all():
        raise UsageError("a probability of 0 has no odds", fix="leave the largest coefficients out")
    bend, odds = np.polyfit(r**2, 1 / values - 1, 1)
    start = (max(odds, 1e-6), max(bend, 0.0))

    def curve(x: np.ndarray, odds: float, bend: float) -> np.ndarray:
        return 1 / (1 + odds + bend * x**2)

    try:
        (odds, bend), _ = curve_fit(curve, r, values, p0=start, bounds=([1e-12, 0], np.inf), max_nfev=20_000)
    except RuntimeError as error:
        raise UsageError(f"no curve fits the helpfulness ({error})", fix="fit a smaller range") from error
    fit = HelpfulnessFit(float(1 / (1 + odds)), math.sqrt(2 * float(bend) / float(odds)))
    return HelpfulnessFit(fit.start, fit.rate, _explained(values, fit(r)))


def best_coefficient(
    alignment: AlignmentFit, helpfulness: HelpfulnessFit, low: float, high: float
) -> tuple[float, float]:
    """Return the coefficient in [low, high] at which B(r) P(r) is largest, and that product.

    A result at either end says that the fitted range ends there, not that this is best.
    """
    from scipy.optimize import minimize_scalar

    grid = np.linspace(low, high, 401)
    near = int(np.argmax(alignment(grid) * helpfulness(grid)))
    ends = (float(grid[max(near - 1, 0)]), float(grid[min(near + 1, 400)]))
    found = minimize_scalar(
        lambda r: -float(alignment(r) * helpfulness(r)), bounds=ends, method="bounded", options={"xatol": 1e-9}
    )
    return float(found.x), float(-found.fun)


def _points(coefficients: ArrayLike, values: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    r, found = np.asarray(coefficients, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if r.shape != found.shape or len(np.unique(r)) < 3:
        raise UsageError(
            f"{len(np.unique(r))} different coefficients with {found.size} values give no curve",
            fix="measure at 3 coefficients or more",
        )
    return r, found


def _explained(values: np.ndarray, fitted: np.ndarray) -> float:
    """Return R^2; NaN where the values do not vary."""
    spread = float(np.square(values - values.mean()).sum())
    return 1 - float(np.square(values - fitted).sum()) / spread if spread > 0 else math.nan
