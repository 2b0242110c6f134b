"""Leave out records that a test set holds, too: by runs of words, and by vectors.

Sources: Brown et al. 2020 (arXiv 2005.14165, appendix C) for runs of 13 normalised words; shorter test rows are looked
for whole.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fairlead import records
from fairlead.engines.embedding import Embedding
from fairlead.errors import DataError, UsageError
from fairlead.figures import distribution
from fairlead.records import Record
from fairlead.selection.base import Selection, Selector, chosen
from fairlead.selection.pool import Part, Pool, text_of

__all__ = ["Decontaminate", "normalised_words"]

_BLOCK = 1024
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WORD = re.compile(rf"[{_CJK}]|(?:(?![{_CJK}])[^\W_])+")


@dataclass(frozen=True)
class Decontaminate(Selector):
    """Keep records that share no run of words with any row of the test sets, nor lie close to one."""

    against: str | tuple[str, ...]
    """The test sets: a path, `harbor:SET`, a hub id, or several."""
    words: int = 13
    """Length of the runs, in words. A test row with fewer words is looked for whole."""
    shortest: int = 5
    """Test rows with fewer words than this are passed over by runs of words, and counted: "yes" is everywhere."""
    share: float = 0.0
    """Share of a test row's runs that a record must hold to be left out; 0 for any one of them."""
    embedding: Embedding | str | None = None
    """How texts become vectors, or the column that holds vectors, in the pool and in the test sets; None for words
    alone."""
    above: float = 0.9
    """Cosine from which a record is too close to a test row, with an embedding."""
    part: Part = "all"
    """Which text of a record, and of a test row, is compared."""

    sources: ClassVar[tuple[str, ...]] = ("against",)

    example: ClassVar[Mapping[str, Any]] = {"against": "harbor:test?n=30"}

    def __post_init__(self) -> None:
        if not self.against:
            raise UsageError("decontaminate.against is empty", fix="name at least one test set")
        for field, least in (("words", 1), ("shortest", 1)):
            if getattr(self, field) < least:
                raise UsageError(f"decontaminate.{field} is {getattr(self, field)}", fix=f"use {least} or more")
        if not 0 <= self.share <= 1:
            raise UsageError(f"decontaminate.share is {self.share}", fix="use a share of a test row, 0 to 1")
        if not -1 < self.above <= 1:
            raise UsageError(f"decontaminate.above is {self.above}", fix="use a cosine, such as 0.9")

    def choose(self, pool: Pool) -> Selection:
        """Compare every record with every test row.

        Columns: `overlap` (largest share of a test row's runs that the record holds) and `overlap_row` (which row, as
        source#id), with an embedding also `cosine` and `cosine_row`; None where no row is touched.

        Raises:
            DataError: a test set that cannot be read or is empty; vectors that are missing or not finite.
        """
        vectors = None if self.embedding is None else pool.vectors(self.embedding, self.part)
        tests, names = self._tests()
        runs = _Runs([text_of(row, self.part) for row in tests], self.words, self.shortest)
        overlap, touched = runs.best(pool.texts(self.part))
        left_out = {i: f"overlaps with {_source(names[r])}" for i, r in touched.items() if overlap[i] >= self.share}
        columns: dict[str, list[Any]] = {
            "overlap": overlap.tolist(),
            "overlap_row": [names[touched[i]] if i in touched else None for i in range(len(pool))],
        }
        scores = 1 - overlap
        if vectors is not None and self.embedding is not None:
            theirs = pool.beside(tests).vectors(self.embedding, self.part)
            cosine, nearest = _nearest(vectors, theirs)
            close = {int(i): f"close to {_source(names[nearest[i]])}" for i in np.flatnonzero(cosine >= self.above)}
            left_out = close | left_out
            there = np.abs(vectors).sum(1) > 0
            columns["cosine"] = [float(c) if t else None for c, t in zip(cosine, there, strict=True)]
            columns["cosine_row"] = [names[r] if t else None for r, t in zip(nearest.tolist(), there, strict=True)]
            scores = 1 - np.maximum(overlap, cosine)
        kept = [i for i in range(len(pool)) if i not in left_out]
        hit = {names[touched[i]] for i in left_out if i in touched and overlap[i] >= self.share}
        return chosen(
            len(pool), kept, scores, left_out, "contaminated", columns=columns,
            metrics=_metrics(names, left_out, hit, runs.skipped, columns), figures=_figures(columns),
            notes=self._notes(names, runs.skipped),
        )  # fmt: skip

    def _tests(self) -> tuple[list[Record], list[str]]:
        rows: list[Record] = []
        names: list[str] = []
        for source in (self.against,) if isinstance(self.against, str) else self.against:
            found = records.read(source)
            if not len(found):
                raise DataError("the test set has no rows", place=source, fix="name one that has")
            rows += list(found)
            names += [f"{source}#{row.id}" for row in found]
        return rows, names

    def _notes(self, names: Sequence[str], skipped: int) -> tuple[str, ...]:
        sources = Counter(map(_source, names))
        read = ", ".join(f"{count:,} rows of {source}" for source, count in sources.items())
        short = f"; {skipped:,} of them have fewer than {self.shortest} words, so no runs" if skipped else ""
        return (f"compared with {read}{short}",)


