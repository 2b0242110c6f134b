"""How much of the gap between a weak supervisor and a ceiling a student recovers, with intervals over shared items.

The performance gap recovered is `(student - weak) / (ceiling - weak)` (Burns et al., arXiv 2312.09390, section 3). It
needs no care for scores where lower is better: the signs cancel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fairlead.errors import UsageError
from fairlead.estimates import Estimate

__all__ = ["Resamples", "class_means", "expected_max", "pgr", "refusal"]

RESAMPLES = 2000


def pgr(weak: float, student: float, ceiling: float) -> float:
    """Return the performance gap recovered, neither cut at 0 nor at 1; NaN where weak and ceiling are equal."""
    return (student - weak) / (ceiling - weak) if ceiling != weak else math.nan


def expected_max(values: np.ndarray) -> np.ndarray:
    """Return the highest of each prompt's values [N, n] that are there: float64 [N], NaN where there is none."""
    highest = np.where(np.isnan(values), -np.inf, values).max(1)
    return np.where(np.isfinite(highest), highest, np.nan)


@dataclass(frozen=True)
class Resamples:
    """Bootstrap resamples of N items that every model and metric shares."""

    weights: np.ndarray
    """float64 [R, N]: how often each resample holds each item."""
    confidence: float
    """Coverage of the intervals."""

    @classmethod
    def draw(cls, items: int, *, confidence: float, seed: int) -> Resamples:
        """Draw the resamples of so many items."""
        if not 0 < confidence < 1:
            raise UsageError(f"confidence is {confidence}", fix="use a share between 0 and 1, such as 0.95")
        rng = np.random.default_rng(seed)
        return cls(rng.multinomial(items, [1 / items] * items, RESAMPLES).astype(np.float64), confidence)

    @property
    def items(self) -> int:
        """How many items there are."""
        return self.weights.shape[1]

    def ratio(self, sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Return sum(sums) / sum(counts) in every resample: [R], NaN where a resample counts nothing."""
        below = self.weights @ counts
        return np.where(below > 0, self.weights @ sums / np.where(below > 0, below, 1), np.nan)

    def estimate(self, value: float, spread: np.ndarray) -> Estimate:
        """Give `value` the percentile interval of its resamples [R]; a single item allows none."""
        if math.isnan(value):
            return Estimate(math.nan, math.nan, math.nan, 0)
        found = spread[np.isfinite(spread)]
        if self.items == 1 or not len(found):
            return Estimate(value, math.nan, math.nan, self.items)
        tail = 50 * (1 - self.confidence)
        low, high = np.percentile(found, [tail, 100 - tail])
        return Estimate(value, float(min(low, value)), float(max(high, value)), self.items)


def refusal(weak: float, ceiling: float, gap_error: float, *, least_gap: float, lower_is_better: bool) -> str | None:
    """Say why no recovered share can be reported, or None: the gap is too small, or within two standard errors.

    Args:
        weak: the supervisor's score.
        ceiling: the ceiling's.
        gap_error: standard error of their paired difference.
        least_gap: the smallest gap worth dividing by, in units of the score.
        lower_is_better: whether the ceiling ought to lie below.
    """
    gap = weak - ceiling if lower_is_better else ceiling - weak
    if gap < least_gap:
        return f"the ceiling is {gap:+.3f} better than the weak supervisor, less than {least_gap:g}"
    if not gap > 2 * gap_error:
        return f"the gap {gap:.3f} between weak supervisor and ceiling is within 2 standard errors ({gap_error:.3f})"
    return None


def class_means(right: np.ndarray, label: np.ndarray, said: np.ndarray, draws: Resamples) -> Mapping[str, Estimate]:
    """Estimate accuracy, balanced accuracy and weighted F1.

    Args:
        right: float64 [N], 1 where the answer is the truth.
        label: int64 [N], the true class.
        said: int64 [N], the class answered.
        draws: resamples of the N items.
    """
    ones = np.ones((1, len(right)))
    whole = Resamples(ones, draws.confidence)
    found: dict[str, Estimate] = {}
    for axis, measure in (("accuracy", _accuracy), ("balanced_accuracy", _balanced), ("weighted_f1", _weighted_f1)):
        value = float(measure(right, label, said, whole)[0])
        found[axis] = draws.estimate(value, measure(right, label, said, draws))
    return found


def _accuracy(right: np.ndarray, label: np.ndarray, said: np.ndarray, draws: Resamples) -> np.ndarray:
    return draws.ratio(right, np.ones(len(right)))


def _counts(right: np.ndarray, label: np.ndarray, said: np.ndarray, draws: Resamples) -> tuple[np.ndarray, ...]:
    """Return (hits, support, answered) per resample and true class: [R, C] each."""
    of_class = (label[:, None] == np.unique(label)[None]).astype(np.float64)
    answered = (said[:, None] == np.unique(label)[None]).astype(np.float64)
    return draws.weights @ (of_class * right[:, None]), draws.weights @ of_class, draws.weights @ answered


def _balanced(right: np.ndarray, label: np.ndarray, said: np.ndarray, draws: Resamples) -> np.ndarray:
    hits, support, _ = _counts(right, label, said, draws)
    there = support > 0
    recall = np.where(there, hits / np.where(there, support, 1), 0.0)
    return recall.sum(1) / there.sum(1)


def _weighted_f1(right: np.ndarray, label: np.ndarray, said: np.ndarray, draws: Resamples) -> np.ndarray:
    hits, support, answered = _counts(right, label, said, draws)
    total = support + answered
    f1 = np.where(total > 0, 2 * hits / np.where(total > 0, total, 1), 0.0)
    return (f1 * support).sum(1) / support.sum(1)
