"""How near written texts come to known ones: the best match by vectors and by edits, and a threshold to call it a copy.

Source: Barbero et al. 2025, "Extracting alignment data in open models" (arXiv 2510.18554): best cosine against a whole
training set, and Levenshtein's and the indel similarity beside it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fairlead import models
from fairlead.errors import DataError
from fairlead.evaluation.ngrams import word_vectors, words_of

__all__ = [
    "Best",
    "best_by_edits",
    "best_by_vectors",
    "calibrated",
    "numbers_of",
    "pair_of",
    "placements",
    "squeezed",
    "vectors_of",
]

_BLOCK = 1024
_ROLES = ("user", "assistant")
_ANSWERS = {"conversation": "completion", "preference": "chosen", "feedback": "completion"}


@dataclass(frozen=True)
class Best:
    """The nearest of N known texts for each of M written ones."""

    value: np.ndarray
    """[M]: its similarity; -inf where nothing is known."""
    place: np.ndarray
    """[M]: its number, the lowest among equals; 0 where nothing is known."""
    first: np.ndarray
    """[N]: the number of the first written text that reaches the limit for this known one; M where none does."""


def squeezed(text: str) -> str:
    """Return a text with every run of blanks as one space, and none at its ends."""
    return " ".join(text.split())


def numbers_of(text: str) -> list[str]:
    """Return the numbers of a text, in order."""
    return re.findall(r"\d+(?:\.\d+)?", text)


def pair_of(record: Any) -> tuple[str, str]:
    """Return the first question of a record and its answer ("" for a record that is a prompt alone).

    Raises:
        DataError: a record of text or several answers, or one without a question or its answer.
    """
    place, fix = f"record {record.id}", "give questions with answers (or prompts alone, to look for questions)"
    if record.kind == "prompt":
        answer: Any = ()
    elif record.kind in _ANSWERS:
        answer = getattr(record, _ANSWERS[record.kind])
    else:
        raise DataError(f"a {record.kind} record is no question with one answer", place=place, fix=fix)
    if isinstance(record.prompt, str) and isinstance(answer, str) and record.prompt:
        return record.prompt, answer
    turns = [{"role": "user", "content": record.prompt}] if isinstance(record.prompt, str) else list(record.prompt)
    turns += [{"role": "assistant", "content": answer}] if isinstance(answer, str) else list(answer)
    said = [turn for turn in turns if turn["role"] in _ROLES]
    wanted = list(_ROLES[: 1 if record.kind == "prompt" else 2])
    if [turn["role"] for turn in said[: len(wanted)]] != wanted:
        raise DataError("it does not begin with a user's question and its answer", place=place, fix=fix)
    return said[0]["content"], said[1]["content"] if len(wanted) > 1 else ""


def vectors_of(texts: Sequence[str], encoder: str | None) -> tuple[Any, int]:
    """Return unit vectors of texts [N, H] and how many of the texts an encoder reads only the beginning of.

    Without an encoder they are word counts, sparse. A text without words has the zero vector.
    """
    from scipy.sparse import csr_array, diags_array

    words = [words_of(text) for text in texts]
    if encoder is None:
        counts = word_vectors(words)
        norms = np.sqrt(np.asarray(counts.multiply(counts).sum(1)).ravel())
        return csr_array(diags_array(1 / np.where(norms > 0, norms, 1.0)) @ counts), 0
    loaded: Any = _encoder(encoder)
    found = np.asarray(loaded.encode(list(texts), show_progress_bar=False, convert_to_numpy=True), dtype=np.float64)
    found = found.reshape(len(texts), -1) * np.array([[bool(said)] for said in words]).reshape(-1, 1)
    norms = np.linalg.norm(found, axis=1, keepdims=True)
    lengths = [len(ids) for ids in loaded.tokenizer(list(texts), truncation=False)["input_ids"]] if texts else []
    most = loaded.max_seq_length or math.inf
    return found / np.where(norms > 0, norms, 1.0), sum(length > most for length in lengths)


def best_by_vectors(written: Any, known: Any, limit: float = math.inf, block: int = _BLOCK) -> Best:
    """Find the known vector [N, H] of the highest cosine for each written one [M, H], both of unit length.

    `limit` is the cosine from which a known one counts as reached. Only `block` by `block` cosines are held at a time.
    """

    def cosines(rows: slice, columns: slice) -> np.ndarray:
        found = written[rows] @ known[columns].T
        return found.toarray() if hasattr(found, "toarray") else np.asarray(found)

    return _best(cosines, written.shape[0], known.shape[0], limit, block)


def best_by_edits(written: Sequence[str], known: Sequence[str], limit: float = math.inf, block: int = _BLOCK) -> Best:
    """Find the known text of the highest Levenshtein similarity, 1 - edits / longer length, for each written one."""
    from rapidfuzz import process
    from rapidfuzz.distance import Levenshtein

    def similar(rows: slice, columns: slice) -> np.ndarray:
        scorer = Levenshtein.normalized_similarity
        return process.cdist(written[rows], known[columns], scorer=scorer, dtype=np.float64, workers=1)

    return _best(similar, len(written), len(known), limit, block)


def calibrated(held_out: ArrayLike, quantile: float) -> float:
    """Return the least number above the `quantile` of what held-out texts reach [K]; NaN for none."""
    found = np.asarray(held_out, dtype=np.float64)
    return float(np.nextafter(np.quantile(found, quantile, method="higher"), np.inf)) if len(found) else math.nan


def placements(values: ArrayLike, others: ArrayLike) -> np.ndarray:
    """Return the share of `others` [K] that each value [M] is above, equal ones counted half; their mean is the AUROC.

    NaN where there are no others.
    """
    own, rest = np.asarray(values, dtype=np.float64), np.sort(np.asarray(others, dtype=np.float64))
    if not len(rest):
        return np.full(len(own), np.nan)
    return (np.searchsorted(rest, own, "left") + np.searchsorted(rest, own, "right")) / (2 * len(rest))


def _best(similar: Any, written: int, known: int, limit: float, block: int) -> Best:
    value, place = np.full(written, -np.inf), np.zeros(written, dtype=np.int64)
    first = np.full(known, written, dtype=np.int64)
    for i in range(0, written, block):
        rows = slice(i, min(i + block, written))
        for j in range(0, known, block):
            columns = slice(j, min(j + block, known))
            found = similar(rows, columns)
            highest, where = found.max(1), found.argmax(1) + j
            higher = highest > value[rows]
            value[rows] = np.where(higher, highest, value[rows])
            place[rows] = np.where(higher, where, place[rows])
            reaches = found >= limit
            earliest = np.where(reaches.any(0), reaches.argmax(0) + i, written)
            first[columns] = np.minimum(first[columns], earliest)
    return Best(value, place, first)


@lru_cache(maxsize=2)
def _encoder(name: str) -> Any:
    return models.load_embedder(name, "the evaluator extraction")
