"""Passages of a text collection, and those that a query finds: BM25 (Robertson and Zaragoza 2009)."""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from fairlead.errors import DataError

__all__ = ["Passages", "read_passages"]

_K1 = 1.5
_B = 0.75


@dataclass(frozen=True)
class Passages:
    """Texts that are searched by their words; capitals and punctuation do not matter."""

    texts: tuple[str, ...]
    """The passages."""

    @cached_property
    def _index(self) -> tuple[dict[str, list[tuple[int, int]]], np.ndarray]:
        postings: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        lengths = np.zeros(len(self.texts))
        for i, text in enumerate(self.texts):
            words = _words(text)
            lengths[i] = len(words)
            for word, count in Counter(words).items():
                postings[word].append((i, count))
        return dict(postings), lengths

    def scores(self, query: str) -> np.ndarray:
        """Return the BM25 score of every passage [P]; 0 where it shares no word with the query."""
        postings, lengths = self._index
        found = np.zeros(len(self.texts))
        for word in dict.fromkeys(_words(query)):
            holding = postings.get(word, [])
            weight = math.log(1 + (len(self.texts) - len(holding) + 0.5) / (len(holding) + 0.5))
            for i, count in holding:
                found[i] += weight * count * (_K1 + 1) / (count + _K1 * (1 - _B + _B * lengths[i] / lengths.mean()))
        return found

    def find(self, query: str, most: int) -> list[str]:
        """Return the best passages, best first, of those that share a word with the query."""
        scores = self.scores(query)
        best = np.argsort(-scores, kind="stable")[:most]
        return [self.texts[i] for i in best if scores[i] > 0]


def read_passages(source: str | Sequence[str]) -> Passages:
    """Return passages: of a file, or the texts themselves.

    A `.jsonl` file has one passage per line, its `text`; in any other a blank line ends a passage.

    Raises:
        DataError: a file that cannot be read, or no passage.
    """
    place = source if isinstance(source, str) else "corpus"
    texts = _read(Path(source).expanduser()) if isinstance(source, str) else list(source)
    kept = tuple(text.strip() for text in texts if text.strip())
    if not kept:
        raise DataError("has no passage", place=place, fix="give texts to check facts against")
    return Passages(kept)


def _read(path: Path) -> list[str]:
    try:
        whole = path.read_text(encoding="utf-8")
        if path.suffix != ".jsonl":
            return re.split(r"\n\s*\n", whole)
        return [str(json.loads(line)["text"]) for line in whole.splitlines() if line.strip()]
    except (OSError, ValueError, KeyError, TypeError) as error:
        fix = "give a text file, or lines of JSON with a `text`"
        raise DataError(f"cannot be read ({type(error).__name__}: {error})", place=str(path), fix=fix) from error


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
