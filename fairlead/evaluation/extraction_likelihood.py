"""How likely a model finds the questions it was trained on, behind its template's opening, and how much likelier than a
control that was not (Barbero et al. 2025, arXiv 2510.18554, on training with rewards).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fairlead.engines.base import Engine

__all__ = ["add_gains", "add_likelihoods", "question_logprobs"]

_GAINS = {"row": "question_gain", "held_out": "held_out_gain"}
_AT_ONCE = 256


def question_logprobs(engine: Engine, prefix: str, questions: Sequence[str]) -> np.ndarray:
    """Return the log-probs of whole questions behind a raw text, float64 [N], nats; the end of the text not counted.

    Raises:
        UnsupportedError: an engine that gives no log-probs of a text.
    """
    found = []
    for start in range(0, len(questions), _AT_ONCE):
        part = list(questions[start : start + _AT_ONCE])
        told = engine.logprobs([prefix] * len(part), part)
        found += [float(np.asarray(one, dtype=np.float64)[:-1].sum()) for one in told]
    return np.array(found)


def add_likelihoods(
    rows: Sequence[dict[str, Any]], engine: Engine, prefix: str, parts: Mapping[str, Sequence[str]], above: float
) -> None:
    """Write `logprob`, and of training rows whether it is at least `above` nats (`likely`), into the rows of each part.

    Args:
        rows: of one engine; those of a part stand in the order of its questions.
        engine: who is asked.
        prefix: what the questions stand behind.
        parts: "row" and perhaps "held_out" -> their questions.
        above: from which log-prob on a question counts as known.
    """
    for part, questions in parts.items():
        own = [row for row in rows if row["part"] == part]
        for row, value in zip(own, question_logprobs(engine, prefix, questions), strict=True):
            row["logprob"] = float(value)
            if part == "row":
                row |= {"question_logprob": float(value), "likely": float(value >= above)}


def add_gains(rows: Sequence[dict[str, Any]], control: Sequence[dict[str, Any]]) -> None:
    """Write `question_gain` and `held_out_gain`, the log-prob less the control's, into the rows of one engine."""
    before = {(row["part"], row["id"]): row["logprob"] for row in control if "logprob" in row}
    for row in rows:
        if "logprob" in row:
            row[_GAINS[row["part"]]] = row["logprob"] - before[row["part"], row["id"]]
