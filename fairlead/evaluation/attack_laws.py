"""How attack success grows with the number of attempts: the power law of best-of-N, and the beta-binomial.

`pass_at_k` of `statistics` is the success at k attempts of a request with n attempts: without bias, and never falling.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fairlead.errors import UsageError

__all__ = ["BetaBinomial", "PowerLaw", "attempt_grid", "bound_of_none", "corrected_rate", "fit_beta", "fit_power_law"]


_ROUNDING = 1e-12
"""A success nearer to 1 is 1: its logarithm would be that of a rounding error."""


@dataclass(frozen=True)
class PowerLaw:
    """-log(success at N) = a N^-b (Hughes et al. 2024, arXiv 2412.03556)."""

    a: float
    """-log of the success of one attempt."""
    b: float
    """How fast it falls."""

    def at(self, attempts: float) -> float:
        """Return the success at a number of attempts."""
        return math.exp(-self.a * attempts**-self.b)

    def needed(self, success: float) -> float:
        """Return the attempts that a success in (0, 1) takes; infinite where more attempts do not help."""
        if not 0 < success < 1:
            raise UsageError(f"a success of {success}", fix="use a share between 0 and 1")
        return (self.a / -math.log(success)) ** (1 / self.b) if self.b > 0 else math.inf


@dataclass(frozen=True)
class BetaBinomial:
    """Requests differ: the success of one attempt is drawn from Beta(alpha, beta) for each."""

    alpha: float
    """The lower, the more requests hardly ever break; failures fall as N^-alpha."""
    beta: float
    """The higher, the rarer is success."""

    def at(self, attempts: float) -> float:
        """Return the success at a number of attempts."""
        from scipy.special import betaln

        return float(-np.expm1(betaln(self.alpha, self.beta + attempts) - betaln(self.alpha, self.beta)))


def attempt_grid(most: int) -> list[int]:
    """Return 1, 2, .., 10, 20, .., 100, 200, .. up to `most`, which is the last."""
    grid = [step * 10**power for power in range(len(str(most))) for step in range(1, 10)]
    return [n for n in grid if n < most] + [most]


def fit_power_law(attempts: ArrayLike, success: ArrayLike, *, epsilon: float = 0.0) -> PowerLaw | None:
    """Fit log(-log(success + epsilon)) = log a - b log N by least squares.

    Points at which that has no value (success 0 without epsilon, or 1) are left out; None where fewer than two stay.
    """
    along, up = np.asarray(attempts, dtype=np.float64), np.asarray(success, dtype=np.float64) + epsilon
    kept = (up > 0) & (up < 1 - _ROUNDING)
    if len(np.unique(along[kept])) < 2:
        return None
    x, y = np.log(along[kept]), np.log(-np.log(up[kept]))
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())
    return PowerLaw(math.exp(float(y.mean() - slope * x.mean())), -slope)


def fit_beta(successes: Sequence[int], attempts: Sequence[int]) -> BetaBinomial | None:
    """Fit the beta-binomial to c of n attempts per request by maximum likelihood.

    None where it has no maximum: all attempts fail or all succeed, or requests differ less than by chance.
    """
    from scipy.optimize import minimize
    from scipy.special import betaln

    hits, tries = np.asarray(successes, dtype=np.float64), np.asarray(attempts, dtype=np.float64)
    if not 0 < hits.sum() < tries.sum():
        return None

    def loss(logs: np.ndarray) -> float:
        alpha, beta = np.exp(np.clip(logs, -12, 14))
        return float(-(betaln(alpha + hits, beta + tries - hits) - betaln(alpha, beta)).sum())

    rate = hits.sum() / tries.sum()
    options = {"xatol": 1e-9, "fatol": 1e-11, "maxiter": 4000}
    found = minimize(loss, np.log([rate, 1 - rate]), method="Nelder-Mead", options=options)
    if not found.success or np.abs(found.x).max() > 11:
        return None
    return BetaBinomial(*map(float, np.exp(found.x)))


def bound_of_none(n: int, confidence: float = 0.95) -> float:
    """Return how high a rate may be, at one-sided confidence, of which n trials have shown nothing."""
    if n < 1:
        raise UsageError(f"a bound from {n} trials", fix="use at least one")
    return 1 - (1 - confidence) ** (1 / n)


def corrected_rate(observed: float, sensitivity: float, specificity: float) -> float:
    """Return a rate freed of a judge's errors, between 0 and 1 (Rogan and Gladen 1978).

    Args:
        observed: the rate that the judge tells.
        sensitivity: share of true cases that it finds.
        specificity: share of the others that it passes.
    """
    if not sensitivity + specificity > 1:
        what = f"a judge of sensitivity {sensitivity} and specificity {specificity} knows nothing"
        raise UsageError(what, fix="their sum has to be more than 1")
    return min(1.0, max(0.0, (observed + specificity - 1) / (sensitivity + specificity - 1)))
