"""How many of each group: whole numbers that add up, and water that fills the lowest first."""

from __future__ import annotations

import numpy as np

__all__ = ["filled", "largest_remainder"]


def largest_remainder(weights: np.ndarray, number: int) -> np.ndarray:
    """Divide a number into whole parts in proportion to weights [K], int64 [K]: Hamilton's method.

    What is left over goes to the largest remainders, of equal ones to the earlier.
    """
    exact = number * np.asarray(weights, np.float64) / np.sum(weights)
    parts = np.floor(exact + 1e-9).astype(np.int64)
    rest = np.argsort(-np.round(exact - parts, 9), kind="stable")
    parts[rest[: number - int(parts.sum())]] += 1
    return parts


def filled(weights: np.ndarray, sizes: np.ndarray, number: int) -> np.ndarray:
    """Divide a number as `largest_remainder` does, but no more than a group's size [K]: the rest goes to the others."""
    number = min(number, int(np.sum(sizes)))
    parts = np.zeros(len(sizes), np.int64)
    while (missing := number - int(parts.sum())) > 0:
        open_groups = np.flatnonzero(parts < sizes)
        more = largest_remainder(np.asarray(weights, np.float64)[open_groups], missing)
        parts[open_groups] = np.minimum(parts[open_groups] + more, np.asarray(sizes)[open_groups])
    return parts
