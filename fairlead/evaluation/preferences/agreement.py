"""How far a judge agrees with people: kappas, rank correlations, and agreement beside that of people themselves.

Sources: Cohen 1960 (Educational and Psychological Measurement 20:37) and 1968 (Psychological Bulletin 70:213); Fleiss
1971 (Psychological Bulletin 76:378); AlpacaFarm (Dubois et al. 2023, arXiv 2305.14387) for agreement one against one,
bias and variance; Bonett & Wright 2000 (Psychometrika 65:23) for the intervals of rank correlations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fairlead.errors import DataError, UsageError
from fairlead.estimates import Estimate, estimate_mean, estimate_rate, per_prompt
from fairlead.evaluation.preferences.win_rates import as_points, check_confidence

__all__ = ["JudgeAgreement", "cohen_kappa", "fleiss_kappa", "judge_agreement", "kendall", "middle", "spearman"]


@dataclass(frozen=True)
class JudgeAgreement:
    """A judge beside people on the same items; agreement of two verdicts is 1 - |difference of their points|."""

    with_each: Estimate
    """Agreement of the judge with one person, mean over persons and over the judge's draws."""
    with_majority: Estimate
    """Agreement of the judge's draws with the majority of persons; a tied majority agrees by half with anyone."""
    among_people: Estimate
    """Agreement of one person with another: the ceiling. Items with two persons or more."""
    left_out: Estimate
    """Agreement of a person with the majority of the other persons."""
    bias: Estimate
    """Disagreement of the median of the judge's draws with the majority of persons."""
    variance: Estimate
    """Disagreement of one draw of the judge with the median of its other draws; needs two draws."""
    missing: int
    """Items without a verdict of the judge, or of any person; they are in none of the numbers above."""

    @property
    def share_of_ceiling(self) -> float:
        """`with_each` over `among_people`; NaN where people were not compared."""
        ceiling = self.among_people.value
        return self.with_each.value / ceiling if ceiling > 0 else math.nan


def judge_agreement(judge: ArrayLike, people: ArrayLike, *, confidence: float = 0.95, seed: int = 0) -> JudgeAgreement:
    """Compare a judge with people; items are resampled for the intervals.

    Args:
        judge: points in [0, 1] of one side, [N] or [N, draws]; NaN is no verdict.
        people: points of the same side [N, persons], NaN where a person saw the item not.
        confidence: coverage of the intervals.
        seed: randomness of the bootstrap.

    Raises:
        UsageError: tables that do not have the same items.
    """
    draws, humans = as_points(judge), as_points(people)
    draws = draws[:, None] if draws.ndim == 1 else draws
    if draws.ndim != 2 or humans.ndim != 2 or len(draws) != len(humans):
        what = f"verdicts {draws.shape} of a judge beside {humans.shape} of people"
        raise UsageError(what, fix="give [N] or [N, draws] of the judge and [N, persons] of people")
    known = np.logical_not(np.isnan(draws).all(1) | np.isnan(humans).all(1))
    draws, humans = draws[known], humans[known]
    majority = middle(humans)
    options = {"confidence": confidence, "seed": seed}
    return JudgeAgreement(
        with_each=_agreement(draws[:, :, None], humans[:, None, :], **options),
        with_majority=_agreement(draws, majority[:, None], **options),
        among_people=estimate_mean(_among(humans), **options),
        left_out=estimate_mean(_against_the_others(humans), **options),
        bias=estimate_mean(np.abs(middle(draws) - majority), **options),
        variance=estimate_mean(1 - _against_the_others(draws), **options),
        missing=int(known.size - known.sum()),
    )


def cohen_kappa(first: ArrayLike, second: ArrayLike, *, quadratic: bool = False) -> float:
    """Return Cohen's kappa of two raters' labels or scores [N]; NaN is left out.

    `quadratic` weighs a disagreement by its squared distance on the scale, else all disagreements are equal. NaN where
    either chance alone explains everything (one label only) or nothing is rated by both.
    """
    one, two = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.shape != two.shape or one.ndim != 1:
        raise UsageError(f"ratings {one.shape} and {two.shape}", fix="give [N] ratings of the same items by each")
    kept = ~np.isnan(one + two)
    labels, places = np.unique([one[kept], two[kept]], return_inverse=True)
    if not kept.any():
        return math.nan
    places = places.reshape(2, -1)
    table = np.bincount(places[0] * len(labels) + places[1], minlength=len(labels) ** 2).reshape(len(labels), -1)
    shares = table / table.sum()
    gaps = np.subtract.outer(labels, labels)
    cost = gaps**2 if quadratic else (gaps != 0).astype(float)
    expected = float((cost * np.outer(shares.sum(1), shares.sum(0))).sum())
    return 1 - float((cost * shares).sum()) / expected if expected > 0 else math.nan


