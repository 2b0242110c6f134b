"""Labels of a weaker model for inputs whose truth it is not shown (Burns et al., arXiv 2312.09390, section 3).

A seed is a ranking record whose completions are the label words. The weak model's log-probs of these words become
probabilities, which are the scores of the new record; the seed's own scores are not used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from fairlead.engines.base import Sampling
from fairlead.errors import DataError, UsageError
from fairlead.synthesis.base import Draft, Row, Synthesizer

if TYPE_CHECKING:
    from fairlead.engines.base import Engine

__all__ = ["WeakLabels", "label_probabilities"]


@dataclass(frozen=True)
class WeakLabels(Synthesizer):
    """Soft or hard labels of a weak supervisor, from its log-probs of the label words."""

    labels: Literal["soft", "hard"] = "soft"
    """Scores of the new records: the probabilities, or 1 for the likeliest label and 0 for the others."""
    temperature: float = 1.0
    """Divides the log-probs before they are normalised; above 1 for a supervisor that is too sure of itself."""
    least_certainty: float = 0.0
    """Items whose highest probability is below this are left out, in [0, 1)."""
    sampling: Sampling = Sampling(temperature=0.0)
    """Nothing is drawn; its seed is the one that the rows name."""

    example: ClassVar[Mapping[str, Any]] = {"temperature": 1.5}
    engines: ClassVar[Mapping[str, str]] = {"weak": "labels the items"}
    reads: ClassVar[str] = "ranking"
    makes: ClassVar[str] = "ranking"
    rows_per_seed: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise UsageError(f"weak_labels.temperature is {self.temperature}", fix="use a value above 0")
        if not 0 <= self.least_certainty < 1:
            raise UsageError(f"weak_labels.least_certainty is {self.least_certainty}", fix="use a share in [0, 1)")

    def draft(self, engines: Mapping[str, Engine], seeds: Sequence[Any]) -> Iterator[Draft]:
        """Score the label words of each item, one item at a time, so that a label depends on its item alone.

        Raises:
            DataError: a label that is several turns, or a `truth` that is no number of a label.
            UnsupportedError: an engine without log-probs.
        """
        for record in seeds:
            words = [_text(record, completion) for completion in record.completions]
            found = engines["weak"].logprobs([record.prompt] * len(words), words)
            sums = [float(np.asarray(row, dtype=np.float64).sum()) for row in found]
            plain = record.prompt if isinstance(record.prompt, str) else [dict(message) for message in record.prompt]
            yield Draft(record.id, {"prompt": plain, "labels": words, "logprobs": sums, "truth": _truth(record)})

    def finish(self, drafts: Sequence[Draft], counts: Counter[str]) -> Iterator[Row]:
        """Turn the log-probs into scores; `weak` is the supervisor's label and `truth` the seed's, for evaluation.

        Counts `agreeing` and `disagreeing` labels where the truth is known, and `dropped_as_uncertain` items.
        """
        for draft in drafts:
            found = draft.found
            chances = label_probabilities(found["logprobs"], self.temperature)
            weak, truth = int(chances.argmax()), found["truth"]
            if chances[weak] < self.least_certainty:
                counts["dropped_as_uncertain"] += 1
                continue
            if truth is not None:
                counts["agreeing" if weak == truth else "disagreeing"] += 1
            scores = chances if self.labels == "soft" else np.arange(len(chances)) == weak
            yield {
                "parent": draft.parent,
                "prompt": found["prompt"],
                "completions": found["labels"],
                "scores": [float(score) for score in scores],
                "weak": weak,
                "truth": truth,
            }


def label_probabilities(logprobs: Sequence[float], temperature: float = 1.0) -> np.ndarray:
    """Normalise the summed log-probs of K label words: float64 [K], summing to 1."""
    logits = np.asarray(logprobs, dtype=np.float64) / temperature
    chances = np.exp(logits - logits.max())
    return chances / chances.sum()


def _text(record: Any, completion: Any) -> str:
    if isinstance(completion, str):
        return completion
    if [message["role"] for message in completion] == ["assistant"]:
        return completion[0]["content"]
    raise DataError("a label is several turns", place=f"record {record.id}", fix="give each label as one answer")


def _truth(record: Any) -> int | None:
    """Return the number of the true label: the column `truth`, else that of the one highest score."""
    if "truth" not in record.extra:
        top = max(record.scores)
        return record.scores.index(top) if record.scores.count(top) == 1 else None
    truth = record.extra["truth"]
    if truth is None or (isinstance(truth, int) and not isinstance(truth, bool) and 0 <= truth < len(record.scores)):
        return truth
    what = f"truth is {truth!r}, not the number of one of its {len(record.scores)} labels"
    raise DataError(what, place=f"record {record.id}", fix="number the labels from 0, or leave the column out")
