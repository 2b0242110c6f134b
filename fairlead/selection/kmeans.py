"""k-means on vectors: k-means++ starts, Lloyd's steps, the best of several restarts."""

from __future__ import annotations

import numpy as np

__all__ = ["far_apart", "kmeans"]

_STEPS = 100


def kmeans(rows: np.ndarray, k: int, *, restarts: int = 10, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Divide rows into at most k clusters, the largest first.

    Args:
        rows: float [N, D], N >= 1.
        k: clusters wanted; there are fewer where fewer rows differ.
        restarts: starts, of which the one with the least sum of squares wins.
        seed: randomness of the starts.

    Returns:
        The cluster of every row, int64 [N], and the centres, float64 [K, D].
    """
    rows = np.asarray(rows, np.float64)
    rng = np.random.default_rng(seed)
    found = [_lloyd(rows, far_apart(rows, k, rng)) for _ in range(restarts)]
    labels, centres, _ = min(found, key=lambda run: run[2])
    sizes = np.bincount(labels, minlength=len(centres))
    order = sorted((c for c in range(len(centres)) if sizes[c]), key=lambda c: (-sizes[c], centres[c].tolist()))
    place = np.zeros(len(centres), np.int64)
    place[order] = np.arange(len(order))
    return place[labels], centres[order]


def far_apart(rows: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Return at most k of the rows [N, D], each drawn with a chance that grows with its squared distance to the others.

    Arthur and Vassilvitskii 2007, k-means++. There are fewer than k where fewer rows differ.
    """
    centres = [rows[rng.integers(len(rows))]]
    nearest = np.square(rows - centres[0]).sum(1)
    while len(centres) < k and nearest.max() > 0:
        centres.append(rows[rng.choice(len(rows), p=nearest / nearest.sum())])
        nearest = np.minimum(nearest, np.square(rows - centres[-1]).sum(1))
    return np.stack(centres)


def _lloyd(rows: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    labels = np.full(len(rows), -1)
    for _ in range(_STEPS):
        distances = np.square(centres).sum(1) - 2 * rows @ centres.T
        closest = distances.argmin(1)
        if np.array_equal(closest, labels):
            break
        labels = closest
        sums = np.zeros_like(centres)
        np.add.at(sums, labels, rows)
        sizes = np.bincount(labels, minlength=len(centres))
        centres = np.where(sizes[:, None] > 0, sums / np.maximum(sizes, 1)[:, None], centres)
    return labels, centres, float(np.square(rows - centres[labels]).sum())
