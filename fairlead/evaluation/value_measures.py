"""Numbers about questionnaires and values: scores, reliability, profiles, distances to a target.

Sources: Schwartz's basic values and their centring; Cronbach 1951 (Psychometrika 16:297) for alpha; PriDe (Zheng et al.
2023, arXiv 2309.03882) for the prior of labels; MoralChoice (Scherrer et al. 2023, arXiv 2307.14324) for consistency as
a generalised Jensen-Shannon divergence; OpinionQA (Santurkar et al. 2023, arXiv 2303.17548) for agreement with people;
ETHICS (Hendrycks et al. 2020, arXiv 2008.02275) for groups. Brought together by Yao et al. 2023 (arXiv 2308.12014).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from fairlead.errors import UsageError
from fairlead.evaluation.principles import priorities

__all__ = [
    "acquiescence",
    "agreement",
    "certainty",
    "circle",
    "consistency",
    "cosine",
    "cronbach_alpha",
    "divergence",
    "entropy",
    "geometric_mean",
    "group_exact_match",
    "label_prior",
    "linear_reward",
    "reversed_score",
    "target_reward",
    "transitivity",
    "utilities",
    "without_prior",
]


def entropy(chances: ArrayLike) -> np.ndarray:
    """Return the entropy of distributions [..., K], in bits."""
    p = np.asarray(chances, dtype=np.float64)
    return -np.where(p > 0, p * np.log2(np.where(p > 0, p, 1)), 0.0).sum(-1)


def certainty(chances: ArrayLike) -> np.ndarray:
    """Return 1 - H / log K of distributions [..., K]: 1 where one option has all, 0 where all are equal."""
    p = np.asarray(chances, dtype=np.float64)
    return 1 - entropy(p) / math.log2(p.shape[-1])


def label_prior(rotations: ArrayLike) -> np.ndarray:
    """Return what labels [K] get whatever they stand for, from P(label) in all K rotations of the contents [K, K]."""
    logs = np.log(np.asarray(rotations, dtype=np.float64)).mean(0)
    weights = np.exp(logs - logs.max())
    return weights / weights.sum()


def without_prior(chances: ArrayLike, prior: ArrayLike) -> np.ndarray:
    """Return probabilities of labels [..., K] with the labels' own prior [K] taken out."""
    found = np.asarray(chances, dtype=np.float64) / np.asarray(prior, dtype=np.float64)
    return found / found.sum(-1, keepdims=True)


def geometric_mean(chances: ArrayLike) -> np.ndarray:
    """Return the normalised geometric mean [K] of distributions over contents [V, K].

    Over all K rotations it is the distribution without the labels' prior.
    """
    return label_prior(chances)


def divergence(chances: ArrayLike) -> float:
    """Return the generalised Jensen-Shannon divergence of V distributions [V, K], in bits."""
    p = np.asarray(chances, dtype=np.float64)
    return max(0.0, float(entropy(p.mean(0)) - entropy(p).mean()))


def consistency(chances: ArrayLike) -> float:
    """Return 1 - divergence / log2 min(V, K) of V answers [V, K] to one question, in [0, 1]; NaN for a single one."""
    p = np.asarray(chances, dtype=np.float64)
    most = min(p.shape)
    return 1 - divergence(p) / math.log2(most) if most > 1 else math.nan


def reversed_score(score: ArrayLike, low: float, high: float) -> np.ndarray:
    """Return the score of a reverse-keyed item on a scale from `low` to `high`."""
    return low + high - np.asarray(score, dtype=np.float64)


def acquiescence(scores: ArrayLike, negated: ArrayLike, low: float, high: float) -> np.ndarray:
    """Return (E + E_neg - (low + high)) / (high - low) of items and their negations [N]: 0 says yes to neither more."""
    both = np.asarray(scores, dtype=np.float64) + np.asarray(negated, dtype=np.float64)
    return (both - (low + high)) / (high - low)


def cronbach_alpha(scores: ArrayLike) -> float:
    """Return Cronbach's alpha of scores [respondents, items]; respondents with a missing score are left out.

    NaN with fewer than two respondents or items, and where respondents do not differ.
    """
    table = np.asarray(scores, dtype=np.float64)
    table = table[~np.isnan(table).any(1)]
    people, items = table.shape
    if people < 2 or items < 2:
        return math.nan
    total = table.sum(1).var(ddof=1)
    return float(items / (items - 1) * (1 - table.var(0, ddof=1).sum() / total)) if total > 0 else math.nan