def normalised_words(text: str) -> list[str]:
    """Return the words of a text in lower case, without punctuation; of Chinese, its characters."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).lower())


class _Runs:
    """The runs of words of test rows, by length."""

    def __init__(self, texts: Sequence[str], length: int, shortest: int):
        self._rows: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        self._totals = np.ones(len(texts))
        self.skipped = 0
        for r, text in enumerate(texts):
            words = normalised_words(text)
            if len(words) < min(shortest, length):
                self.skipped += 1
                continue
            size = min(length, len(words))
            runs = _runs(words, size)
            self._totals[r] = len(runs)
            for run in runs:
                self._rows[size][run].append(r)

    def best(self, texts: Sequence[str]) -> tuple[np.ndarray, dict[int, int]]:
        """Return the largest share of a test row's runs in each text, [N], and text -> that row, where there is one."""
        shares, touched = np.zeros(len(texts)), {}
        for i, text in enumerate(texts):
            words = normalised_words(text)
            counts: Counter[int] = Counter()
            for size, rows in self._rows.items():
                for run in _runs(words, size):
                    counts.update(rows.get(run, ()))
            if counts:
                row = min(counts, key=lambda r: (-counts[r] / self._totals[r], r))
                shares[i], touched[i] = counts[row] / self._totals[row], row
        return shares, touched


def _runs(words: Sequence[str], size: int) -> set[str]:
    return {" ".join(words[start : start + size]) for start in range(len(words) - size + 1)}


def _nearest(rows: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the highest cosine of each row [N] with any of the others, and which one; -1 for rows of zeros."""
    first, second = (part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-12) for part in (rows, others))
    cosine, nearest = np.empty(len(rows)), np.empty(len(rows), np.int64)
    for start in range(0, len(rows), _BLOCK):
        found = first[start : start + _BLOCK] @ second.T
        nearest[start : start + _BLOCK] = found.argmax(1)
        cosine[start : start + _BLOCK] = found.max(1)
    return np.where(np.abs(rows).sum(1) > 0, cosine, -1.0), nearest


def _source(name: str) -> str:
    return name.rpartition("#")[0]


def _metrics(
    names: Sequence[str], left_out: Mapping[int, str], hit: set[str], skipped: int, columns: Mapping[str, list[Any]]
) -> dict[str, float]:
    cosines = [cosine for cosine in columns.get("cosine", ()) if cosine is not None]
    return {
        "test_rows": float(len(names)),
        "test_rows_without_runs": float(skipped),
        "contaminated": float(len(left_out)),
        "by_words": float(sum(why.startswith("overlaps") for why in left_out.values())),
        "test_rows_hit": float(len(hit)),
        **({"largest_cosine": max(cosines)} if cosines else {}),
    }


def _figures(columns: Mapping[str, list[Any]]) -> dict[str, str]:
    titles = {"overlap": "share of a test row's runs", "cosine": "cosine with the nearest test row"}
    return {
        name: distribution({"pool": columns[name]}, label=label, unit="records")
        for name, label in titles.items()
        if name in columns
    }
