"""The report of an audit by principles: rates, priorities with their intervals, rows and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fairlead.estimates import Estimate, estimate_rate, estimate_ratio
from fairlead.evaluation.annotators import Opinions, PairOf
from fairlead.evaluation.base import Report
from fairlead.evaluation.principles import (
    Priorities,
    arbitrariness,
    consensus,
    discrepancy,
    in_conflict,
    priorities,
    supremacy,
    wins,
)
from fairlead.figures import THEME, Canvas, intervals, shares

__all__ = ["Priority", "add_annotator", "add_pairs", "figures_of"]

_SITUATIONS = ("consensus", "conflict", "indifference")
_FALLBACK_SD = 2.0
"""Prior of resamples that have no finite priorities of their own."""


@dataclass(frozen=True)
class Priority:
    """An annotator's priorities, and those of the resampled pairs."""

    fitted: Priorities
    """From all pairs."""
    drawn: np.ndarray
    """[R, m]: strengths of every resample, fitted to the principles whose own are finite; NaN for the others."""
    orders: np.ndarray
    """[R, m]: ranking numbers of every resample."""
    patched: int
    """Resamples that needed a prior to have finite strengths."""
    pairs: np.ndarray
    """[m]: pairs in which each principle conflicts with another, and which are decided."""
    won: np.ndarray
    """[m, m]: how often the row's principle won over the column's."""

    @classmethod
    def of(
        cls,
        table: np.ndarray,
        preferences: np.ndarray,
        clusters: np.ndarray,
        prior_sd: float | None,
        resamples: int,
        seed: int,
    ) -> Priority:
        """Fit an annotator's preferences [N] on principles [N, m], and resamples of the clusters [N] of pairs.

        The resamples of a seed are the same for every annotator.
        """
        size = int(clusters.max(initial=-1)) + 1
        won = wins(table, preferences)
        fitted = priorities(won, prior_sd)
        core = np.flatnonzero(np.isfinite(fitted.strength))
        conflicts = in_conflict(table, preferences)
        rows = conflicts.any(1)
        table, preferences = table[rows], preferences[rows]
        rng = np.random.default_rng(seed)
        drawn, orders, patched = np.full((resamples, len(won)), np.nan), np.full((resamples, len(won)), np.nan), 0
        for r in range(resamples):
            counts = rng.multinomial(size, np.full(size, 1 / size)) if size else np.zeros(0)
            again = wins(table, preferences, counts[clusters][rows])
            whole = priorities(again, prior_sd)
            inside = whole if len(core) == len(won) else priorities(again[np.ix_(core, core)], prior_sd)
            if np.isinf(inside.strength).any():
                inside, patched = priorities(again[np.ix_(core, core)], _FALLBACK_SD), patched + 1
            drawn[r, core], orders[r] = inside.strength, whole.order
        return cls(fitted, drawn, orders, patched, conflicts.sum(0), won)

    def estimates(self, names: Sequence[str], confidence: float) -> dict[str, Estimate]:
        """Return the finite priorities by principle, in logits."""
        return {
            name: _interval(float(value), self.drawn[:, i], int(self.pairs[i]), confidence)
            for i, (name, value) in enumerate(zip(names, self.fitted.strength, strict=True))
            if np.isfinite(value)
        }

    def discrepancy(self, other: Priority, confidence: float) -> Estimate | None:
        """Return the discretion discrepancy; None where fewer than two principles are ranked by both."""
        value = discrepancy(self.fitted, other.fitted)
        if np.isnan(value):
            return None
        found = [
            discrepancy(Priorities(one, one), Priorities(two, two))
            for one, two in zip(self.orders[:_DISCREPANCIES], other.orders[:_DISCREPANCIES], strict=True)
        ]
        n = min(int(self.pairs.max()), int(other.pairs.max()))
        return _interval(value, np.array(found), n, confidence)


_DISCREPANCIES = 200
"""Resamples behind the interval of a discrepancy."""


def add_pairs(
    report: Report,
    subject: str,
    pairs: Sequence[PairOf],
    names: Sequence[str],
    table: np.ndarray,
    clusters: np.ndarray,
    *,
    confidence: float,
    seed: int,
) -> None:
    """Add what the principles say of the pairs: their situations, and how often each principle speaks."""
    agreed = consensus(table)
    columns = {
        "consensus": np.abs(np.nan_to_num(agreed)),
        "conflict": (agreed == 0).astype(float),
        "indifference": np.isnan(agreed).astype(float),
    }
    speaks = np.nan_to_num(table) != 0
    columns |= {f"relevant.{name}": speaks[:, i].astype(float) for i, name in enumerate(names)}
    for i, name in enumerate(names):
        columns[f"consensus_without.{name}"] = np.abs(np.nan_to_num(consensus(np.delete(table, i, 1))))
    report.summary[subject] = {axis: _rate(values, clusters, confidence, seed) for axis, values in columns.items()}
    for i, pair in enumerate(pairs):
        row = {"id": pair.id, "engine": subject, "situation": next(s for s in _SITUATIONS if columns[s][i])}
        row |= {axis: float(values[i]) for axis, values in columns.items()}
        report.rows.append(row | {f"prefers.{name}": _plain(table[i, k]) for k, name in enumerate(names)})


