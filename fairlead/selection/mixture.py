"""Gaussian mixtures by expectation and maximisation, in logarithms throughout.

mixture = fit_mixture(rows, components=2)
mixture.log_density(rows), mixture.responsibilities(rows)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fairlead.selection.kmeans import far_apart

__all__ = ["Mixture", "fit_mixture", "maximised", "mixture_of_labels", "refine"]

_LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class Mixture:
    """p(x) = sum over k of weights[k] N(x; means[k], covariances[k])."""

    weights: np.ndarray
    """float64 [K]; their sum is 1."""
    means: np.ndarray
    """float64 [K, D]."""
    covariances: np.ndarray
    """float64 [K, D, D]."""

    def joint(self, rows: np.ndarray) -> np.ndarray:
        """Return ln(weights[k] N(row; k)), float64 [N, K]."""
        found = np.empty((len(rows), len(self.weights)))
        for k, (weight, mean, covariance) in enumerate(zip(self.weights, self.means, self.covariances, strict=True)):
            lower = np.linalg.cholesky(covariance)
            distance = self._whitened(rows - mean, lower)
            found[:, k] = math.log(weight) - 0.5 * (distance + rows.shape[1] * _LOG_2PI) - np.log(np.diag(lower)).sum()
        return found

    def distances(self, rows: np.ndarray) -> np.ndarray:
        """Return the squared Mahalanobis distances to every component, float64 [N, K]."""
        lower = [np.linalg.cholesky(covariance) for covariance in self.covariances]
        return np.stack([self._whitened(rows - m, low) for m, low in zip(self.means, lower, strict=True)], 1)

    def log_density(self, rows: np.ndarray) -> np.ndarray:
        """Return ln p(row), float64 [N]."""
        return _log_sum(self.joint(rows))

    def responsibilities(self, rows: np.ndarray) -> np.ndarray:
        """Return the chance that each component made each row, float64 [N, K]; rows of it sum to 1."""
        joint = self.joint(rows)
        return np.exp(joint - _log_sum(joint)[:, None])

    @staticmethod
    def _whitened(rows: np.ndarray, lower: np.ndarray) -> np.ndarray:
        from scipy.linalg import solve_triangular

        return np.square(solve_triangular(lower, rows.T, lower=True, check_finite=False)).sum(0)


def fit_mixture(
    rows: np.ndarray,
    components: int = 2,
    *,
    covariance: str = "full",
    ridge: float = 1e-6,
    restarts: int = 10,
    steps: int = 200,
    tolerance: float = 1e-6,
    seed: int = 0,
) -> Mixture:
    """Fit a mixture by maximum likelihood: the likeliest of several runs from k-means++ starts.

    Args:
        rows: float64 [N, D], N >= 1.
        components: how many; fewer where fewer rows differ.
        covariance: `full`, `diag` or `spherical`.
        ridge: added to every variance, so that equal rows have a density.
        restarts: runs.
        steps: most steps of a run.
        tolerance: gain in mean log-likelihood at which a run ends, in nats.
        seed: randomness of the starts.

    Returns:
        The mixture, its components by falling weight, then by the first coordinate of their mean.
    """
    rng = np.random.default_rng(seed)
    runs = []
    for _ in range(restarts if components > 1 else 1):
        centres = far_apart(rows, components, rng)
        closest = (np.square(centres).sum(1) - 2 * rows @ centres.T).argmin(1)
        start = maximised(rows, np.eye(len(centres))[closest], covariance=covariance, ridge=ridge)
        mixture = refine(rows, start, covariance=covariance, ridge=ridge, steps=steps, tolerance=tolerance)
        runs.append((float(mixture.log_density(rows).mean()), mixture))
    best = max(runs, key=lambda run: run[0])[1]
    order = sorted(range(len(best.weights)), key=lambda k: (-best.weights[k], best.means[k, 0]))
    return Mixture(best.weights[order], best.means[order], best.covariances[order])


def refine(
    rows: np.ndarray,
    mixture: Mixture,
    *,
    covariance: str = "full",
    ridge: float = 1e-6,
    steps: int = 200,
    tolerance: float = 1e-6,
) -> Mixture:
    """Go on with expectation and maximisation from a mixture until it gains no more; see `fit_mixture`."""
    before = -math.inf
    for _ in range(steps):
        joint = mixture.joint(rows)
        density = _log_sum(joint)
        now = float(density.mean())
        if now - before < tolerance:
            break
        before = now
        mixture = maximised(rows, np.exp(joint - density[:, None]), covariance=covariance, ridge=ridge)
    return mixture


def maximised(rows: np.ndarray, shares: np.ndarray, *, covariance: str = "full", ridge: float = 1e-6) -> Mixture:
    """Return the mixture that is likeliest given every row's shares in the components, float64 [N, K]."""
    counts = shares.sum(0) + np.finfo(np.float64).tiny
    means = (shares.T @ rows) / counts[:, None]
    floor = ridge * np.eye(rows.shape[1])
    spreads = [
        _SPREADS[covariance](((rows - mean) * share[:, None]).T @ (rows - mean) / count) + floor
        for mean, share, count in zip(means, shares.T, counts, strict=True)
    ]
    return Mixture(counts / counts.sum(), means, np.stack(spreads))


def mixture_of_labels(
    rows: np.ndarray, labels: np.ndarray, *, covariance: str = "full", ridge: float = 1e-6
) -> Mixture:
    """Return the mixture with one component per label, int [N] from 0, each of which some row has."""
    return maximised(rows, np.eye(int(labels.max()) + 1)[labels], covariance=covariance, ridge=ridge)


_SPREADS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "full": lambda spread: spread,
    "diag": lambda spread: np.diag(np.diag(spread)),
    "spherical": lambda spread: np.eye(len(spread)) * np.trace(spread) / len(spread),
}


def _log_sum(joint: np.ndarray) -> np.ndarray:
    most = joint.max(1, keepdims=True)
    return np.log(np.exp(joint - most).sum(1)) + most[:, 0]
