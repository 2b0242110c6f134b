"""Keep answers that are as long as they were asked to be: the two-stage filter for training long output.

Source: "Minimum Tuning to Unlock Long Output from LLMs with High Quality Data as the Key" 2024 (arXiv 2410.10210).
First only prompts with exactly one explicit length stay, then only answers whose length score is at least 80.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from fairlead.errors import DataError, UsageError
from fairlead.figures import distribution
from fairlead.messages import last_question
from fairlead.records import Record
from fairlead.rewards.lengths import COUNTS, REQUESTS, Request, given_request, length_score
from fairlead.selection.base import Selection, Selector, best_first, check_keep, chosen, number_kept
from fairlead.selection.pool import Pool, text_of

__all__ = ["LongOutput"]

_ASKS = {"none": "asks for no length", "several": "asks for several lengths", "zero": "asks for length 0"}
_NAMED = 20


@dataclass(frozen=True)
class LongOutput(Selector):
    """Keep records that ask for one length and whose answer has about that length, the nearest first."""

    score: float = 80.0
    """Least length score that is kept, above 0 and at most 100; 80 is 5/7 to 8/5 of the length asked for."""
    required: int | None = None
    """Length asked of every answer, in words; by default what the record or its prompt says."""
    column: str = "length"
    """Column of the records with the length asked for; where it is empty the prompt's last question is read."""
    parser: Literal["strict", "extended"] = "extended"
    """How it is read: as the published filter does ("500 words", no other English form), or however it is written."""
    count: Literal["published", "words"] = "published"
    """What is a word: Chinese characters and runs of ASCII letters, or `length_limit`'s words in any alphabet."""
    least: int | None = None
    """Least length asked for, in words, such as 2000 to train long answers alone; None for any."""
    keep: float | None = None
    """Most records kept: a number of them, or a share of the pool below 1; of equal scores the earlier ones."""

    example: ClassVar[Mapping[str, Any]] = {"required": 9}

    def __post_init__(self) -> None:
        if not 0 < self.score <= 100:
            raise UsageError(f"long_output.score is {self.score}", fix="use more than 0, at most 100")
        for field, value in (("required", self.required), ("least", self.least)):
            if value is not None and value < 1:
                raise UsageError(f"long_output.{field} is {value}", fix="use a number of words, from 1")
        check_keep(self.keep, "long_output")

    @property
    def keeps_by_place(self) -> bool:
        """Whether the choice depends on the order of the records: equal scores are common, and `keep` cuts them."""
        return self.keep is not None

    def choose(self, pool: Pool) -> Selection:
        """Read the lengths, score the answers, choose.

        Columns: `required` and `words` (None where no length is asked for), `length_score`, `strict_required` and
        `extended_required` (what each parser reads; None where it reads no single length, or need not read),
        `parsers_differ`.

        Raises:
            DataError: records without an answer, or a column that does not hold a length.
        """
        said = [_said(record) for record in pool]
        silent = [record.id for record, (_, answer) in zip(pool, said, strict=True) if answer is None]
        if silent:
            what = f"{len(silent)} of {len(pool)} records have no answer: {', '.join(silent[:3])}"
            raise DataError(what, fix="give conversations, preferences, feedback or rankings")
        asked = [self._asked(record, question) for record, (question, _) in zip(pool, said, strict=True)]
        words = [COUNTS[self.count](answer or "") for _, answer in said]
        lengths = [request.length for request in asked]
        scores = np.array([np.nan if x is None else length_score(x, y) for x, y in zip(lengths, words, strict=True)])
        reasons = {i: why for i in range(len(pool)) if (why := self._refusal(asked[i], words[i], scores[i]))}
        order = np.array([i for i in best_first(scores) if i not in reasons], np.int64)
        kept = order[: number_kept(self.keep, len(pool))]
        reading = [question if self._reads(record) else None for record, (question, _) in zip(pool, said, strict=True)]
        read = {
            name: [None if question is None else parse(question).length for question in reading]
            for name, parse in REQUESTS.items()
        }
        differ = [a != b for a, b in zip(read["strict"], read["extended"], strict=True)]
        columns = {
            "required": lengths,
            "words": words,
            "length_score": [None if np.isnan(s) else float(s) for s in scores],
            **{f"{name}_required": found for name, found in read.items()},
            "parsers_differ": differ,
        }
        return chosen(
            len(pool), kept, scores, reasons, "others are nearer to their length",
            columns=columns, metrics=self._metrics(scores, reasons, differ), figures=_figures(lengths, words, kept),
            notes=_notes(pool, differ),
        )  # fmt: skip

    def _reads(self, record: Record) -> bool:
        """Return whether the length is read from the prompt."""
        return self.required is None and record.extra.get(self.column) is None

    def _asked(self, record: Record, question: str) -> Request:
        if self.required is not None:
            return Request(self.required)
        if self._reads(record):
            return REQUESTS[self.parser](question)
        return given_request(record.extra[self.column], f"record {record.id}, column {self.column!r}")

    def _refusal(self, asked: Request, words: int, score: float) -> str:
        """Return why a record is left out, or nothing."""
        if asked.length is None:
            return _ASKS[asked.reason or "none"]
        if self.least is not None and asked.length < self.least:
            return f"asks for fewer than {self.least} words"
        if not words:
            return "no words in the answer"
        if score < self.score:
            return "too long" if words > asked.length else "too short"
        return ""

    def _metrics(self, scores: np.ndarray, reasons: Mapping[int, str], differ: list[bool]) -> dict[str, float]:
        asking = ~np.isnan(scores)
        return {
            "one_length": float(asking.sum()),
            "obeying": float(len(scores) - len(reasons)),
            "parsers_differ": float(sum(differ)),
            **({"length_score": float(scores[asking].mean())} if asking.any() else {}),
        }


def _said(record: Record) -> tuple[str, str | None]:
    """Return the last question of a record and its answer; None where there is none."""
    if record.kind in ("prompt", "text"):
        return "", None
    prompt = getattr(record, "prompt", "")
    completion = getattr(record, "completion", "")
    if not prompt and not isinstance(completion, str):
        answers = [turn["content"] for turn in completion if turn["role"] == "assistant"]
        return last_question(completion), answers[-1] if answers else None
    return last_question(prompt), text_of(record, "answer")


def _notes(pool: Pool, differ: list[bool]) -> tuple[str, ...]:
    ids = [record.id for record, other in zip(pool, differ, strict=True) if other]
    if not ids:
        return ()
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    shown = ", ".join(ids[:_NAMED])
    return (f"the strict and the extended parser read {len(ids)} of {len(pool)} prompts differently: {shown}{more}",)


def _figures(lengths: list[int | None], words: list[int], kept: np.ndarray) -> dict[str, str]:
    ratios = [np.nan if not x else min(y / x, 5.0) for x, y in zip(lengths, words, strict=True)]
    if not np.isfinite(ratios).any():
        return {}
    parts = {"pool": ratios, "kept": [ratios[i] for i in kept]}
    return {
        "length over length asked for": distribution(parts, label="words / words asked for, up to 5", unit="records")
    }
