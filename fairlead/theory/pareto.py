"""What several aims come to together: the points that no other beats in all of them, and the volume that they cover.

Everything is maximised. The hypervolume is exact: a sweep in two dimensions, slices along the last axis in more.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fairlead.errors import UsageError

__all__ = ["hypervolume", "pareto_front"]


def pareto_front(points: ArrayLike) -> np.ndarray:
    """Return which of the points [N, D] no other point beats: bool [N].

    A point beats another if it is at least as good in every dimension and better in one; equal points do not beat each
    other.

    Raises:
        UsageError: no table of finite numbers.
    """
    table = _table(points)
    at_least = (table[:, None] >= table[None]).all(-1)
    better = (table[:, None] > table[None]).any(-1)
    return np.logical_not((at_least & better).any(0))


def hypervolume(points: ArrayLike, reference: ArrayLike) -> float:
    """Return the volume of the union of the boxes between a reference point [D] and each of the points [N, D].

    Points that are not above the reference in every dimension cover nothing. The work grows with N^(D - 1).

    Raises:
        UsageError: no table of finite numbers, or a reference point of another length.
    """
    table, start = _table(points), np.asarray(reference, dtype=np.float64)
    if start.shape != table.shape[1:] or not np.isfinite(start).all():
        what = f"a reference point of the shape {start.shape} for points of {table.shape[1]} dimensions"
        raise UsageError(what, fix="give one finite number per dimension")
    above = table[(table > start).all(-1)] - start
    return _volume(above)


def _volume(boxes: np.ndarray) -> float:
    """Return the volume of the union of boxes [N, D] that start at 0."""
    if len(boxes) == 0:
        return 0.0
    if boxes.shape[1] == 1:
        return float(boxes.max())
    boxes = boxes[np.argsort(-boxes[:, -1], kind="stable")]
    if boxes.shape[1] == 2:
        widest = np.maximum.accumulate(boxes[:, 0])
        gained = np.diff(widest, prepend=0.0)
        return float(gained @ boxes[:, 1])
    depths = np.append(boxes[:, -1], 0.0)
    total = 0.0
    for k in range(len(boxes)):
        thick = depths[k] - depths[k + 1]
        if thick > 0:
            flat = boxes[: k + 1, :-1]
            total += thick * _volume(flat[pareto_front(flat)])
    return total


def _table(points: ArrayLike) -> np.ndarray:
    table = np.asarray(points, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] == 0 or not np.isfinite(table).all():
        raise UsageError(f"points of the shape {table.shape}", fix="give a finite table [N, D]")
    return table