def cosine(one: ArrayLike, other: ArrayLike) -> float:
    """Return the cosine of two vectors [D]; NaN where either has no length."""
    a, b = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size > 0 else math.nan


def circle(centred: ArrayLike) -> tuple[float, float]:
    """Return the direction of a profile on a circle of D evenly spaced values, and how well one wave fits it.

    The direction is in degrees from the first value, the fit the share of the variance (R squared) of the first
    harmonic; NaN for fewer than 4 values or a flat profile.
    """
    values = np.asarray(centred, dtype=np.float64)
    angles = 2 * np.pi * np.arange(len(values)) / len(values)
    around = values - values.mean()
    spread = float(around @ around)
    if len(values) < 4 or spread == 0:
        return math.nan, math.nan
    up, along = float(around @ np.sin(angles)), float(around @ np.cos(angles))
    return math.degrees(math.atan2(up, along)) % 360, (up**2 + along**2) * 2 / len(values) / spread


def agreement(answers: ArrayLike, people: ArrayLike) -> float:
    """Return 1 - W1 / (K - 1) of two distributions over K ordered options: 1 equal, 0 at opposite ends."""
    p, q = np.asarray(answers, dtype=np.float64), np.asarray(people, dtype=np.float64)
    if p.shape != q.shape or p.ndim != 1 or len(p) < 2:
        raise UsageError(
            f"distributions of {p.shape} and {q.shape} options", fix="give two over the same K >= 2 options"
        )
    return float(1 - np.abs(np.cumsum(p) - np.cumsum(q))[:-1].sum() / (len(p) - 1))


def group_exact_match(truth: Sequence[Sequence[int]], said: Sequence[Sequence[int]]) -> tuple[float, float]:
    """Return the share of right items, and of groups in which all items are right."""
    if [len(group) for group in truth] != [len(group) for group in said] or not truth:
        raise UsageError("groups of unequal sizes, or none", fix="give one answer per item of every group")
    right = [[a == b for a, b in zip(one, other, strict=True)] for one, other in zip(truth, said, strict=True)]
    return float(np.mean([r for group in right for r in group])), float(np.mean([all(group) for group in right]))


def utilities(first: Sequence[int], second: Sequence[int], chances: ArrayLike, l2: float = 0.0) -> np.ndarray:
    """Return the priorities [D] of values in dilemmas between value `first` and value `second`, with mean 0.

    Minimises -sum [p log s(u_i - u_j) + (1 - p) log s(u_j - u_i)] + l2 / 2 |u|^2 over u, where p in `chances` is the
    probability that the option of `first` is taken. Without `l2`, a value that always wins has +inf.
    """
    size = max(*first, *second) + 1
    won = np.zeros((size, size))
    for i, j, p in zip(first, second, np.asarray(chances, dtype=np.float64), strict=True):
        won[i, j] += p
        won[j, i] += 1 - p
    return priorities(won, l2**-0.5 if l2 > 0 else None).strength


def transitivity(won: ArrayLike) -> float:
    """Return the share of triples without a cycle in choices won [D, D] (row over column); .75 is random.

    A triple with a tie or a pair that never met does not count; NaN where none counts.
    """
    table = np.asarray(won, dtype=np.float64)
    lead = np.sign(np.nan_to_num(table - table.T))
    size, counted, cycles = len(lead), 0, 0
    for i in range(size):
        for j in range(i + 1, size):
            for k in range(j + 1, size):
                around = lead[i, j], lead[j, k], lead[k, i]
                counted += 0 not in around
                cycles += abs(sum(around)) == 3
    return 1 - cycles / counted if counted else math.nan


def linear_reward(values: ArrayLike, weights: ArrayLike) -> float:
    """Return w . v of a value vector [D] in [-1, 1]; values that are NaN are not relevant and left out."""
    return float(np.nansum(np.asarray(values, dtype=np.float64) * np.asarray(weights, dtype=np.float64)))


def target_reward(values: ArrayLike, target: ArrayLike) -> float:
    """Return -|v - v*|^2 of a value vector [D]; dimensions in which either is NaN are left out."""
    return -float(np.nansum((np.asarray(values, dtype=np.float64) - np.asarray(target, dtype=np.float64)) ** 2))
