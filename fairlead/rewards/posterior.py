"""What is known of a linear reward after it was fitted to preferences: its weights, and how sure of them one can be.

Sources: MacKay 1992 (Neural Computation 4:720) for the Laplace approximation and the probit correction; Yang et al.
2024 (arXiv 2402.13210) for reward models; Zhang et al. 2024 (arXiv 2403.05171) for the elliptical spread.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fairlead.errors import UsageError

__all__ = ["Posterior", "chance_of_better", "elliptical_spread", "fit_posterior"]

_STEPS = 100
_SETTLED = 1e-10


@dataclass(frozen=True)
class Posterior:
    """Weights of a linear reward on H features, and their precision."""

    weights: np.ndarray
    """float64 [H]: the likeliest ones."""
    precision: np.ndarray
    """float64 [H, H]: of the Gaussian around them."""

    def mean(self, differences: ArrayLike) -> np.ndarray:
        """Return the rewards of differences of features [..., H]: float64 [...]."""
        return np.asarray(differences, dtype=np.float64) @ self.weights

    def variance(self, differences: ArrayLike) -> np.ndarray:
        """Return the variance of these rewards, float64 [...]."""
        return _quadratic(np.asarray(differences, dtype=np.float64), self.precision)


def fit_posterior(differences: ArrayLike, ridge: float = 1.0) -> Posterior:
    """Fit a Bradley-Terry reward to P pairs by Newton's method and return its Laplace approximation.

    It minimises -sum log sigma(w . d) + ridge / 2 |w|^2.

    Args:
        differences: features of the better answer less those of the worse one [P, H].
        ridge: precision of the weights before any pair was seen.
    """
    found = np.asarray(differences, dtype=np.float64)
    _check(found, ridge)
    weights = np.zeros(found.shape[1])
    precision = np.empty((0, 0))
    for _ in range(_STEPS):
        chance = _sigma(found @ weights)
        gradient = ridge * weights - found.T @ (1.0 - chance)
        precision = (found.T * (chance * (1.0 - chance))) @ found + ridge * np.eye(len(weights))
        step = np.linalg.solve(precision, gradient)
        if np.abs(step).max(initial=0.0) < _SETTLED:
            break
        size = 1.0
        while size > 1e-4 and _loss(found, weights - size * step, ridge) > _loss(found, weights, ridge):
            size /= 2
        weights = weights - size * step
    return Posterior(weights, precision)


def chance_of_better(mean: ArrayLike, variance: ArrayLike) -> np.ndarray:
    """Return the probability that one answer is better, from the mean and variance of the difference of rewards."""
    return _sigma(np.asarray(mean, dtype=np.float64) / np.sqrt(1.0 + np.pi * np.asarray(variance, np.float64) / 8.0))


def elliptical_spread(features: ArrayLike, known: ArrayLike, ridge: float = 1.0) -> np.ndarray:
    """Return how far features [..., H] lie from what was trained on: sqrt(h (ridge I + sum k k')^-1 h), float64 [...].

    Args:
        features: of the answers in question, perhaps less those of a reference.
        known: of the answers that were trained on [P, H].
        ridge: added to the diagonal, above 0.
    """
    seen = np.asarray(known, dtype=np.float64)
    _check(seen, ridge)
    matrix = seen.T @ seen + ridge * np.eye(seen.shape[1])
    return np.sqrt(_quadratic(np.asarray(features, dtype=np.float64), matrix))


def _quadratic(rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    flat = rows.reshape(-1, rows.shape[-1])
    return np.einsum("nh,hn->n", flat, np.linalg.solve(matrix, flat.T)).reshape(rows.shape[:-1])


def _sigma(margins: np.ndarray) -> np.ndarray:
    from scipy.special import expit

    return expit(margins)


def _loss(differences: np.ndarray, weights: np.ndarray, ridge: float) -> float:
    return float(np.logaddexp(0.0, -differences @ weights).sum() + 0.5 * ridge * weights @ weights)


def _check(rows: np.ndarray, ridge: float) -> None:
    if rows.ndim != 2 or not len(rows):
        raise UsageError(f"features of shape {rows.shape}", fix="give one row of features per pair: [P, H]")
    if not ridge > 0:
        raise UsageError(f"ridge is {ridge}", fix="use a number above 0")
