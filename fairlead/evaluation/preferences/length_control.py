"""The win rate that two models would have if their answers were equally long, as AlpacaEval 2 computes it.

A logistic model of the verdicts, sigmoid(w1 t + w2 d + w3), with t = tanh((baseline's length - model's length) / their
standard deviation) and d the difficulty of the item, is fitted to soft verdicts with an L1 penalty of 1 / c; the win
rate at equal lengths is the mean of sigmoid(w2 d + w3). Verdicts on a concise and a verbose twin of the baseline tie
w1 and w2 to what the judge gives for length alone. Source: Dubois et al. 2024 (arXiv 2404.04475) and the code that
comes with it, `length_controlled_v1`. Lengths are in characters.

Without a reference (items other than AlpacaEval's) the model is sigmoid(w1 t + w3).
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from fairlead.errors import DataError, UsageError
from fairlead.estimates import Estimate
from fairlead.evaluation.preferences.l1_logistic import L1Logistic
from fairlead.evaluation.preferences.win_rates import as_points, check_confidence

__all__ = ["LengthControlled", "LengthReference", "length_controlled", "paired_win_rate"]

USUAL_C = 21.5443
"""Inverse strength of the penalty that AlpacaEval's cross-validation picks most often."""

_TWIN_WEIGHT = 0.1
_TWIN_SUMS = (-182.71, 412.87)
_COLUMNS = ("index", "instruction_difficulty", "len_baseline", "len_concise", "len_verbose")
_NUMBERS_AT_ONCE = 250_000


@dataclass(frozen=True)
class LengthReference:
    """What is known of AlpacaEval's items and of its baseline `gpt4_1106_preview` under its weighted GPT-4 judge."""

    difficulty: np.ndarray
    """d of every item [M], in AlpacaEval's order."""
    baseline_length: np.ndarray
    """Length of the baseline's answer [M]."""
    concise_length: np.ndarray
    """Length of its concise twin [M]."""
    verbose_length: np.ndarray
    """Length of its verbose twin [M]."""
    twin_sums: tuple[float, float] = _TWIN_SUMS
    """Sums over both twins' rows of verdict times t, and times d: all that the fit needs of those verdicts."""

    @classmethod
    def read(cls, path: str | Path) -> LengthReference:
        """Read a CSV with the columns index, instruction_difficulty, len_baseline, len_concise, len_verbose.

        Raises:
            DataError: no such file, a column that is missing, a number that is none, or items out of order.
        """
        try:
            with Path(path).open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
        except OSError as error:
            raise DataError(f"cannot be read: {error}", place=str(path), fix="check the path") from error
        columns = []
        for name in _COLUMNS:
            try:
                columns.append(np.array([float(row[name]) for row in rows]))
            except (KeyError, TypeError, ValueError) as error:
                what = f"column {name!r} is not a number in every row ({type(error).__name__})"
                raise DataError(what, place=str(path), fix=f"give the columns {', '.join(_COLUMNS)}") from error
        if not rows or (columns[0] != np.arange(len(rows))).any():
            at = int(np.flatnonzero(columns[0] != np.arange(len(rows)))[0]) if rows else 0
            what = "the index does not count 0, 1, 2, ..."
            raise DataError(what, place=f"{path}, item {at}", fix="sort the rows by index and leave none out")
        return cls(*columns[1:])

    def check(self, items: ArrayLike, baseline_lengths: ArrayLike) -> None:
        """Raise a DataError unless the baseline's answers to `items` [N] are as long as the reference says."""
        places, lengths = np.asarray(items, dtype=np.int64), np.asarray(baseline_lengths)
        outside = np.flatnonzero((places < 0) | (places >= len(self.difficulty)))
        if len(outside):
            what = f"item {places[outside[0]]} of a reference with {len(self.difficulty)}"
            raise DataError(what, place=f"verdict {outside[0]}", fix="give each item's place in the reference")
        bad = np.flatnonzero(self.baseline_length[places] != lengths)
        if len(bad):
            first = bad[0]
            what = (
                f"{len(bad)} of {len(places)} baseline answers are not as long as in the reference: item "
                f"{places[first]} has {lengths[first]:g} characters, there {self.baseline_length[places[first]]:g}"
            )
            fix = "give the items in the reference's order, or use the reference of this baseline"
            raise DataError(what, place=f"verdict {first}", fix=fix)

    def twins(self) -> np.ndarray:
        """Return (t, d) of the rows of both twins [2 M, 2]."""
        gaps = [self.baseline_length - length for length in (self.concise_length, self.verbose_length)]
        along = [np.stack([_bounded(gap, _spread(gap)), self.difficulty], 1) for gap in gaps]
        return np.concatenate(along)


@dataclass(frozen=True)
class LengthControlled:
    """A win rate at equal lengths, as a share in [0, 1]."""

    rate: Estimate
    """The win rate at equal lengths, with a bootstrap interval over items (the fit is repeated)."""
    spread: float
    """Standard error that AlpacaEval prints: that of the items' predictions, not of the estimate."""
    weights: tuple[float, float, float]
    """w1 of the length (negative: longer answers win), w2 of the difficulty (0 without a reference), w3."""
    scale: float
    """Standard deviation of the length differences, in characters."""
    difficulty: np.ndarray
    """d of the items that were used [n]; zeros without a reference."""
    notes: tuple[str, ...] = ()
    """What a reader must know: too few verdicts, an adjustment of unlikely size."""

    def at(self, gaps: ArrayLike) -> np.ndarray:
        """Return the win rate that the model predicts where answers are longer by `gaps` characters, any shape."""
        t = _bounded(-np.asarray(gaps, dtype=np.float64), self.scale)
        inner = self.weights[0] * t[..., None] + self.weights[1] * self.difficulty + self.weights[2]
        return _sigmoid(inner).mean(-1)


