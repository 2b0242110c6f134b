"""Win rates at equal style: length, headers, lists and bold text.

The style of an answer is four numbers, that of a pair their normalised differences, after Arena-Hard (Li et al. 2024,
arXiv 2406.11939). A logistic model of style and model says how often the model would win if both had the same style.
Differences are divided by their spread, and no mean is taken off: a model that always writes longer is not at equal
style when it writes longer as usual. Every model has a fit of its own.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fairlead.errors import UsageError
from fairlead.estimates import Estimate
from fairlead.evaluation.preferences.l1_logistic import L1Logistic
from fairlead.evaluation.preferences.length_control import USUAL_C
from fairlead.evaluation.preferences.win_rates import as_points, check_confidence

__all__ = ["STYLES", "StyleControlled", "style_controlled", "style_difference", "style_of"]

STYLES = ("length", "headers", "lists", "bold")
"""What the style of an answer is made of."""

_CODE = re.compile(r"^[ \t]*(```|~~~).*?(?:^[ \t]*\1[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
_HEADER = re.compile(r"^ {0,3}#{1,6}\s+\S", re.MULTILINE)
_LIST_LINE = re.compile(r"^[ \t]*(?:[*+\-•]|\d+[.)])[ \t]+\S", re.MULTILINE)
_BOLD = re.compile(r"(\*\*|__)(?=\S)[^\n]*?(?<=\S)\1")
_NUMBERS_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class StyleControlled:
    """A win rate at equal style, as a share in [0, 1]."""

    rate: Estimate
    """The win rate at equal style, with a bootstrap interval (the fit is repeated)."""
    weights: dict[str, float]
    """What one spread more of each part of style adds to the log-odds of winning; positive: the judge likes it."""


def style_of(text: str) -> tuple[int, int, int, int]:
    """Return words, headers, lines of lists, and bold passages of a text without its blocks of code."""
    bare = _CODE.sub("", text)
    headers, lists, bold = (sum(1 for _ in kind.finditer(bare)) for kind in (_HEADER, _LIST_LINE, _BOLD))
    return len(bare.split()), headers, lists, bold


def style_difference(text: str, other: str) -> np.ndarray:
    """Return how much more of each part of style a text has than the other, float64 [4] within -1 to 1.

    Of words (a - b) / (a + b); of the rest (a - b) / (a + b + 1) with a, b = count / (words + 1).
    """
    (one, *counts), (two, *others) = style_of(text), style_of(other)
    found = [(one - two) / (one + two) if one + two else 0.0]
    for a, b in zip((c / (one + 1) for c in counts), (c / (two + 1) for c in others), strict=True):
        found.append((a - b) / (a + b + 1))
    return np.array(found)


def style_controlled(
    points: ArrayLike,
    differences: ArrayLike,
    *,
    c: float = USUAL_C,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> StyleControlled:
    """Estimate a model's win rate at equal style.

    Args:
        points: points of the model [N]; NaN (no verdict) is left out.
        differences: of its answers' style to the baseline's [N, 4] (see `style_difference`); rows of NaN are left out.
        c: inverse strength of the L1 penalty.
        resamples: fits to resampled verdicts behind the interval; 0 leaves it NaN.
        confidence: coverage of the interval.
        seed: randomness of the resamples.

    Raises:
        DataError: points outside [0, 1].
        UsageError: columns of unequal length, or a `c` that is not above 0.
    """
    check_confidence(confidence)
    found, gaps = as_points(points), np.asarray(differences, dtype=np.float64)
    if found.ndim != 1 or gaps.shape != (len(found), len(STYLES)):
        raise UsageError(f"{found.shape} verdicts with styles {gaps.shape}", fix=f"give [N] and [N, {len(STYLES)}]")
    if not c > 0:
        raise UsageError(f"c is {c}", fix=f"use a number above 0, such as {USUAL_C}")
    kept = ~np.isnan(found) & ~np.isnan(gaps).any(1)
    found, gaps = found[kept], gaps[kept]
    if len(found) < 2:
        nothing = Estimate(math.nan, math.nan, math.nan, len(found))
        return StyleControlled(nothing, dict.fromkeys(STYLES, math.nan))
    spread = gaps.std(0, ddof=1)
    scaled = np.where(spread > 0, gaps / np.where(spread > 0, spread, 1), 0.0)
    inputs = np.column_stack([scaled, np.ones(len(found))])
    size = inputs.shape[1]
    model = L1Logistic(inputs, found, 1 / c, np.zeros((0, size)), 0.0, np.zeros(size))
    weights = model.fit()
    rate = _interval(model, weights, resamples, confidence, seed)
    return StyleControlled(rate, dict(zip(STYLES, map(float, weights))))


def _interval(model: L1Logistic, weights: np.ndarray, resamples: int, confidence: float, seed: int) -> Estimate:
    from scipy.special import expit

    n, value = len(model.targets), float(expit(weights[-1]))
    if resamples < 1:
        return Estimate(value, math.nan, math.nan, n)
    rng, rates = np.random.default_rng(seed), []
    at_once = max(1, _NUMBERS_AT_ONCE // n)
    for start in range(0, resamples, at_once):
        some = min(at_once, resamples - start)
        counts = np.stack([np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(some)]).astype(np.float64)
        rates.append(expit(model.refit(counts, weights)[:, -1]))
    low, high = np.quantile(np.concatenate(rates), [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(value, float(min(low, value)), float(max(high, value)), n)
