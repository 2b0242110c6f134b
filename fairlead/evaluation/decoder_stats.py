"""What decoding methods tell beside their answers: forwards, rounds, shares of tokens by source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fairlead.engines.base import Engine, Sampling
from fairlead.estimates import estimate_mean, per_prompt
from fairlead.evaluation.base import Report
from fairlead.evaluation.samples import GREEDY, draw, prompts_of, sample_rows

__all__ = ["DecoderStats"]


@dataclass(frozen=True)
class DecoderStats:
    """The mean of every number in the `stats` of engines' answers."""

    sampling: Sampling = GREEDY
    """How answers are drawn."""
    confidence: float = 0.95
    """Coverage of the intervals, between 0 and 1."""
    seed: int = 0
    """Randomness of the bootstrap."""

    example: ClassVar[Mapping[str, Any]] = {}

    def __call__(self, engines: Mapping[str, Engine], records: Sequence[Any]) -> Report:
        """Collect `Completion.extra["stats"]` of every engine's answers to the records' prompts.

        Axes: `told`, the share of answers that have numbers, and the names of the numbers. An answer without a number
        does not count in its mean. Rows: id, engine, sample, the axes.
        """
        report = Report({})
        for name, answers in draw(engines, prompts_of(records), self.sampling).items():
            stats = [[answer.extra.get("stats") or {} for answer in group] for group in answers]
            axes = sorted({axis for group in stats for one in group for axis in one})
            if not axes:
                report.notes.append(f"{name}: its answers tell no numbers")
            told = {"told": np.array([[float(bool(one)) for one in group] for group in stats])}
            values = told | {
                axis: np.array([[float(one.get(axis, np.nan)) for one in g] for g in stats]) for axis in axes
            }
            report.summary[name] = {
                axis: estimate_mean(per_prompt(found), confidence=self.confidence, seed=self.seed)
                for axis, found in values.items()
            }
            report.rows += sample_rows(name, records, values)
        return report
