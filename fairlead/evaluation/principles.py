"""How annotators decide where principles agree, conflict or are silent.

Source: "AI Alignment at Your Discretion", Buyl et al. 2025 (arXiv 2502.10441). S [n pairs, m principles] holds +1 where
a principle prefers the first answer of a pair, -1 where the second, NaN or 0 where it is silent; an annotator's
preferences a [n] are the same, 0 or NaN where it is not decisive.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fairlead.errors import UsageError

__all__ = [
    "Priorities",
    "arbitrariness",
    "both_orders",
    "consensus",
    "decide",
    "discrepancy",
    "in_conflict",
    "priorities",
    "supremacy",
    "wins",
]

_ROUNDS = 200
_CLOSE = 1e-11
_LONGEST_STEP = 2.0


def decide(first: ArrayLike, second: ArrayLike, neither: ArrayLike, margin: float = 0.0) -> np.ndarray:
    """Return what a principle prefers [...]: +1, -1, or NaN where it is silent.

    It is silent where `neither` is likelier than both answers, where they are equally likely, and where their
    probabilities differ by less than `margin`.
    """
    one, two, none = (np.asarray(p, dtype=np.float64) for p in (first, second, neither))
    silent = ((none > one) & (none > two)) | (one == two) | (np.abs(one - two) < margin)
    return np.where(silent, np.nan, np.sign(one - two))


def both_orders(straight: ArrayLike, swapped: ArrayLike) -> np.ndarray:
    """Join preferences [...] with the first answer shown first and shown second, each for what was shown first.

    NaN where either is silent; 0 where the orders disagree.
    """
    one, two = np.asarray(straight, dtype=np.float64), np.asarray(swapped, dtype=np.float64)
    return (one - two) / 2


def consensus(principles: ArrayLike) -> np.ndarray:
    """Return the common preference [n] of the principles S [n, m] that speak.

    0 where two of them conflict, NaN where none speaks.
    """
    signs = _signs(principles)
    highest, lowest = signs.max(1, initial=-1), signs.min(1, initial=1)
    agreed = np.where((highest == 1) & (lowest == -1), 0.0, np.where(highest == 1, 1.0, -1.0))
    return np.where((signs == 0).all(1), np.nan, agreed)


def arbitrariness(principles: ArrayLike, annotator: ArrayLike) -> np.ndarray:
    """Return 1 where an annotator decides against the consensus, 0 where with it [n].

    NaN where there is no consensus, or no decision. Its mean is the discretion arbitrariness.
    """
    agreed, decided = consensus(principles), np.sign(np.nan_to_num(np.asarray(annotator, dtype=np.float64)))
    both = np.nan_to_num(agreed) * decided
    return np.where(both == 0, np.nan, (both < 0).astype(float))


def wins(principles: ArrayLike, annotator: ArrayLike, weights: ArrayLike | None = None) -> np.ndarray:
    """Count how often an annotator sides with the row's principle where it conflicts with the column's: [m, m].

    `weights` [n] say how often each pair counts.
    """
    signs = _signs(principles)
    decided = np.sign(np.nan_to_num(np.asarray(annotator, dtype=np.float64)))
    counts = np.ones(len(signs)) if weights is None else np.asarray(weights, dtype=np.float64)
    # Seen from the side that the annotator takes, whoever speaks for it wins.
    sided = signs * decided[:, None]
    return (sided > 0).astype(float).T @ (counts[:, None] * (sided < 0))


def in_conflict(principles: ArrayLike, annotator: ArrayLike) -> np.ndarray:
    """Tell which principles [n, m] conflict with another one in a pair that an annotator decides."""
    signs = _signs(principles)
    decided = np.nan_to_num(np.asarray(annotator, dtype=np.float64)) != 0
    against = np.where(signs > 0, (signs < 0).any(1, keepdims=True), (signs > 0).any(1, keepdims=True))
    return (signs != 0) & against & decided[:, None]


def supremacy(won: np.ndarray) -> np.ndarray:
    """Return the share of conflicts that the row's principle wins over the column's [m, m]; NaN where there is none."""
    met = won + won.T
    return np.where(met > 0, won / np.where(met > 0, met, 1), np.nan)


@dataclass(frozen=True)
class Priorities:
    """Bradley-Terry strengths of principles."""

    strength: np.ndarray
    """[m], mean 0 over the finite ones; +inf and -inf for principles that only win or only lose, NaN for those without
    a conflict, or whose conflicts share no principle with those of the largest group."""
    order: np.ndarray
    """[m]: numbers that rank the principles, equal for equal ranks, higher first; NaN where the strength is."""

    @property
    def elo(self) -> np.ndarray:
        """The strengths in Elo points: 400 are odds of 10 to 1."""
        return self.strength * 400 / np.log(10)


def priorities(won: np.ndarray, prior_sd: float | None = None) -> Priorities:
    """Fit strengths to wins [m, m] by maximum likelihood (step 5 of the method).

    A principle that only wins, or only loses, has no finite strength: it gets an infinite one, and the rest is fitted
    without it; again, until nothing more can be taken away. So does a group that only wins against all others, or only
    loses, where no principle does so alone.

    Args:
        won: how often the row's principle won over the column's.
        prior_sd: standard deviation of a normal prior around 0 that keeps every strength finite; None for none.
    """
    size = len(won)
    strength, order = np.full(size, np.nan), np.full(size, np.nan)
    group = _largest_group(won)
    if not len(group):
        return Priorities(strength, order)
    if prior_sd is not None:
        if not prior_sd > 0:
            raise UsageError(f"prior_sd is {prior_sd}", fix="use a number above 0, or none")
        strength[group] = order[group] = _fit(won[np.ix_(group, group)], prior_sd)
        return Priorities(strength, order)
    left, tier = group, float(size * _LONGEST_STEP * 100)
    while len(left):
        parts = _parts(won[np.ix_(left, left)])
        if len(parts) == 1:
            strength[left] = order[left] = _fit(won[np.ix_(left, left)], None)
            break
        ends = [(part, sign) for part in parts if (sign := _side(won[np.ix_(left, left)], part)) is not None]
        alone = [(part, sign) for part, sign in ends if len(part) == 1]
        taken = []
        for part, sign in alone or ends:
            inside = left[part]
            within = _fit(won[np.ix_(inside, inside)], None)
            strength[inside] = sign * np.inf if sign else within
            order[inside] = sign * tier + within
            taken += inside.tolist()
        left, tier = np.setdiff1d(left, taken), tier / 2
    return Priorities(strength, order)


def discrepancy(one: Priorities, other: Priorities) -> float:
    """Return (1 - tau-b) / 2 of two rankings: without ties the share of pairs of principles ordered differently.

    Principles that either does not rank are left out; NaN where fewer than two are left, or all are equal.
    """
    from scipy import stats

    both = ~np.isnan(one.order + other.order)
    if both.sum() < 2:
        return float("nan")
    tau = float(stats.kendalltau(np.round(one.order[both], 9), np.round(other.order[both], 9))[0])  # type: ignore[arg-type]
    return (1 - tau) / 2


def _signs(principles: ArrayLike) -> np.ndarray:
    found = np.asarray(principles, dtype=np.float64)
    if found.ndim != 2:
        raise UsageError(f"preferences of principles have shape {found.shape}", fix="give [pairs, principles]")
    return np.sign(np.nan_to_num(found))


def _largest_group(won: np.ndarray) -> np.ndarray:
    """Return the largest set of principles that conflicts join, the first of equals; empty without a conflict."""
    from scipy.sparse import csgraph, csr_array

    met = won + won.T > 0
    if not met.any():
        return np.array([], dtype=int)
    _, label = csgraph.connected_components(csr_array(met), directed=False)
    return np.flatnonzero(label == np.bincount(label).argmax())


def _parts(won: np.ndarray) -> list[np.ndarray]:
    """Return the sets of principles inside which every one can be reached from every other by wins."""
    from scipy.sparse import csgraph, csr_array

    count, label = csgraph.connected_components(csr_array(won > 0), directed=True, connection="strong")
    return [np.flatnonzero(label == part) for part in range(count)]


def _side(won: np.ndarray, part: np.ndarray) -> int | None:
    """Return 1 where a part only wins against the rest, -1 where it only loses, 0 where neither, None where both."""
    rest = np.setdiff1d(np.arange(len(won)), part)
    above, below = won[np.ix_(part, rest)].any(), won[np.ix_(rest, part)].any()
    return None if above and below else int(above) - int(below)


def _fit(won: np.ndarray, prior_sd: float | None) -> np.ndarray:
    """Return strengths [k] with mean 0 by Newton's method; without a prior the wins must allow finite ones."""
    met = won + won.T
    pull = 0.0 if prior_sd is None else 1 / prior_sd**2
    theta = np.zeros(len(won))
    for _ in range(_ROUNDS):
        chance = 1 / (1 + np.exp(theta[None, :] - theta[:, None]))
        slope = (won - met * chance).sum(1) - pull * theta
        bend = met * chance * (1 - chance)
        # Adding the same to all strengths changes nothing, so one more equation fixes their mean.
        curvature = np.diag(bend.sum(1) + pull) - bend + 1 / len(won)
        step = np.linalg.solve(curvature, slope)
        theta += step * min(1.0, _LONGEST_STEP / max(np.abs(step).max(), 1e-300))
        if np.abs(step).max() < _CLOSE:
            break
    return theta - theta.mean()