def add_annotator(
    report: Report,
    who: str,
    pairs: Sequence[PairOf],
    names: Sequence[str],
    table: np.ndarray,
    opinions: Opinions,
    priority: Priority,
    clusters: np.ndarray,
    *,
    least: int,
    confidence: float,
    seed: int,
) -> None:
    """Add an annotator: how often it decides, and against whom; which principles it puts first."""
    decided = np.nan_to_num(opinions.values)
    columns = {
        "decisive": np.where(opinions.missing, np.nan, decided != 0),
        "arbitrariness": arbitrariness(table, opinions.values),
    }
    for i, name in enumerate(names):
        both = decided * np.nan_to_num(table[:, i])
        columns[f"agrees.{name}"] = np.where(both == 0, np.nan, both > 0)
    summary = {axis: _rate(values, clusters, confidence, seed) for axis, values in columns.items()}
    finite = priority.estimates(names, confidence)
    summary |= {f"priority.{name}": estimate for name, estimate in finite.items()}
    for i, name in enumerate(names):
        for j, other in enumerate(names):
            if i < j and priority.won[i, j] + priority.won[j, i] >= least:
                won = _conflicts(table, decided, i, j)
                summary[f"supremacy.{name}.{other}"] = _rate(won, clusters, confidence, seed)
    report.summary[who] = summary
    for i, pair in enumerate(pairs):
        row = {"id": pair.id, "engine": who, "prefers": _plain(opinions.values[i])}
        report.rows.append(row | {axis: _plain(values[i]) for axis, values in columns.items()})
    report.notes += _notes(who, names, opinions, priority)


def figures_of(report: Report, subject: str, names: Sequence[str], found: Mapping[str, Priority]) -> dict[str, str]:
    """Draw the situations, the arbitrariness and the priorities of all annotators, and each one's supremacies."""
    order = list(found)
    situations = {subject: {s: report.summary[subject][s].value for s in ("consensus", "indifference", "conflict")}}
    annotators = {who: report.summary[who] for who in order}
    figures = {"situations of the pairs": shares(situations, label="share of pairs")}
    figures["arbitrariness"] = intervals(
        annotators, ["arbitrariness", "decisive"], label="share against the consensus; share decided"
    )
    axes = [f"priority.{name}" for name in names]
    known = {
        who: {axis.removeprefix("priority."): summary[axis] for axis in axes if axis in summary}
        for who, summary in annotators.items()
    }
    figures["priority of principles"] = intervals(known, names, label="priority, in logits", order=order)
    for who in order:
        figures[f"supremacy for {who}"] = _table(supremacy(found[who].won), names, f"share of conflicts won, {who}")
    return figures


def _notes(who: str, names: Sequence[str], opinions: Opinions, priority: Priority) -> list[str]:
    strength = priority.fitted.strength
    notes = []
    for sign, word in ((1, "only wins"), (-1, "only loses")):
        ends = [name for name, value in zip(names, strength, strict=True) if value == sign * np.inf]
        if ends:
            notes.append(f"{who}: {', '.join(ends)} {word} in conflicts, so no priority is given")
    silent = [name for name, value in zip(names, strength, strict=True) if np.isnan(value)]
    if silent:
        notes.append(
            f"{who}: no decided conflict joins these with the others, so they have no priority: {', '.join(silent)}"
        )
    if priority.patched:
        many = len(priority.drawn)
        notes.append(f"{who}: {priority.patched} of {many} resamples had no finite priorities and got a prior of sd 2")
    ties = int((np.nan_to_num(opinions.values) == 0).sum() - opinions.missing.sum())
    if ties:
        notes.append(f"{who}: {ties} of {len(opinions.values)} pairs are not decided")
    return notes


def _conflicts(table: np.ndarray, decided: np.ndarray, i: int, j: int) -> np.ndarray:
    """Return 1 where principle i won over j, 0 where j won, NaN where they do not conflict [N]."""
    one, two = np.nan_to_num(table[:, i]), np.nan_to_num(table[:, j])
    return np.where((one * two < 0) & (decided != 0), decided == one, np.nan)


def _rate(values: np.ndarray, clusters: np.ndarray, confidence: float, seed: int) -> Estimate:
    size = int(clusters.max(initial=-1)) + 1
    if size == len(values):
        return estimate_rate(values, confidence=confidence, seed=seed)
    present = ~np.isnan(values)
    sums = np.bincount(clusters, np.where(present, values, 0.0), size)
    found = estimate_ratio(sums, np.bincount(clusters, present, size), confidence=confidence, seed=seed)
    return Estimate(found.value, found.low, found.high, int(present.sum()))


def _interval(value: float, drawn: np.ndarray, n: int, confidence: float) -> Estimate:
    known = drawn[~np.isnan(drawn)]
    if n < 2 or len(known) < 2:
        return Estimate(value, float("nan"), float("nan"), n)
    tail = (1 - confidence) / 2
    low, high = np.quantile(known, [tail, 1 - tail])
    return Estimate(value, float(min(low, value)), float(max(high, value)), n)


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _table(values: np.ndarray, names: Sequence[str], label: str) -> str:
    """Draw shares of conflicts, row's principle over column's, as a table of tinted cells."""
    size = len(names)
    with Canvas(0.9 + 0.24 * size, label, width=2.2 + 0.3 * size) as canvas:
        plot = canvas.plot
        for i in range(size):
            for j in range(size):
                if np.isnan(values[i, j]):
                    continue
                tone = THEME["good"] if values[i, j] >= 0.5 else THEME["bad"]
                plot.barh(i, 0.94, 0.9, left=j - 0.47, color=tone, alpha=0.15 + 1.2 * abs(values[i, j] - 0.5))
                plot.text(j, i, f"{100 * values[i, j]:.0f}", ha="center", va="center", fontsize=7)
        plot.set_xticks(range(size), [f"{k + 1}" for k in range(size)])
        plot.set_yticks(range(size), [f"{k + 1} {name}" for k, name in enumerate(names)])
        plot.tick_params(axis="y", labelcolor=THEME["ink"])
        plot.set_xlim(-0.6, size - 0.4)
        plot.set_ylim(size - 0.4, -0.6)
        plot.grid(visible=False)
        plot.set_xlabel("% of conflicts that the row wins")
        return canvas.svg()
