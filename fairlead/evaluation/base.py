"""The contract of evaluators: engines or records in, a report out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Estimate", "Report"]


@dataclass(frozen=True)
class Estimate:
    """A number with its interval."""

    value: float
    """The point estimate; NaN when n is 0."""
    low: float
    """Lower end of the interval."""
    high: float
    """Upper end of the interval."""
    n: int
    """Samples behind it."""


@dataclass
class Report:
    """What an evaluator found."""

    summary: dict[str, dict[str, Estimate]]
    """subject (an engine's name) -> axis -> estimate."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """One flat dict per sample and subject; written as Parquet."""
    figures: dict[str, str] = field(default_factory=dict)
    """title -> SVG text."""
    notes: list[str] = field(default_factory=list)
    """What a reader must know: abstentions, missing cases."""

    def metrics(self) -> Mapping[str, float]:
        """Flat point estimates: "subject.axis" -> value."""
        return {f"{subject}.{axis}": e.value for subject, axes in self.summary.items() for axis, e in axes.items()}
