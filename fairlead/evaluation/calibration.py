"""How far probabilities can be believed: calibration, proper scores, and what is gained by keeping silent when unsure.

Sources: Brier 1950 (Monthly Weather Review 78:1); Naeini et al. 2015 (AAAI) for the calibration error in bins of equal
width; Geifman & El-Yaniv 2017 (arXiv 1705.08500) for risk and coverage; Kuhn et al. 2023 (arXiv 2302.09664) for the
entropy of meanings.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fairlead.errors import DataError, UsageError
from fairlead.estimates import RESAMPLES, Estimate

__all__ = [
    "brier_scores",
    "calibration_error",
    "estimate_calibration_error",
    "log_losses",
    "meaning_entropy",
    "ranking_quality",
    "reliability",
    "risk_coverage",
]

_LEAST = 1e-12
"""A probability below this counts as this in a logarithm."""


def reliability(chances: ArrayLike, happened: ArrayLike, bins: int = 10) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return per bin of equal width: mean chance, share that happened (NaN in empty bins), and cases, float64 [bins].

    Args:
        chances: told probabilities [N]; 1 belongs to the last bin.
        happened: whether it did [N], as 0 or 1.
        bins: how many.
    """
    told, truth = _cases(chances, happened)
    return _binned(told[None], truth[None], bins)


def calibration_error(chances: ArrayLike, happened: ArrayLike, bins: int = 10) -> float:
    """Return the expected calibration error: the mean distance of told chance and share, bins weighing by cases.

    NaN without cases. See `reliability` for the arguments.
    """
    told, truth = _cases(chances, happened)
    return float(_errors(told[None], truth[None], bins)[0]) if len(told) else math.nan


def estimate_calibration_error(
    chances: ArrayLike, happened: ArrayLike, bins: int = 10, *, confidence: float = 0.95, seed: int = 0
) -> Estimate:
    """Estimate the calibration error with a percentile bootstrap over the cases [N].

    The error is never below 0, so few cases look worse calibrated than they are; so do their resamples.
    """
    told, truth = _cases(chances, happened)
    n = len(told)
    value = calibration_error(told, truth, bins)
    if n < 2:
        return Estimate(value, math.nan, math.nan, n)
    rng, found = np.random.default_rng(seed), []
    at_once = max(1, 1_000_000 // n)
    for start in range(0, RESAMPLES, at_once):
        drawn = rng.integers(n, size=(min(at_once, RESAMPLES - start), n))
        found.append(_errors(told[drawn], truth[drawn], bins))
    low, high = np.quantile(np.concatenate(found), [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(value, min(float(low), value), max(float(high), value), n)


def brier_scores(chances: ArrayLike, happened: ArrayLike) -> np.ndarray:
    """Return the squared distances of chances and outcomes [N]: 0 is best, .25 is what .5 gets."""
    told, truth = _cases(chances, happened)
    return (told - truth) ** 2


def log_losses(chances: ArrayLike, happened: ArrayLike) -> np.ndarray:
    """Return -log of the chance of what happened [N], in nats; a chance of 0 counts as 1e-12."""
    told, truth = _cases(chances, happened)
    return -np.log(np.maximum(np.where(truth == 1, told, 1 - told), _LEAST))


def risk_coverage(confidence: ArrayLike, right: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return what answering only the surest cases gives: coverage and share of errors among them, float64 [N] each.

    Cases of equal confidence are answered together: within such a group errors are spread evenly.

    Args:
        confidence: how sure each case is [N], on any scale.
        right: whether it is right [N], as 0 or 1.
    """
    sure, truth = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if sure.shape != truth.shape or sure.ndim != 1:
        raise UsageError(f"{sure.shape} confidences and {truth.shape} outcomes", fix="give one outcome per case")
    levels, group = np.unique(-sure, return_inverse=True)
    sizes = np.bincount(group, minlength=len(levels))
    share = np.bincount(group, 1 - truth, len(levels)) / np.maximum(sizes, 1)
    wrong = np.cumsum(share[np.sort(group)])
    answered = np.arange(1, len(sure) + 1)
    return answered / max(1, len(sure)), wrong / answered


def ranking_quality(confidence: ArrayLike, right: ArrayLike) -> float:
    """Return the chance that a right case is surer than a wrong one, ties half (AUROC); NaN where there is one kind."""
    from scipy.stats import rankdata

    sure, truth = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=bool)
    good, bad = int(truth.sum()), int((~truth).sum())
    if not good or not bad:
        return math.nan
    return float((rankdata(sure)[truth].sum() - good * (good + 1) / 2) / (good * bad))


def meaning_entropy(meanings: Sequence[Hashable]) -> float:
    """Return the entropy of answers over their meanings, in nats: 0 where all mean the same; NaN without answers."""
    counts = np.array(list(Counter(meanings).values()), dtype=np.float64)
    if not len(counts):
        return math.nan
    shares = counts / counts.sum()
    return max(0.0, float(-(shares * np.log(shares)).sum()))


def _cases(chances: Any, happened: Any) -> tuple[np.ndarray, np.ndarray]:
    told, truth = np.asarray(chances, dtype=np.float64), np.asarray(happened, dtype=np.float64)
    if told.shape != truth.shape or told.ndim != 1:
        raise UsageError(f"{told.shape} chances and {truth.shape} outcomes", fix="give one outcome per chance")
    bad = np.flatnonzero(~((told >= 0) & (told <= 1)))
    if len(bad):
        what = f"a chance of {told[bad[0]]:g}"
        raise DataError(what, place=f"case {bad[0]}", fix="give probabilities between 0 and 1")
    if not np.isin(truth, (0, 1)).all():
        raise DataError("an outcome is neither 0 nor 1", fix="give 1 where it happened, else 0")
    return told, truth


def _binned(told: np.ndarray, truth: np.ndarray, bins: int) -> Any:
    """Return mean chances, shares and counts of one table [1, N], float64 [bins] each."""
    sums, hits, counts = _sums(told, truth, bins)
    with np.errstate(invalid="ignore"):
        return (sums / counts)[0], (hits / counts)[0], counts[0]


def _sums(told: np.ndarray, truth: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if bins < 1:
        raise UsageError(f"{bins} bins", fix="use 1 or more, such as 10")
    rows = len(told)
    place = np.minimum((told * bins).astype(np.int64), bins - 1) + bins * np.arange(rows)[:, None]
    return tuple(  # type: ignore[return-value]
        np.bincount(place.ravel(), None if what is None else what.ravel(), rows * bins)
        .astype(float)
        .reshape(rows, bins)
        for what in (told, truth, None)
    )


def _errors(told: np.ndarray, truth: np.ndarray, bins: int) -> np.ndarray:
    """Return the calibration errors [R] of R tables [R, N]."""
    sums, hits, _ = _sums(told, truth, bins)
    return np.abs(sums - hits).sum(1) / told.shape[1]