def length_controlled(
    points: ArrayLike,
    lengths: ArrayLike,
    baseline_lengths: ArrayLike,
    *,
    items: Sequence[int] | np.ndarray | None = None,
    reference: LengthReference | None = None,
    twins: bool = True,
    c: float = USUAL_C,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> LengthControlled:
    """Estimate a model's win rate at equal lengths.

    Args:
        points: points of the model [N]; NaN (no verdict) is left out.
        lengths: lengths of its answers [N], in characters.
        baseline_lengths: lengths of the baseline's answers [N].
        items: every verdict's place in the reference [N]; needed with a reference, whose baseline lengths must match.
        reference: difficulty and twins of AlpacaEval's items; None fits length and model alone.
        twins: whether the fit is tied by the baseline's twins; without, verbosity is overpaid.
        c: inverse strength of the L1 penalty; infinite is none, and then there may be no finite fit.
        resamples: fits to resampled items behind the interval; 0 leaves it NaN.
        confidence: coverage of the interval.
        seed: randomness of the resamples.

    Raises:
        DataError: points outside [0, 1], or a reference with other items or another order.
        UsageError: columns of unequal length, or no finite fit without a penalty.
    """
    check_confidence(confidence)
    found = as_points(points)
    columns = [np.asarray(column, dtype=np.float64) for column in (lengths, baseline_lengths)]
    if any(column.shape != found.shape for column in columns) or found.ndim != 1:
        what = f"{found.shape} verdicts with lengths {columns[0].shape} and {columns[1].shape}"
        raise UsageError(what, fix="give [N] of each")
    if not c > 0:
        raise UsageError(f"c is {c}", fix=f"use a number above 0, such as {USUAL_C}")
    kept = ~np.isnan(found)
    difficulty = _difficulty(reference, items, columns[1])[kept]
    found, gap = found[kept], (columns[1] - columns[0])[kept]
    if len(found) < 2:
        nothing = Estimate(math.nan, math.nan, math.nan, len(found))
        note = f"{len(found)} verdicts are too few for a win rate at equal lengths"
        return LengthControlled(nothing, math.nan, (math.nan, math.nan, math.nan), math.nan, difficulty, (note,))
    scale = _spread(gap)
    inputs = np.stack([_bounded(gap, scale), difficulty, np.ones_like(gap)], 1)
    tied = reference.twins() if reference is not None and twins else np.zeros((0, 2))
    sums = reference.twin_sums if len(tied) else (0.0, 0.0)  # type: ignore[union-attr]
    model = L1Logistic(inputs, found, 1 / c, np.pad(tied, ((0, 0), (0, 1))), _TWIN_WEIGHT, np.array([*sums, 0.0]))
    weights = model.fit()
    predictions = _sigmoid(inputs[:, 1:] @ weights[1:])
    rate = _interval(model, weights, float(predictions.mean()), resamples, confidence, seed)
    error = float(predictions.std(ddof=1)) / math.sqrt(len(predictions))
    notes = _notes(rate.value, float(found.mean()))
    return LengthControlled(rate, error, (*map(float, weights),), scale, difficulty, notes)  # type: ignore[arg-type]


def paired_win_rate(one: LengthControlled, other: LengthControlled, reference: LengthReference) -> float:
    """Return how often `one` beats `other` at equal lengths, both fitted against the same baseline and reference.

    The two directions add up to 1.
    """
    difficulty, model = (one.weights[k] - other.weights[k] for k in (1, 2))
    return float(_sigmoid(difficulty * reference.difficulty + model).mean())


def _difficulty(reference: LengthReference | None, items: ArrayLike | None, baseline: np.ndarray) -> np.ndarray:
    if reference is None:
        return np.zeros(len(baseline))
    if items is None:
        raise UsageError("a reference without the items' places", fix="give items: each verdict's row in the reference")
    places = np.asarray(items, dtype=np.int64)
    if places.shape != baseline.shape:
        raise UsageError(f"{places.shape} items for {baseline.shape} verdicts", fix="give [N] of each")
    reference.check(places, baseline)
    return reference.difficulty[places]


def _interval(
    model: L1Logistic, weights: np.ndarray, value: float, resamples: int, confidence: float, seed: int
) -> Estimate:
    n = len(model.targets)
    if resamples < 1:
        return Estimate(value, math.nan, math.nan, n)
    rng = np.random.default_rng(seed)
    rates: list[np.ndarray] = []
    at_once = max(1, _NUMBERS_AT_ONCE // n)
    for start in range(0, resamples, at_once):
        some = min(at_once, resamples - start)
        counts = np.stack([np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(some)]).astype(np.float64)
        drawn = model.refit(counts, weights)
        chances = _sigmoid(drawn[:, 1:] @ model.inputs[:, 1:].T)
        rates.append((counts * chances).sum(1) / n)
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(rates), [tail, 1 - tail])
    return Estimate(value, float(min(low, value)), float(max(high, value)), n)


def _notes(controlled: float, raw: float) -> tuple[str, ...]:
    """Warn of an adjustment that AlpacaEval, too, finds unlikely."""
    if min(0.75 * raw, raw - 0.1) <= controlled <= max(raw + (1 - raw) / 4, raw + 0.1):
        return ()
    return (f"equal lengths move the win rate from {raw:.3f} to {controlled:.3f}, which is unusually far",)


def _spread(gap: np.ndarray) -> float:
    return float(gap.std(ddof=1)) if len(gap) > 1 else 0.0


def _bounded(gap: np.ndarray, scale: float) -> np.ndarray:
    return np.tanh(gap / scale) if scale > 0 else np.sign(gap)


def _sigmoid(inner: np.ndarray) -> np.ndarray:
    from scipy.special import expit

    return expit(inner)
