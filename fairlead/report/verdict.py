"""The two things a reader wants first: did the run do what it promised, and by how much did the models change."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fairlead.estimates import Estimate
from fairlead.report.folder import RunView

__all__ = ["Headline", "Verdict", "headline", "verdict"]


@dataclass(frozen=True)
class Verdict:
    """How a run came out, in one line."""

    tone: str
    """good, bad, open (not finished) or plain (nothing was promised)."""
    text: str
    """The line."""
    detail: str = ""
    """What to know beside it."""


@dataclass(frozen=True)
class Headline:
    """The first axis of the last evaluation, for every engine."""

    step: str
    """Id of the evaluation."""
    label: str
    """The evaluator's label."""
    axis: str
    """The axis."""
    rows: tuple[tuple[str, Estimate, float | None], ...]
    """Engine, estimate, and the change from the engine before it."""
    axes: tuple[str, ...]
    """All axes of that evaluator that stand for all records."""

    def place(self, value: float) -> float:
        """Return where a value lies on the scale that all engines share, in percent; NaN stays NaN."""
        ends = [v for _, e, _ in self.rows for v in (e.value, e.low, e.high) if math.isfinite(v)]
        low, high = min(0.0, *ends), max(0.0, *ends)
        return 100 * (value - low) / (high - low) if high > low else 50.0


def verdict(run: RunView) -> Verdict:
    """Judge a run by its status and its `expect:` lines."""
    done = sum(step.status == "finished" for step in run.steps)
    progress = f"{done} of {len(run.steps)} steps finished"
    if run.status == "failed":
        return Verdict("bad", "This run failed", f"{progress}. {run.error}".strip())
    if run.status != "finished":
        line = "This run has not finished" if run.status == "running" else "How this run ended is not known"
        return Verdict("open", line, f"{progress}; what follows is what there is so far.")
    broken = sum(not e["holds"] for e in run.expectations)
    count = len(run.expectations)
    if not count:
        return Verdict("plain", "The run is finished", "Its recipe has no expect: lines to hold it to.")
    if broken:
        return Verdict("bad", f"{broken} of {count} expectations do not hold", progress)
    return Verdict("good", "The expectation holds" if count == 1 else f"All {count} expectations hold", progress)


def headline(run: RunView) -> Headline | None:
    """Return the headline numbers, None where no evaluation has any."""
    for step in reversed(run.steps):
        for label, report in step.reports.items():
            axes = list(dict.fromkeys(axis for found in report.summary.values() for axis in found if "." not in axis))
            if not axes:
                continue
            rows, before = [], None
            for engine, found in report.summary.items():
                if axes[0] in found:
                    value = found[axes[0]].value
                    rows.append((engine, found[axes[0]], None if before is None else value - before))
                    before = value
            return Headline(step.id, label, axes[0], tuple(rows), tuple(axes))
    return None
