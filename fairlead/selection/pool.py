"""The records that a selector chooses from, and what it may know of them: columns, texts, vectors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, overload

import numpy as np

from fairlead.engines.embedding import Embedding, Vectors
from fairlead.errors import DataError
from fairlead.messages import Prompt
from fairlead.records import Record

__all__ = ["Part", "Pool", "text_of"]

Part: TypeAlias = Literal["all", "prompt", "answer"]
"""Which of a record's texts: all of them, what was asked, or the (first, preferred) answer."""

_NAMED = 3


class Pool(Sequence[Record]):
    """Records, in order, with their columns and vectors.

    Args:
        records: the records.
        vectors: folder in which vectors are kept; without, they are made anew.
        advance: is told how many texts are embedded.
    """

    def __init__(
        self,
        records: Sequence[Record],
        *,
        vectors: Path | None = None,
        advance: Callable[[int], None] = lambda n: None,
    ):
        self.records = records
        self.notes: list[str] = []
        self._vectors, self._advance = vectors, advance
        self._made: dict[tuple[Embedding | str, Part], np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.records)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | Sequence[Record]:
        return self.records[index]

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def has(self, column: str) -> bool:
        """Whether any record has the column."""
        return any(column in record.extra for record in self.records)

    def values(self, column: str) -> list[Any]:
        """Return a column as it stands, [N].

        Raises:
            DataError: records that do not have it.
        """
        lacking = [record.id for record in self.records if column not in record.extra]
        if lacking:
            there = sorted({name for record in self.records[:1000] for name in record.extra})
            fix = f"score the records first; the columns here are {', '.join(there) or 'none'}"
            raise DataError(f"{len(lacking)} of {len(self)} records have no column {column!r}{_such(lacking)}", fix=fix)
        return [record.extra[column] for record in self.records]

    def numbers(self, column: str, *, missing: bool = False) -> np.ndarray:
        """Return a column of numbers, float64 [N].

        Args:
            column: its name.
            missing: take None, NaN and a column that some records lack as NaN instead of refusing them.

        Raises:
            DataError: values that are no numbers, not finite, or absent.
        """
        values = [r.extra.get(column) for r in self.records] if missing and self.has(column) else self.values(column)
        found = np.array([_number(value) for value in values], np.float64)
        nothing = [missing and (value is None or value != value) for value in values]
        bad = [self.records[i].id for i in np.flatnonzero(~np.isfinite(found)).tolist() if not nothing[i]]
        if bad:
            fix = "score these records again, or leave them out first"
            raise DataError(f"{len(bad)} of {len(self)} values of {column!r} are no finite number{_such(bad)}", fix=fix)
        return found

    def lists(self, column: str) -> list[np.ndarray]:
        """Return a column of numbers per turn, float64 [T_i] each; a bare number is a list of one.

        Raises:
            DataError: values that are neither, or not finite, or absent.
        """
        found = []
        bad = []
        for record, value in zip(self.records, self.values(column), strict=True):
            turns = np.array([_number(v) for v in value] if isinstance(value, list | tuple) else [_number(value)])
            if not len(turns) or not np.isfinite(turns).all():
                bad.append(record.id)
            found.append(turns)
        if bad:
            fix = "score these records again, or leave them out first"
            raise DataError(f"{len(bad)} of {len(self)} values of {column!r} are not all finite{_such(bad)}", fix=fix)
        return found

    def texts(self, part: Part = "all") -> list[str]:
        """Return the texts of the records, [N]; what was said in several turns stands in several lines."""
        return [text_of(record, part) for record in self.records]

    def vectors(self, embedding: Embedding | str, part: Part = "all") -> np.ndarray:
        """Return the records' vectors, float32 [N, D].

        Args:
            embedding: how texts are embedded, or the name of a column that holds vectors.
            part: which text of a record.

        Raises:
            DataError: a column that does not hold vectors of one size; vectors that are not finite.
            MissingExtraError, ModelError: the model cannot be used.
        """
        key = (embedding, part)
        if key not in self._made:
            self._made[key] = self._column(embedding) if isinstance(embedding, str) else self._embed(embedding, part)
        found = self._made[key]
        bad = [self.records[i].id for i in np.flatnonzero(~np.isfinite(found).all(1)).tolist()]
        if bad:
            raise DataError(f"{len(bad)} of {len(self)} vectors are not finite{_such(bad)}", fix="embed them again")
        return found

    def beside(self, records: Sequence[Record]) -> Pool:
        """Return a pool of other records whose vectors are kept in the same place, such as the other side of pairs."""
        return Pool(records, vectors=self._vectors)

    def _embed(self, embedding: Embedding, part: Part) -> np.ndarray:
        texts = self.texts(part)
        cut = embedding.cut(texts)
        if cut:
            self.notes.append(f"{embedding.model} reads only the beginning of {cut} of {len(texts)} texts")
        if self._vectors is None:
            return embedding(texts)
        return Vectors(self._vectors).of(embedding, texts, self._advance)

    def _column(self, column: str) -> np.ndarray:
        values = self.values(column)
        try:
            found = np.array(values, np.float32)
        except (TypeError, ValueError):
            found = np.zeros(0)
        if found.ndim != 2:
            raise DataError(f"column {column!r} does not hold vectors of one size", fix="give lists of numbers")
        return found


def text_of(record: Record, part: Part = "all") -> str:
    """Return a record's text: its turns, each on lines of its own."""
    asked, answered = _asked(record), _answer(record)
    if record.kind == "conversation" and not isinstance(answered, str) and not asked:
        asked = tuple(turn for turn in answered if turn["role"] != "assistant") if part == "prompt" else ()
        answered = tuple(turn for turn in answered if turn["role"] == "assistant") if part == "answer" else answered
    parts = {"all": (asked, answered), "prompt": (asked,), "answer": (answered,)}[part]
    return "\n".join(text for each in parts for text in _contents(each))


def _asked(record: Any) -> Prompt | str:
    return getattr(record, "prompt", "")


def _answer(record: Any) -> Any:
    for name in ("completion", "chosen", "text"):
        if hasattr(record, name):
            return getattr(record, name)
    if hasattr(record, "completions"):
        return record.completions[int(np.argmax(record.scores))]
    return ""


def _contents(part: Any) -> list[str]:
    texts = [part] if isinstance(part, str) else [turn["content"] for turn in part]
    return [text for text in texts if text]


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def _such(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    return f": {', '.join(map(str, ids[:_NAMED]))}{more}"
