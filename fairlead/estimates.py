"""Estimates with intervals: means by bootstrap, rates by Wilson's score, paired differences and ratios.

NaN among the values means "no value here" (an abstention): it is left out, and `Estimate.n` counts what is left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fairlead.errors import UsageError

__all__ = [
    "RESAMPLES",
    "Estimate",
    "estimate_difference",
    "estimate_mean",
    "estimate_mean_of_means",
    "estimate_quantile",
    "estimate_rate",
    "estimate_ratio",
    "holm",
    "is_binary",
    "mcnemar",
    "pass_at_k",
    "per_prompt",
]

RESAMPLES = 2000
"""Bootstrap resamples behind an interval."""


@dataclass(frozen=True)
class Estimate:
    """A number with its interval."""

    value: float
    """The point estimate; NaN when n is 0."""
    low: float
    """Lower end of the interval; NaN where the samples allow none."""
    high: float
    """Upper end of the interval; NaN where the samples allow none."""
    n: int
    """Samples behind it."""


_NUMBERS_AT_ONCE = 2_000_000
_NOTHING = Estimate(math.nan, math.nan, math.nan, 0)


def estimate_mean(values: ArrayLike, *, confidence: float = 0.95, seed: int = 0) -> Estimate:
    """Estimate a mean with its percentile bootstrap interval (Efron 1979) over independent values [N].

    A single value has no interval (NaN).
    """
    _check(confidence)
    kept = _present(values)
    return _bootstrap((kept,), np.mean, confidence, seed) if len(kept) else _NOTHING


def estimate_rate(values: ArrayLike, *, confidence: float = 0.95, seed: int = 0) -> Estimate:
    """Estimate a share from independent values [N] in [0, 1].

    Values that are all 0 or 1 get Wilson's score interval (Wilson 1927), which stays open where a bootstrap
    collapses (500 of 500 is not "exactly 1"); shares of several samples get a bootstrap interval.
    """
    from scipy import stats

    kept = _present(values)
    if len(kept) == 0 or not is_binary(kept):
        return estimate_mean(kept, confidence=confidence, seed=seed)
    _check(confidence)
    rate = stats.binomtest(int(kept.sum()), len(kept))
    ends = rate.proportion_ci(confidence_level=confidence, method="wilson")
    return _around(float(kept.mean()), ends.low, ends.high, len(kept))


def is_binary(values: ArrayLike) -> bool:
    """Whether every value that is there is 0 or 1."""
    return bool(np.isin(_present(values), (0.0, 1.0)).all())


def estimate_difference(values: ArrayLike, baseline: ArrayLike, *, confidence: float = 0.95, seed: int = 0) -> Estimate:
    """Estimate mean(values - baseline), pair by pair [N]; pairs in which either side has no value are left out.

    Pairs of rates (all 0 or 1) get Newcombe's interval (1998, Statistics in Medicine 17:2635, method 10), which
    joins the two Wilson intervals and stays open where a bootstrap collapses; others a bootstrap over the pairs.
    """
    first, second = np.asarray(values, dtype=np.float64), np.asarray(baseline, dtype=np.float64)
    if first.shape != second.shape:
        raise UsageError(f"a paired difference of {first.shape} and {second.shape} values", fix="give N pairs")
    kept = ~np.isnan(first - second)
    first, second = first[kept], second[kept]
    if len(first) and is_binary(first) and is_binary(second):
        return _newcombe(first, second, confidence)
    return estimate_mean(first - second, confidence=confidence, seed=seed)


def estimate_ratio(sums: ArrayLike, counts: ArrayLike, *, confidence: float = 0.95, seed: int = 0) -> Estimate:
    """Estimate sum(sums) / sum(counts), such as nats per token, with a bootstrap over the N units.

    Units without a value, or with a count of 0, are left out.
    """
    _check(confidence)
    above, below = np.asarray(sums, dtype=np.float64), np.asarray(counts, dtype=np.float64)
    kept = ~np.isnan(above) & (below > 0)
    return _bootstrap((above[kept], below[kept]), _ratio, confidence, seed) if kept.any() else _NOTHING


def estimate_mean_of_means(values: ArrayLike, *, confidence: float = 0.95, seed: int = 0) -> Estimate:
    """Estimate the mean of the column means of [N, K], with a percentile bootstrap over the N rows.

    A column's mean is over its rows that have a value, and columns without any are left out. n counts the rows with
    any value; a single one has no interval.
    """
    _check(confidence)
    table = np.asarray(values, dtype=np.float64)
    present = ~np.isnan(table)
    present = present[present.any(1)]
    filled = np.nan_to_num(table[~np.isnan(table).all(1)])
    n = len(filled)
    if n == 0:
        return _NOTHING
    value = float(_mean_of_means(np.ones((1, n)), filled, present)[0])
    if n == 1:
        return Estimate(value, math.nan, math.nan, 1)
    rng = np.random.default_rng(seed)
    at_once = max(1, _NUMBERS_AT_ONCE // n)
    found = []
    for start in range(0, RESAMPLES, at_once):
        drawn = rng.multinomial(n, np.full(n, 1 / n), size=min(at_once, RESAMPLES - start))
        found.append(_mean_of_means(drawn.astype(np.float64), filled, present))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(found), [tail, 1 - tail])
    return _around(value, float(low), float(high), n)


def mcnemar(first_alone: int, second_alone: int) -> float:
    """Return the exact two-sided p-value of two systems tried on the same cases (McNemar 1947).

    Args:
        first_alone: cases in which the first succeeds and the second does not.
        second_alone: the other way round; cases that end alike for both say nothing.
    """
    from scipy import stats

    if min(first_alone, second_alone) < 0:
        raise UsageError(f"{first_alone} and {second_alone} cases", fix="count cases: 0 or more")
    cases = first_alone + second_alone
    return float(stats.binomtest(first_alone, cases).pvalue) if cases else 1.0


def holm(p_values: ArrayLike) -> np.ndarray:
    """Return p-values [M] of M questions asked at once, adjusted so that any false alarm is as rare as they say.

    Holm 1979 (Scandinavian Journal of Statistics 6:65). NaN is no question, and stays.
    """
    found = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full_like(found, np.nan)
    order = np.argsort(found, kind="stable")[: int((~np.isnan(found)).sum())]
    steps = found[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return adjusted


def pass_at_k(n: int, right: int, k: int) -> float:
    """Return the chance that `k` of `n` answers, drawn without replacement, hold one of the `right` ones.

    It estimates without bias the chance that one of k fresh answers is right (Chen et al. 2021, arXiv 2107.03374).
    """
    if not (1 <= k <= n and 0 <= right <= n):
        raise UsageError(f"pass@{k} of {n} answers, {right} of them right", fix="use 1 <= k <= n and 0 <= right <= n")
    return 1.0 - math.comb(n - right, k) / math.comb(n, k)


def estimate_quantile(values: ArrayLike, share: float, *, confidence: float = 0.95, seed: int = 0) -> Estimate:
    """Estimate a quantile, such as the median (share .5), with a bootstrap over independent values [N]."""
    _check(confidence)
    if not 0 <= share <= 1:
        raise UsageError(f"a quantile of {share}", fix="use a share between 0 and 1, such as 0.5 for the median")

    def quantile(column: np.ndarray, axis: int) -> Any:
        return np.quantile(column, share, axis=axis)

    kept = _present(values)
    return _bootstrap((kept,), quantile, confidence, seed) if len(kept) else _NOTHING


def per_prompt(values: np.ndarray) -> np.ndarray:
    """Reduce [N prompts, n samples] to each prompt's mean [N] over its samples that have a value, else NaN.

    Samples of one prompt are not independent, so intervals are taken over prompts.
    """
    present = ~np.isnan(values)
    counts = present.sum(-1)
    sums = np.where(present, values, 0.0).sum(-1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _present(values: ArrayLike) -> np.ndarray:
    found = np.asarray(values, dtype=np.float64).ravel()
    return found[~np.isnan(found)]


def _ratio(above: np.ndarray, below: np.ndarray, axis: int = -1) -> Any:
    return above.sum(axis) / below.sum(axis)


def _mean_of_means(counts: np.ndarray, filled: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Return the mean of the column means for each of R resamples, given as counts [R, N] of the rows."""
    below = counts @ present
    means = np.where(below > 0, (counts @ filled) / np.maximum(below, 1), 0.0)
    return means.sum(1) / np.maximum((below > 0).sum(1), 1)


