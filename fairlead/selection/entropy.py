"""What every element contributes to the entropy of a data set: H(all) - H(all without it), in nats.

Source: Khera et al. 2024 (arXiv 2411.10545), of which only the outline is public: a Gaussian mixture, the entropy of
the data, and its change when an element is left out. Each estimate of the entropy here has its change in closed form.
"""

from __future__ import annotations

import math

import numpy as np

from fairlead.selection.mixture import Mixture

__all__ = [
    "changes_of_discrete",
    "changes_of_gaussian",
    "changes_of_refit",
    "changes_when_fixed",
    "kernel_surprisal",
    "rank_correlation",
]

_BLOCK = 1024


def changes_when_fixed(surprisal: np.ndarray) -> tuple[float, np.ndarray]:
    """Return H = mean(s) and the changes (s_i - H) / (n - 1), with the density's parameters kept.

    Args:
        surprisal: s_i = -ln p(x_i), float64 [N].
    """
    entropy = float(surprisal.mean())
    return entropy, (surprisal - entropy) / max(len(surprisal) - 1, 1)


def changes_of_gaussian(rows: np.ndarray, ridge: float = 0.0) -> tuple[float, np.ndarray]:
    """Return the entropy of the fitted Gaussian, (D ln(2 pi e) + ln det S) / 2, and its changes by fits without each.

    Exact by the rank-one change of S, as long as no ridge is needed.

    Args:
        rows: float64 [N, D].
        ridge: added to every variance.
    """
    n, d = rows.shape
    centred = rows - rows.mean(0)
    spread = centred.T @ centred / n + ridge * np.eye(d)
    mixture = Mixture(np.ones(1), rows.mean(0)[None], spread[None])
    entropy = 0.5 * (d * math.log(2 * math.pi * math.e) + np.linalg.slogdet(spread)[1])
    if n < 2:
        return float(entropy), np.zeros(n)
    left = _left(1 - mixture.distances(rows)[:, 0] / (n - 1))
    return float(entropy), -0.5 * (d * math.log(n / (n - 1)) + np.log(left))


def changes_of_refit(rows: np.ndarray, mixture: Mixture) -> tuple[float, np.ndarray]:
    """Return the entropy of a mixture and its changes after one step of fitting without the element.

    The step keeps all shares in the components, so weights and covariances change by rank one each. The entropy is the
    bound that the step works on, sum_k w_k (-ln w_k + ln det(2 pi e C_k) / 2) minus the mean entropy of the shares:
    it meets -mean ln p where the mixture is at its optimum.

    Args:
        rows: float64 [N, D].
        mixture: fitted to them.
    """
    n, d = rows.shape
    shares = mixture.responsibilities(rows)
    counts = shares.sum(0)
    blur = -np.where(shares > 0, shares * np.log(np.maximum(shares, np.finfo(np.float64).tiny)), 0.0).sum(1)
    volume = 0.5 * (d * math.log(2 * math.pi * math.e) + np.linalg.slogdet(mixture.covariances)[1])
    weights = counts / n
    entropy = float((weights * (volume - np.log(np.maximum(weights, 1e-300)))).sum() - blur.mean())
    if n < 2:
        return entropy, np.zeros(n)
    rest = np.maximum(counts - shares, np.finfo(np.float64).tiny)
    left = _left(1 - shares * mixture.distances(rows) / rest)
    without = volume + 0.5 * (d * np.log(counts / rest) + np.log(left))
    weights = rest / (n - 1)
    bound = (weights * (without - np.log(weights))).sum(1) - (blur.sum() - blur) / (n - 1)
    return entropy, entropy - bound


def changes_of_discrete(log_density: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the entropy of q_i = p(x_i) / sum_j p(x_j) and the changes when one is left out and q scaled again.

    Args:
        log_density: ln p(x_i), float64 [N].
    """
    logs = log_density - log_density.max()
    logs = logs - math.log(np.exp(logs).sum())
    parts = -np.exp(logs) * logs
    entropy = float(parts.sum())
    rest = -np.expm1(np.minimum(logs, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        without = (entropy - parts) / rest + np.log(rest)
    return entropy, entropy - np.where(rest > 0, without, 0.0)


def kernel_surprisal(rows: np.ndarray) -> np.ndarray:
    """Return -ln of a Gaussian kernel density with Scott's width per coordinate, float64 [N]; N x N in blocks."""
    n, d = rows.shape
    width = rows.std(0) * n ** (-1 / (d + 4))
    scaled = rows / np.where(width > 0, width, 1.0)
    constant = math.log(n) + 0.5 * d * math.log(2 * math.pi) + np.log(np.where(width > 0, width, 1.0)).sum()
    squares = np.square(scaled).sum(1)
    found = np.empty(n)
    for start in range(0, n, _BLOCK):
        part = slice(start, start + _BLOCK)
        apart = np.maximum(squares[part, None] + squares - 2 * scaled[part] @ scaled.T, 0.0)
        least = apart.min(1, keepdims=True)
        found[part] = constant + 0.5 * least[:, 0] - np.log(np.exp(-0.5 * (apart - least)).sum(1))
    return found


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return Spearman's correlation [N]; NaN where either side does not vary."""
    from scipy.stats import rankdata

    a, b = (rankdata(values) for values in (first, second))
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])


def _left(share: np.ndarray) -> np.ndarray:
    """Keep what is left of a determinant above 0, for elements without which a component is flat."""
    return np.maximum(share, 1e-12)
