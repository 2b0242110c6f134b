"""What else than quality sways a judge: the place of an answer, its length, its lists, its author.

Sources: Zheng et al. 2023 (arXiv 2306.05685) for the names of the biases; AlpacaEval (arXiv 2305.14387) for the shares
of longer answers and of answers with lists. The line that counts as a list here must begin with its bullet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from fairlead.errors import UnknownNameError, UsageError
from fairlead.estimates import Estimate, estimate_mean, estimate_rate
from fairlead.evaluation.preferences.win_rates import as_points

__all__ = ["first_slot_rate", "has_list", "order_consistency", "prefers_lists", "prefers_longer", "self_preference"]

_LIST_LINE = re.compile(r"^[ \t]*(?:[*\-•]|\d+[.)])[ \t]*\S", re.MULTILINE)


def order_consistency(straight: ArrayLike, swapped: ArrayLike, *, confidence: float = 0.95, seed: int = 0) -> Estimate:
    """Estimate the share of items with the same verdict in both orders.

    Points [N] of the same side in both (1 in `straight` and 1 in `swapped` agree); win, tie and loss are compared.
    Items that lack a verdict in either order are left out.
    """
    one, two = as_points(straight), as_points(swapped)
    if one.shape != two.shape:
        raise UsageError(f"{one.shape} verdicts in one order, {two.shape} in the other", fix="give N pairs of verdicts")
    same = np.where(np.isnan(one + two), np.nan, np.sign(one - 0.5) == np.sign(two - 0.5))
    return estimate_rate(same, confidence=confidence, seed=seed)


def first_slot_rate(points_of_first: ArrayLike, *, confidence: float = 0.95, seed: int = 0) -> Estimate:
    """Estimate how often the answer that was shown first wins, a tie counting half: .5 is unbiased.

    Points [N] of the answer shown first, one per call of the judge.
    """
    found = as_points(points_of_first)
    won = np.where(found == 0.5, 0.5, found > 0.5)
    return estimate_rate(np.sort(np.where(np.isnan(found), np.nan, won).ravel()), confidence=confidence, seed=seed)


def prefers_longer(
    points: ArrayLike,
    lengths: ArrayLike,
    other_lengths: ArrayLike,
    *,
    margin: int = 30,
    confidence: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Estimate how often the longer answer wins where lengths differ by more than `margin`, in characters.

    Points [N] and lengths [N] of one side, lengths [N] of the other; a tie counts half.
    """
    found = as_points(points)
    gap = np.asarray(lengths, dtype=np.float64) - np.asarray(other_lengths, dtype=np.float64)
    return _share(found, np.where(np.abs(gap) > margin, np.sign(gap), 0.0), confidence, seed)


def has_list(text: str) -> bool:
    """Whether any line of a text opens with a bullet (`*`, `-`, a dot) or a number with `.` or `)`, and goes on."""
    return _LIST_LINE.search(text) is not None


def prefers_lists(
    points: ArrayLike, answers: Sequence[str], others: Sequence[str], *, confidence: float = 0.95, seed: int = 0
) -> Estimate:
    """Estimate how often the answer with a list wins where exactly one has one, a tie counting half.

    Points [N] of `answers`, texts [N] of both sides.
    """
    side = [float(has_list(one)) - float(has_list(two)) for one, two in zip(answers, others, strict=True)]
    return _share(as_points(points), np.asarray(side), confidence, seed)


def self_preference(points: Mapping[str, ArrayLike], own: str, *, confidence: float = 0.95, seed: int = 0) -> Estimate:
    """Estimate how much better a model fares under itself as judge than under the other judges, on the same pairs.

    Args:
        points: judge -> points [N] of the model `own`; pairs without a verdict of `own` and of one other are left out.
        own: the judge that is the model.
        confidence: coverage of the interval.
        seed: randomness of the bootstrap.

    Raises:
        UnknownNameError, UsageError: no such judge, no other judge, verdicts on unequally many pairs.
    """
    if own not in points:
        raise UnknownNameError("judge", own, points)
    others = [as_points(found) for judge, found in points.items() if judge != own]
    mine = as_points(points[own])
    if not others or any(found.shape != mine.shape for found in others):
        what = f"verdicts of {', '.join(points)} do not compare"
        raise UsageError(what, fix="give two judges or more, with one verdict (or NaN) per pair, in the same order")
    table = np.stack(others)
    present = ~np.isnan(table)
    counts = present.sum(0)
    mean = np.where(present, table, 0.0).sum(0) / np.maximum(counts, 1)
    return estimate_mean(np.where(counts > 0, mine - mean, np.nan), confidence=confidence, seed=seed)


def _share(points: np.ndarray, side: np.ndarray, confidence: float, seed: int) -> Estimate:
    """Estimate how often the side with +1 (this one) or -1 (the other) wins; 0 is left out."""
    if points.shape != side.shape:
        raise UsageError(f"{points.shape} verdicts on {side.shape} pairs", fix="give one verdict (or NaN) per pair")
    won = np.where(points == 0.5, 0.5, (points > 0.5) == (side > 0))
    won = np.where(np.isnan(points) | (side == 0), np.nan, won)
    return estimate_rate(np.sort(won), confidence=confidence, seed=seed)
