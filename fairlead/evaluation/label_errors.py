"""Rates freed of the errors of whoever labels: its sensitivity and specificity, from answers labelled by hand.

Source: Rogan & Gladen 1978 (American Journal of Epidemiology 107:71); the errors' own uncertainty by resampling.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fairlead.errors import DataError, UsageError
from fairlead.estimates import RESAMPLES, Estimate
from fairlead.evaluation.attack_laws import corrected_rate
from fairlead.messages import Prompt
from fairlead.records.check import Problem
from fairlead.records.sources import open_rows

__all__ = ["HandLabel", "LabelErrors", "label_errors", "read_hand_labels"]

FEW = 100
"""Hand labels below which the notes warn."""


@dataclass(frozen=True)
class HandLabel:
    """An answer that a person has labelled."""

    prompt: Prompt
    """What was asked."""
    answer: str
    """What was answered."""
    label: str
    """What the person calls the answer."""


@dataclass(frozen=True)
class LabelErrors:
    """How a labeller fares at answers of which a person has said whether they are the case."""

    found: int
    """Cases that the labeller finds, too."""
    cases: int
    """Cases by hand."""
    passed: int
    """Others that the labeller passes."""
    others: int
    """Others by hand."""

    @property
    def sensitivity(self) -> float:
        """Share of the cases that are found."""
        return self.found / self.cases

    @property
    def specificity(self) -> float:
        """Share of the others that are passed."""
        return self.passed / self.others

    def correct(self, values: ArrayLike, *, confidence: float = 0.95, seed: int = 0) -> Estimate:
        """Estimate a rate freed of the errors, from what the labeller says of independent units [N] in [0, 1].

        The interval resamples the units, and the hand labels that the errors are known from. Where some resample's
        labeller knows nothing the interval is all of [0, 1].

        Raises:
            UsageError: a labeller that is no better than chance.
        """
        kept = np.asarray(values, dtype=np.float64).ravel()
        kept = kept[~np.isnan(kept)]
        if not len(kept):
            return Estimate(math.nan, math.nan, math.nan, 0)
        value = corrected_rate(float(kept.mean()), self.sensitivity, self.specificity)
        if len(kept) == 1:
            return Estimate(value, math.nan, math.nan, 1)
        rng = np.random.default_rng(seed)
        told = np.array([kept[rng.integers(len(kept), size=len(kept))].mean() for _ in range(RESAMPLES)])
        right = rng.binomial(self.cases, self.sensitivity, RESAMPLES) / self.cases
        spared = rng.binomial(self.others, self.specificity, RESAMPLES) / self.others
        known = right + spared - 1
        if (known <= 0).any():
            return Estimate(value, 0.0, 1.0, len(kept))
        drawn = np.clip((told + spared - 1) / known, 0, 1)
        low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
        return Estimate(value, min(float(low), value), max(float(high), value), len(kept))


def label_errors(told: Sequence[str | None], by_hand: Sequence[str], case: str) -> tuple[LabelErrors, list[str]]:
    """Count how labels fare beside those of a person, being the label `case` or not; and say it.

    A label that is None is neither right nor wrong and left out.

    Raises:
        UsageError: hand labels among which all are the case, or none is.
    """
    pairs = [(one == case, other == case) for one, other in zip(told, by_hand, strict=True) if one is not None]
    cases, others = [one for one, is_case in pairs if is_case], [one for one, is_case in pairs if not is_case]
    if not cases or not others:
        what = f"of {len(pairs)} hand labels {len(cases)} are {case!r}, and {len(others)} are not"
        raise UsageError(what, fix="label answers of both kinds by hand, 100 or more in all")
    found = LabelErrors(sum(cases), len(cases), len(others) - sum(others), len(others))
    notes = [
        f"label {case!r} beside {len(pairs)} hand labels: sensitivity {found.sensitivity:.3f} "
        f"({found.found} of {found.cases}), specificity {found.specificity:.3f} ({found.passed} of {found.others})"
    ]
    if len(pairs) < FEW:
        notes.append(f"{len(pairs)} hand labels are few: corrected rates are as unsure as the errors")
    return found, notes


def read_hand_labels(source: str, labels: Sequence[str]) -> list[HandLabel]:
    """Read rows with `prompt`, `answer` and `label` (JSON Lines, JSON, Parquet, CSV).

    Raises:
        DataError: naming the row that lacks a column, or whose label is none of `labels`.
    """
    found = []
    for place, row in open_rows(source):
        where = f"{source}, {place}"
        if isinstance(row, Problem):
            raise DataError(f"{row.found} where {row.expected} belongs", place=f"{source}, {row.place}", fix=row.fix)
        missing = [name for name in ("prompt", "answer", "label") if row.get(name) is None]
        if missing:
            raise DataError(f"no {', '.join(missing)}", place=where, fix="give prompt, answer and label in every row")
        if row["label"] not in labels:
            raise DataError(f"label {row['label']!r}", place=where, fix=f"use one of {', '.join(labels)}")
        prompt = row["prompt"]
        turns: Prompt = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        found.append(HandLabel(turns, str(row["answer"]), str(row["label"])))
    if not found:
        raise DataError("there is no hand label", place=source, fix="give rows with prompt, answer and label")
    return found
