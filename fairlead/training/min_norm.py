"""The smallest convex combination of several numbers or vectors: what all of them agree on.

For numbers it is the projection of 0 on the interval between the least and the greatest. For vectors, whose inner
products are known, it is a quadratic programme as large as their number. Desideri 2012 (MGDA), and Theorem 1 of PAMA
(arXiv 2508.07768). Pure functions of tensors.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fairlead.errors import UsageError

__all__ = ["convex_weights", "least_norm_weights", "mgda", "projection_of_zero", "soft_minimum"]


def projection_of_zero(values: Tensor) -> Tensor:
    """Return the number of least size between the smallest and the greatest of R values [R, ...], for each place.

    NaN values take no part; 0 where all are NaN.
    """
    low, high = _ends(values)
    return torch.maximum(low, torch.minimum(high, torch.zeros_like(low))).nan_to_num(0.0)


def convex_weights(values: Tensor) -> Tensor:
    """Return weights [R, ...] that are 0 or more, add up to 1, and make `projection_of_zero` of values [R, ...].

    All weight is on the least value where all are above 0, on the greatest where all are below, on both where they lie
    on either side; equal weights where all values are 0. NaN values get none, unless all are NaN.
    """
    known = ~values.isnan()
    low, high = _ends(values)
    lowest = torch.where(known, values, torch.inf).argmin(0, keepdim=True)
    highest = torch.where(known, values, -torch.inf).argmax(0, keepdim=True)
    width = (high - low).masked_fill(high == low, 1.0)
    on_low = torch.where(low >= 0, 1.0, torch.where(high <= 0, 0.0, high / width))
    weights = torch.zeros_like(values).scatter_add_(0, lowest, on_low[None].to(values.dtype))
    weights = weights.scatter_add_(0, highest, (1 - on_low)[None].to(values.dtype))
    flat = ((low == 0) & (high == 0)) | ~known.any(0)
    alike = torch.where(known | ~known.any(0), 1.0, 0.0).to(values.dtype)
    return torch.where(flat, alike / alike.sum(0), weights)


def soft_minimum(values: Tensor, temperature: float) -> Tensor:
    """Return -t log mean exp(-value / t) over R values [R, ...], between their minimum (t -> 0) and their mean.

    NaN values take no part; 0 where all are NaN.
    """
    known = ~values.isnan()
    scaled = torch.where(known, -values / temperature, -torch.inf)
    found = temperature * (known.sum(0).to(values.dtype).log() - torch.logsumexp(scaled, 0))
    return torch.where(known.any(0), found, 0.0)


def least_norm_weights(products: Tensor) -> Tensor:
    """Return the convex weights [R] of R vectors whose combination is shortest, from their inner products [R, R].

    Exact up to rounding (float64): with M = G^T G, non-negative least squares of (G; 1) y on (0; 1) by an active-set
    method has y in proportion to the weights, since for a fixed direction the optimum grows with the norm alone.

    Raises:
        UsageError: no square table, or numbers that are not finite.
    """
    from scipy.optimize import nnls

    table = products.detach().double().cpu().numpy()
    if table.ndim != 2 or table.shape[0] != table.shape[1] or not np.isfinite(table).all():
        raise UsageError(f"inner products of the shape {table.shape}", fix="give a finite table [R, R]")
    largest = float(np.abs(table).max(initial=0.0))
    if largest == 0:
        return torch.full((len(table),), 1 / len(table), dtype=torch.float64)
    spectrum, vectors = np.linalg.eigh(table / largest)
    root = np.sqrt(np.clip(spectrum, 0.0, None))[:, None] * vectors.T
    sides = np.vstack([root, np.ones(len(table))])
    found, _ = nnls(sides, np.concatenate([np.zeros(len(table)), [1.0]]))
    return torch.from_numpy(found / found.sum())


def mgda(gradients: Tensor) -> tuple[Tensor, Tensor]:
    """Return the convex weights [R] and the shortest combination [D] of R gradients [R, D].

    Where it is not 0, a step along it raises every objective; where it is, no direction raises all of them. For two
    gradients the weights are in closed form. It wants R gradients, so R backward passes.
    """
    table = gradients.double()
    if len(table) == 2:
        apart = table[1] - table[0]
        size = apart @ apart
        first = (apart @ table[1] / size).clamp(0.0, 1.0) if size > 0 else table.new_tensor(0.5)
        weights = torch.stack([first, 1 - first])
    else:
        weights = least_norm_weights(table @ table.T)
    return weights, weights @ table


def _ends(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the least and the greatest of the values that are there; NaN where none is."""
    known = ~values.isnan()
    low = torch.where(known, values, torch.inf).amin(0)
    high = torch.where(known, values, -torch.inf).amax(0)
    none = ~known.any(0)
    return low.masked_fill(none, torch.nan), high.masked_fill(none, torch.nan)