def _newcombe(first: np.ndarray, second: np.ndarray, confidence: float) -> Estimate:
    """Join the Wilson intervals of two rates by the correlation of their pairs [N]."""
    n = len(first)
    one, two = (estimate_rate(values, confidence=confidence) for values in (first, second))
    both, neither = float(first @ second), float((1 - first) @ (1 - second))
    excess = both * neither - float(first @ (1 - second)) * float((1 - first) @ second)
    excess = max(excess - n / 2, 0.0) if excess > 0 else excess
    scale = math.sqrt(first.sum() * (n - first.sum()) * second.sum() * (n - second.sum()))
    correlation = excess / scale if scale else 0.0

    def reach(a: float, b: float) -> float:
        return math.sqrt(max(a * a - 2 * correlation * a * b + b * b, 0.0))

    gap = one.value - two.value
    low = gap - reach(one.value - one.low, two.high - two.value)
    return _around(gap, low, gap + reach(one.high - one.value, two.value - two.low), n)


def _bootstrap(columns: tuple[np.ndarray, ...], statistic: Any, confidence: float, seed: int) -> Estimate:
    from scipy import stats

    n = len(columns[0])
    value = float(statistic(*columns, axis=-1))
    if n == 1:
        return Estimate(value, math.nan, math.nan, 1)
    ends = stats.bootstrap(
        columns,
        statistic,
        n_resamples=RESAMPLES,
        batch=max(1, _NUMBERS_AT_ONCE // n),
        paired=len(columns) > 1,
        vectorized=True,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return _around(value, float(ends.low), float(ends.high), n)


def _around(value: float, low: float, high: float, n: int) -> Estimate:
    """Build an estimate whose interval holds its value in spite of rounding."""
    return Estimate(value, float(min(low, value)), float(max(high, value)), n)


def _check(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise UsageError(f"confidence is {confidence}", fix="use a share between 0 and 1, such as 0.95")