def fleiss_kappa(labels: ArrayLike) -> float:
    """Return Fleiss' kappa of labels [N, raters]; every item needs the same number of ratings, two or more.

    Which rater gave which label does not matter; NaN is "not rated". NaN where only one label occurs.

    Raises:
        DataError: items with unequally many ratings, or with fewer than two.
    """
    found = np.asarray(labels, dtype=np.float64)
    if found.ndim != 2:
        raise UsageError(f"labels of shape {found.shape}", fix="give [N items, raters]")
    counts = (~np.isnan(found)).sum(1)
    if not len(counts):
        return math.nan
    if counts.min() < 2 or counts.min() != counts.max():
        what = f"items have {counts.min()} to {counts.max()} ratings"
        raise DataError(what, place=f"item {counts.argmin()}", fix="use the same number of ratings (2 or more) for all")
    names = np.unique(found[~np.isnan(found)])
    table = (found[:, :, None] == names).sum(1)
    raters = counts[0]
    agreed = ((table**2).sum(1) - raters) / (raters * (raters - 1))
    chance = float(((table.sum(0) / table.sum()) ** 2).sum())
    return (float(agreed.mean()) - chance) / (1 - chance) if chance < 1 else math.nan


def spearman(first: ArrayLike, second: ArrayLike, *, confidence: float = 0.95) -> Estimate:
    """Estimate Spearman's rank correlation of two columns [N], such as win rates of N systems by judge and by people.

    NaN is left out; NaN below 3 pairs or where a column is constant. The interval needs 4 pairs, and a correlation
    within (-1, 1).
    """
    from scipy import stats

    one, two = _both(first, second)
    if _constant(one, two):
        return Estimate(math.nan, math.nan, math.nan, len(one))
    value = float(stats.spearmanr(one, two)[0])  # type: ignore[arg-type]
    return _fisher(value, len(one), (1 + value**2 / 2) / (len(one) - 3) if len(one) > 3 else math.nan, confidence)


def kendall(first: ArrayLike, second: ArrayLike, *, confidence: float = 0.95) -> Estimate:
    """Estimate Kendall's tau-b of two columns [N]; NaN is left out; NaN below 3 pairs or where a column is constant.

    The interval needs 5 pairs, and a correlation within (-1, 1).
    """
    from scipy import stats

    one, two = _both(first, second)
    if _constant(one, two):
        return Estimate(math.nan, math.nan, math.nan, len(one))
    value = float(stats.kendalltau(one, two)[0])  # type: ignore[arg-type]
    return _fisher(value, len(one), 0.437 / (len(one) - 4) if len(one) > 4 else math.nan, confidence)


def _agreement(one: np.ndarray, two: np.ndarray, **options: Any) -> Estimate:
    """Estimate agreement per item [N, ...], NaN left out within items."""
    found = 1 - np.abs(one - two)
    return estimate_rate(per_prompt(found.reshape(len(found), -1)) if len(found) else found.ravel(), **options)


def middle(points: np.ndarray) -> np.ndarray:
    """Return the side that most verdicts of an item take [N]: 1, 0, or .5 where they are even; NaN where none is."""
    present = ~np.isnan(points)
    lean = np.sign(np.where(present, points - 0.5, 0.0)).sum(1)
    return np.where(present.any(1), (np.sign(lean) + 1) / 2, np.nan)


def _among(points: np.ndarray) -> np.ndarray:
    """Return the mean agreement of two verdicts of an item [N]; NaN where there are fewer than two."""
    size = points.shape[1]
    pairs = [1 - np.abs(points[:, i] - points[:, j]) for i in range(size) for j in range(i)]
    return per_prompt(np.stack(pairs, 1)) if pairs else np.full(len(points), np.nan)


def _against_the_others(points: np.ndarray) -> np.ndarray:
    """Return the mean agreement of each verdict of an item with the majority of the others [N]."""
    if points.shape[1] < 2:
        return np.full(len(points), np.nan)
    found = [1 - np.abs(points[:, i] - middle(np.delete(points, i, 1))) for i in range(points.shape[1])]
    return per_prompt(np.stack(found, 1))


def _both(first: ArrayLike, second: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    one, two = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.shape != two.shape or one.ndim != 1:
        raise UsageError(f"columns {one.shape} and {two.shape}", fix="give [N] numbers each, pair by pair")
    kept = ~np.isnan(one + two)
    return one[kept], two[kept]


def _constant(one: np.ndarray, two: np.ndarray) -> bool:
    return len(one) < 3 or bool((one == one[0]).all() or (two == two[0]).all())


def _fisher(value: float, n: int, variance: float, confidence: float) -> Estimate:
    from scipy import stats

    check_confidence(confidence)
    if math.isnan(variance) or abs(value) >= 1 - 1e-12:
        return Estimate(value, math.nan, math.nan, n)
    reach = float(stats.norm.ppf((1 + confidence) / 2)) * math.sqrt(variance)
    middle = math.atanh(value)
    return Estimate(value, math.tanh(middle - reach), math.tanh(middle + reach), n)
