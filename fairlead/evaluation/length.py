"""How long the answers are and why they end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fairlead.engines.base import Completion, Engine, FinishReason, Sampling
from fairlead.estimates import estimate_mean, estimate_rate, per_prompt
from fairlead.evaluation.base import Report
from fairlead.evaluation.samples import GREEDY, draw, prompts_of, sample_rows
from fairlead.figures import distribution

__all__ = ["Length"]


@dataclass(frozen=True)
class Length:
    """Words and tokens per answer, the share cut at the token limit and the share that is empty."""

    sampling: Sampling = GREEDY
    """How answers are drawn."""
    confidence: float = 0.95
    """Coverage of the intervals, between 0 and 1."""
    seed: int = 0
    """Randomness of the bootstrap."""

    example: ClassVar[Mapping[str, Any]] = {}

    def __call__(self, engines: Mapping[str, Engine], records: Sequence[Any]) -> Report:
        """Measure every engine's answers to the records' prompts.

        Axes: `words` (split at white space), `tokens` (as sampled, end of turn included), `cut` (share that reached
        the token limit), `empty` (share without a word). Rows: id, engine, sample, the axes, finish_reason.
        """
        report = Report({})
        options = {"confidence": self.confidence, "seed": self.seed}
        for name, answers in draw(engines, prompts_of(records), self.sampling).items():
            axes = {
                axis: np.array([[float(measure(answer)) for answer in group] for group in answers])
                for axis, measure in _MEASURES.items()
            }
            report.summary[name] = {axis: _ESTIMATES[axis](per_prompt(v), **options) for axis, v in axes.items()}
            reasons = [[answer.finish_reason.value for answer in group] for group in answers]
            report.rows += sample_rows(name, records, {**axes, "finish_reason": reasons})
            unknown = int(np.isnan(axes["tokens"]).sum())
            if unknown:
                report.notes.append(f"{name}: the engine does not tell the tokens of {unknown} answers")
        words = {name: [r["words"] for r in report.rows if r["engine"] == name] for name in report.summary}
        report.figures = {"words per answer": distribution(words, label="words", unit="share of answers")}
        return report


def _tokens(answer: Completion) -> float:
    return np.nan if answer.token_ids is None else len(answer.token_ids)


_MEASURES = {
    "words": lambda answer: len(answer.text.split()),
    "tokens": _tokens,
    "cut": lambda answer: answer.finish_reason is FinishReason.LENGTH,
    "empty": lambda answer: not answer.text.strip(),
}
_ESTIMATES = {"words": estimate_mean, "tokens": estimate_mean, "cut": estimate_rate, "empty": estimate_rate}
