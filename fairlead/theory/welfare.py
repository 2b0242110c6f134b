"""Whose preferences win: weights of groups, and the winning answer, under several ways of adding people up.

Source of the question: Sahoo et al. 2025 (arXiv 2511.19504); the rules are those of social choice: the sum (Bentham),
the least (Rawls), the product (Nash).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fairlead.errors import UsageError
from fairlead.theory.problems import as_distribution

__all__ = ["Welfare", "agreement_weights", "cycles", "welfare"]

_TINY = 1e-9


@dataclass(frozen=True)
class Welfare:
    """Scores of K options under three rules, and who wins."""

    utilitarian: np.ndarray
    """sum_g w_g U[g, k]."""
    rawlsian: np.ndarray
    """min_g U[g, k]."""
    nash: np.ndarray
    """sum_g w_g log(U[g, k] + 1e-9)."""

    def winners(self) -> dict[str, tuple[int, ...]]:
        """Return every rule's best options, several where they tie to 1e-12."""
        rules = {"utilitarian": self.utilitarian, "rawlsian": self.rawlsian, "nash": self.nash}
        return {name: tuple(np.flatnonzero(s >= s.max() - 1e-12).tolist()) for name, s in rules.items()}


def welfare(utilities: ArrayLike, weights: ArrayLike) -> Welfare:
    """Score options by what they are worth to groups.

    Args:
        utilities: [G, K], from 0.
        weights: what each group counts [G], summing to 1.

    Raises:
        UsageError: another shape, or utilities that are negative or not finite.
    """
    table, shares = np.asarray(utilities, dtype=np.float64), as_distribution(weights, "weights")
    if table.ndim != 2 or len(table) != len(shares) or table.shape[1] == 0:
        raise UsageError(f"utilities of the shape {table.shape} and {len(shares)} weights", fix="give [G, K] and [G]")
    if not (np.isfinite(table).all() and (table >= 0).all()):
        raise UsageError("a utility is negative or not finite", fix="give utilities from 0")
    return Welfare(shares @ table, table.min(0), shares @ np.log(table + _TINY))


def agreement_weights(population: ArrayLike, agreement: ArrayLike) -> dict[str, np.ndarray]:
    """Return what each group counts [G] under four ways of pooling labels into one reward.

    Args:
        population: shares of the population [G].
        agreement: how often a group's labels agree with the pooled majority [G], in [0, 1].

    Returns:
        `equal`; `population`; `agreement`, in proportion to population x agreement, which is what dropping or
        down-weighting odd labels does; `worst`, all on the group that agrees least (max-min).
    """
    shares, agree = as_distribution(population, "population"), np.asarray(agreement, dtype=np.float64)
    if agree.shape != shares.shape or not ((agree >= 0) & (agree <= 1)).all() or agree.sum() == 0:
        raise UsageError("agreement is not one share per group", fix="give [G] values in [0, 1], some above 0")
    least = agree <= agree.min() + 1e-12
    pooled = shares * agree
    return {
        "equal": np.full(len(shares), 1 / len(shares)),
        "population": shares,
        "agreement": pooled / pooled.sum(),
        "worst": least / least.sum(),
    }


def cycles(rates: ArrayLike) -> list[tuple[int, ...]]:
    """Return the sets of options that beat each other in a circle, so that no single reward can order them.

    Args:
        rates: share of people who prefer row to column [K, K]; NaN where two were never compared, .5 a tie.
    """
    from scipy.sparse import csgraph, csr_array

    table = np.asarray(rates, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] != table.shape[1]:
        raise UsageError(f"rates of the shape {table.shape}", fix="give a square table")
    beats = np.nan_to_num(table, nan=0.0) > 0.5
    count, label = csgraph.connected_components(csr_array(beats), directed=True, connection="strong")
    parts = [tuple(np.flatnonzero(label == part).tolist()) for part in range(count)]
    return sorted(part for part in parts if len(part) > 1)
