"""How often an engine finds the preferred answer of a pair likelier than the other, beside the longer-answer baseline.

On held-out preference pairs this is the accuracy of DPO's implicit reward `log policy - log reference` (Rafailov et al.
2023, arXiv 2305.18290, section 4), of the plain log-prob, and of the log-prob per token. A pair whose two values are
equal counts half.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fairlead.engines.base import Engine
from fairlead.errors import DataError, EngineError, UnknownNameError, UnsupportedError, UsageError
from fairlead.estimates import estimate_difference, estimate_mean
from fairlead.evaluation.base import Report
from fairlead.figures import intervals

__all__ = ["PairAccuracy", "single_pairs"]

_LENGTH = "length"
"""The subject that stands for the baseline without any engine."""


@dataclass(frozen=True)
class PairAccuracy:
    """Share of preference pairs in which the chosen answer gets the higher value, per engine and way of valuing."""

    reference: str | None = None
    """Engine that the others are relative to: adds the axis `implicit_reward` (log policy - log reference)."""
    confidence: float = 0.95
    """Coverage of the intervals, between 0 and 1."""
    seed: int = 0
    """Randomness of the bootstrap (of accuracies with ties, and of the gain)."""

    example: ClassVar[Mapping[str, Any]] = {"reference": "base"}

    def __call__(self, engines: Mapping[str, Engine], records: Sequence[Any]) -> Report:
        """Measure every engine on the records, which must be preferences.

        Axes of each engine: `logprob` (summed over the answer), `logprob_per_token`, and with a `reference`
        `implicit_reward` and `gain` (its accuracy minus the reference's by `logprob`, pair by pair). The subject
        `length` has the axis `longer`: the answer with more characters wins.
        Rows: id, engine, one column per axis (1 right, 0.5 equal, 0 wrong) and the margins in nats or characters.
        An engine without log-probs gets NaN and a note.
        """
        if self.reference is not None and self.reference not in engines:
            raise UnknownNameError("reference engine", self.reference, engines, place="pair_accuracy")
        if _LENGTH in engines:
            raise UsageError(
                f"no engine may be called {_LENGTH!r} here", place="pair_accuracy", fix="rename the engine"
            )
        kept, report = single_pairs(records), Report({})
        if len(kept) < len(records):
            left_out = len(records) - len(kept)
            report.notes.append(f"{left_out} of {len(records)} pairs are left out: their answers are several turns")
        scored = {name: self._logprobs(name, engine, kept, report) for name, engine in engines.items()}
        margins: dict[str, dict[str, np.ndarray]] = {}
        for name, found in scored.items():
            margins[name] = self._margins(name, scored) if found is not None else {}
        longer = np.array([len(chosen) - len(rejected) for _, _, chosen, rejected in kept], dtype=np.float64)
        margins[_LENGTH] = {"longer": longer}
        for name, columns in margins.items():
            self._add(report, name, columns, kept)
        for name in engines:
            if not margins[name]:
                report.summary[name] = {axis: estimate_mean([]) for axis in ("logprob", "logprob_per_token")}
                report.rows += [{"id": str(record.id), "engine": name} for record, *_ in kept]
        self._add_gains(report, margins)
        axes = list(dict.fromkeys(axis for found in report.summary.values() for axis in found if axis != "gain"))
        report.figures = {"pair accuracy": intervals(report.summary, axes, label="share of pairs ranked right")}
        return report

    def _logprobs(self, name: str, engine: Engine, kept: Sequence[_Pair], report: Report) -> np.ndarray | None:
        """Return [M, 2 answers, (sum, tokens)], or None and a note."""
        prompts = [record.prompt for record, *_ in kept for _ in range(2)]
        texts = [text for _, _, *pair in kept for text in pair]
        try:
            found = engine.logprobs(prompts, texts)
        except UnsupportedError as error:
            report.notes.append(f"{name}: it has no log-probs ({error.what}), so its accuracy is unknown")
            return None
        sums = [(np.asarray(row, dtype=np.float64).sum(), len(row)) for row in found]
        return np.array(sums, dtype=np.float64).reshape(len(kept), 2, 2)

    def _margins(self, name: str, scored: Mapping[str, Any]) -> dict[str, np.ndarray]:
        sums, counts = scored[name][..., 0], scored[name][..., 1]
        means = sums / np.maximum(counts, 1)
        margins = {"logprob": sums[:, 0] - sums[:, 1], "logprob_per_token": means[:, 0] - means[:, 1]}
        reference = None if self.reference in (None, name) else scored[self.reference]
        if reference is not None:
            if not np.array_equal(reference[..., 1], counts):
                what = f"{name} and {self.reference} read the answers as different tokens"
                raise EngineError(what, place="pair_accuracy", fix="compare engines that share tokenizer and template")
            relative = sums - reference[..., 0]
            margins["implicit_reward"] = relative[:, 0] - relative[:, 1]
        return margins

    def _add(self, report: Report, name: str, columns: Mapping[str, np.ndarray], kept: Sequence[_Pair]) -> None:
        if not columns:
            return
        right = {axis: _right(margin) for axis, margin in columns.items()}
        options = {"confidence": self.confidence, "seed": self.seed}
        report.summary[name] = {axis: estimate_mean(values, **options) for axis, values in right.items()}
        for i, (record, *_) in enumerate(kept):
            row: dict[str, Any] = {"id": str(record.id), "engine": name}
            row |= {axis: float(values[i]) for axis, values in right.items()}
            report.rows.append(row | {f"{axis}_margin": float(margin[i]) for axis, margin in columns.items()})

    def _add_gains(self, report: Report, margins: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        if self.reference is None or not margins[self.reference]:
            return
        before = _right(margins[self.reference]["logprob"])
        for name, columns in margins.items():
            if "implicit_reward" in columns:
                after = _right(columns["implicit_reward"])
                gain = estimate_difference(after, before, confidence=self.confidence, seed=self.seed)
                report.summary[name]["gain"] = gain


_Pair = tuple[Any, Any, str, str]
"""Record, prompt, chosen text, rejected text."""


def single_pairs(records: Sequence[Any]) -> list[tuple[Any, Any, str, str]]:
    """Return record, prompt, chosen text and rejected text of all preferences whose answers are single turns.

    Raises:
        DataError: a record of another kind, or no such pair.
    """
    found: list[tuple[Any, Any, str, str]] = []
    for record in records:
        if record.kind != "preference":
            what = f"a {record.kind} record holds no pair"
            raise DataError(what, place=f"record {record.id}", fix="evaluate on preference records")
        chosen, rejected = _text(record.chosen), _text(record.rejected)
        if chosen is not None and rejected is not None:
            found.append((record, record.prompt, chosen, rejected))
    if not found:
        raise DataError("there is no pair of single answers", fix="give preference records")
    return found


def _text(answer: Any) -> str | None:
    if isinstance(answer, str):
        return answer
    return answer[0]["content"] if [message["role"] for message in answer] == ["assistant"] else None


def _right(margin: np.ndarray) -> np.ndarray:
    return np.where(margin > 0, 1.0, np.where(margin == 0, 0.5, 0.0))
