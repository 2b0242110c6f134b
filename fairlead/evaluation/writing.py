"""How well long answers are written, in the opinion of a judge: six aspects, whatever the length.

Source: Bai et al. 2024, LongWriter (arXiv 2408.07055), whose quality score it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fairlead.engines.base import Completion, EngineSpec, Sampling
from fairlead.errors import UnsupportedError
from fairlead.evaluation.aspect_judge import AspectJudge
from fairlead.messages import Prompt

__all__ = ["JUDGED", "WRITING", "quality_of", "rate_writing"]

WRITING = {
    "relevance": "However long it is: it keeps to what was asked.",
    "accuracy": "However long it is: what it says is right.",
    "coherence": "However long it is: its parts follow from each other and make a whole.",
    "clarity": "However long it is: it is written plainly and in good order.",
    "breadth": "However long it is: it covers its subject, and goes into it.",
    "reading": "However long it is: it is a pleasure to read.",
}
"""What the writing is rated by."""

JUDGED = Sampling(temperature=0.5, max_tokens=1024)
"""How the judge's replies are drawn in the paper."""


def quality_of(scores: Sequence[float]) -> float:
    """Return the quality, 0 to 100, of scores from 1 to 5."""
    return 25 * (float(np.mean(scores)) - 1)


def rate_writing(
    judge: EngineSpec, answers: Mapping[str, Sequence[Sequence[Completion]]], records: Sequence[Any]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Let a judge rate every answer.

    Args:
        judge: who.
        answers: by engine; n to each of N records.
        records: what was asked.

    Returns:
        Quality, 0 to 100, by engine: float64 [N, n], NaN where there is no verdict. And what must be known of it.
    """
    n = len(next(iter(answers.values()))[0])
    rater = AspectJudge(
        judge=judge, aspects=WRITING, safety={}, sampling=Sampling(n=n), judge_sampling=JUDGED, retries=4
    )
    report = rater({name: _Given(found) for name, found in answers.items()}, records)
    found = {name: [row for row in report.rows if row["engine"] == name] for name in answers}
    quality = {name: np.array([_quality(row) for row in rows]).reshape(-1, n) for name, rows in found.items()}
    return quality, report.notes


def _quality(row: Mapping[str, Any]) -> float:
    scores = [row[aspect] for aspect in WRITING if row[aspect] is not None]
    return quality_of(scores) if scores else np.nan


class _Given:
    """Answers that are there already, as an engine."""

    fingerprint = "answers that are there"

    def __init__(self, answers: Sequence[Sequence[Completion]]):
        self.answers = answers

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        return [list(group) for group in self.answers]

    def logprobs(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[np.ndarray]:
        raise UnsupportedError("answers that are there say no log-probs", fix="ask the model")
