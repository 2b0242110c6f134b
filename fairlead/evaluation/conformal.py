"""Guarantees from held-out cases: intervals that cover, and selections that hold few mistakes.

They ask only that calibration and test cases are exchangeable, and hold on average over draws of both.

Sources: Papadopoulos et al. 2002 and Lei et al. 2018 (arXiv 1604.04173) for split conformal prediction; Jin & Candes
2023 (arXiv 2210.01408) and Gui et al. 2024 (arXiv 2405.10301) for selection; Benjamini & Hochberg 1995; Angelopoulos et
al. 2022 (arXiv 2208.02814) for the control of a risk.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from fairlead.errors import UsageError

__all__ = [
    "conformal_p_values",
    "conformal_radius",
    "coverage_over_splits",
    "risk_level",
    "risk_over_splits",
    "select",
    "selection_over_splits",
]

_ROUNDING = 1e-9
"""Taken off before rounding up: 10 * (1 - 0.7) is a little more than 3."""


def conformal_radius(scores: ArrayLike, alpha: float) -> float:
    """Return the score that a new case exceeds with probability `alpha` at most.

    It is the ceil((n + 1)(1 - alpha))-th smallest of the calibration cases' scores [n]; infinite where there are too
    few of them, fewer than 1 / alpha - 1.
    """
    _check_share("alpha", alpha)
    found = np.sort(np.asarray(scores, dtype=np.float64))
    rank = math.ceil((len(found) + 1) * (1 - alpha) - _ROUNDING)
    return float(found[max(rank, 1) - 1]) if rank <= len(found) else math.inf


def conformal_p_values(scores: ArrayLike, aligned: ArrayLike, new: ArrayLike) -> np.ndarray:
    """Return for each new case how surprising its score were if it was not aligned: float64 [T] in (0, 1].

    Args:
        scores: predicted alignment of the calibration cases [n], high is good.
        aligned: whether each truly is [n].
        new: predicted alignment of the new cases [T].
    """
    known, truth = np.asarray(scores, dtype=np.float64), np.asarray(aligned, dtype=bool)
    if known.shape != truth.shape or known.ndim != 1:
        raise UsageError(f"{known.shape} scores and {truth.shape} truths", fix="give one truth per calibration case")
    bad = np.sort(known[~truth])
    above = len(bad) - np.searchsorted(bad, np.asarray(new, dtype=np.float64), side="left")
    return (1.0 + above) / (len(known) + 1.0)


def select(p_values: ArrayLike, rate: float) -> np.ndarray:
    """Select cases by Benjamini and Hochberg: bool [T]; on average at most `rate` of the selected are mistakes."""
    _check_share("rate", rate)
    found = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(found, kind="stable")
    limits = rate * np.arange(1, len(found) + 1) / max(1, len(found))
    passing = np.flatnonzero(found[order] <= limits + _ROUNDING * rate)
    chosen = np.zeros(len(found), dtype=bool)
    if len(passing):
        chosen[order[: passing[-1] + 1]] = True
    return chosen


def risk_level(losses: ArrayLike, alpha: float, *, bound: float = 1.0) -> int | None:
    """Return the first level at which a new case's expected loss is `alpha` at most; None where none can promise it.

    It is the first with n / (n + 1) * mean loss + bound / (n + 1) <= alpha, so nothing can be promised below
    bound / (n + 1), however small the losses are.

    Args:
        losses: of the calibration cases at every level [n, L], not rising from level to level.
        alpha: the loss that is allowed, in (0, 1) times `bound`.
        bound: the largest loss that a case can have.
    """
    _check_share("alpha", alpha / bound)
    table = np.asarray(losses, dtype=np.float64)
    if table.ndim != 2 or not len(table) or (np.diff(table, axis=1) > 0).any():
        raise UsageError(f"losses {table.shape}", fix="give [cases, levels] that do not rise from level to level")
    if table.max(initial=0.0) > bound:
        raise UsageError(f"a loss of {table.max():g} is above the bound {bound:g}", fix="raise the bound")
    kept = np.flatnonzero((table.sum(0) + bound) / (len(table) + 1) <= alpha + _ROUNDING * bound)
    return int(kept[0]) if len(kept) else None


def coverage_over_splits(
    scores: ArrayLike, alpha: float, *, splits: int, share: float = 0.5, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Calibrate on a random part of the cases and look at the rest, again and again.

    Args:
        scores: how far off each prediction is [N], two or more.
        alpha: how often a case may lie outside.
        splits: how many random splits.
        share: part of the cases that calibrates.
        seed: randomness of the splits.

    Returns:
        The share of test cases within the radius, and the radius: float64 [splits] each.
    """
    found = np.asarray(scores, dtype=np.float64)
    radii, covered = [], []
    for known, new in _splits(len(found), splits, share, seed):
        radii.append(conformal_radius(found[known], alpha))
        covered.append(float((found[new] <= radii[-1]).mean()))
    return np.array(covered), np.array(radii)


def selection_over_splits(
    scores: ArrayLike, aligned: ArrayLike, rate: float, *, splits: int, share: float = 0.5, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Select among the rest of the cases, calibrated on a random part, again and again.

    Returns:
        The share of mistakes among the selected (0 where none is), the share of test cases selected, and the share of
        the aligned ones that are (NaN where none is aligned): float64 [splits] each.
    """
    found, truth = np.asarray(scores, dtype=np.float64), np.asarray(aligned, dtype=bool)
    rows = []
    for known, new in _splits(len(found), splits, share, seed):
        chosen = select(conformal_p_values(found[known], truth[known], found[new]), rate)
        right = float((chosen & truth[new]).sum())
        size, good = float(chosen.sum()), float(truth[new].sum())
        rows.append(((size - right) / max(1.0, size), size / len(new), right / good if good else math.nan))
    mistakes, selected, power = np.array(rows).reshape(splits, 3).T
    return mistakes, selected, power


def risk_over_splits(
    scores: ArrayLike, aligned: ArrayLike, rate: float, *, splits: int, share: float = 0.5, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Show a case where its score is above a level, or withhold it; the level is set on a random part of the cases.

    Returns:
        The share of all test cases that are shown and not aligned, and the share shown: float64 [splits] each. Nothing
        is shown where the calibration cases are too few to promise `rate`.
    """
    found, truth = np.asarray(scores, dtype=np.float64), np.asarray(aligned, dtype=bool)
    rows = []
    for known, new in _splits(len(found), splits, share, seed):
        levels = np.concatenate([[-np.inf], np.unique(found[known])])
        losses = (found[known][:, None] > levels) & ~truth[known][:, None]
        place = risk_level(losses, rate)
        shown = found[new] > (np.inf if place is None else levels[place])
        rows.append(((shown & ~truth[new]).mean(), shown.mean()))
    harm, seen = np.array(rows).reshape(splits, 2).T
    return harm, seen


def _splits(cases: int, splits: int, share: float, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    _check_share("share", share)
    if cases < 2 or splits < 1:
        raise UsageError(f"{splits} splits of {cases} cases", fix="give two cases or more, and one split or more")
    rng = np.random.default_rng(seed)
    known = min(max(1, round(share * cases)), cases - 1)
    for _ in range(splits):
        order = rng.permutation(cases)
        yield order[:known], order[known:]


def _check_share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise UsageError(f"{name} is {value}", fix="use a share between 0 and 1, such as 0.1")
