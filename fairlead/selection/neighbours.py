"""Which records lie near which: vectors by their squared distance, texts by the n-grams of words that they share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from fairlead.errors import MissingExtraError
from fairlead.selection.filtering import unit_rows

__all__ = ["Pairs", "hashed_text_pairs", "text_pairs", "vector_pairs"]

_ROWS, _COLUMNS = 1024, 4096
_AT_ONCE = 8192
_WORD = re.compile(r"\w+")
_SLACK = 0.1
"""How much less alike than asked for the candidates of hashing may be, so that few pairs are missed."""


@dataclass(frozen=True)
class Pairs:
    """What is near to what among N records."""

    first: np.ndarray
    """int64 [P]: of every pair nearer than the limit, the smaller place."""
    second: np.ndarray
    """int64 [P]: the larger."""
    least: np.ndarray
    """float64 [N]: distance to the nearest other record; NaN where none is known."""


def vector_pairs(vectors: np.ndarray, limit: float) -> Pairs:
    """Return the pairs of vectors [N, D] with |a - b|^2 = 2 (1 - cos) below a limit; N^2 / 2 products.

    Products of float32 find the candidates, whose distances are then computed in float64.

    Args:
        vectors: none of them all zeros; they are brought to length 1.
        limit: a squared distance in [0, 4].
    """
    count, size = vectors.shape
    wide = torch.from_numpy(unit_rows(vectors).astype(np.float32))
    margin = 2e-7 * (size + 8)
    best, who = np.full(count, -np.inf, np.float32), np.full(count, -1, np.int64)
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for start in range(0, count, _ROWS):
        rows = wide[start : start + _ROWS]
        for column in range(start, count, _COLUMNS):
            products = rows @ wide[column : column + _COLUMNS].T
            if column == start:
                products.fill_diagonal_(-torch.inf)
            values = products.numpy()
            _improve(best, who, column, start, values.T)
            top = _improve(best, who, start, column, values)
            close = np.flatnonzero(top > 1 - limit / 2 - margin)
            i, j = np.nonzero(values[close] > 1 - limit / 2 - margin)
            i, j = close[i] + start, j + column
            ahead = i < j
            i, j = i[ahead], j[ahead]
            near = _distances(vectors, i, j) < limit
            found.append((i[near], j[near]))
    known = np.flatnonzero(who >= 0)
    least = np.full(count, np.nan)
    least[known] = _distances(vectors, known, who[known])
    return _pairs(found, least)


def text_pairs(texts: Sequence[str], words: int, limit: float) -> Pairs:
    """Return the pairs of texts [N] whose n-grams of words differ by less than a limit: 1 - shared / all of both."""
    from scipy.sparse import csr_matrix

    grams = [_grams(text, words) for text in texts]
    numbers: dict[tuple[str, ...], int] = {}
    columns = [numbers.setdefault(gram, len(numbers)) for own in grams for gram in sorted(own)]
    sizes = np.array([len(own) for own in grams])
    edges = np.concatenate([[0], np.cumsum(sizes)])
    table = csr_matrix((np.ones(len(columns), np.float64), columns, edges), shape=(len(texts), max(1, len(numbers))))
    flipped = table.T.tocsr()
    least = np.full(len(texts), 1.0 if len(texts) > 1 else np.nan)
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for start in range(0, len(texts), _ROWS):
        shared: Any = (table[start : start + _ROWS] @ flipped).tocoo()
        i, j = shared.row.astype(np.int64) + start, shared.col.astype(np.int64)
        other = i != j
        i, j, common = i[other], j[other], shared.data[other]
        distance = 1 - common / (sizes[i] + sizes[j] - common)
        np.minimum.at(least, i, distance)
        near = (distance < limit) & (i < j)
        found.append((i[near], j[near]))
    return _pairs(found, least)


def hashed_text_pairs(texts: Sequence[str], words: int, limit: float, hashes: int) -> Pairs:
    """As `text_pairs`, among the candidates that hashing finds (MinHash, locality-sensitive); it may miss pairs.

    Raises:
        MissingExtraError: datasketch is not installed.
    """
    try:
        from datasketch import MinHash, MinHashLSH
    except ImportError as error:
        raise MissingExtraError("datasketch", "duplicates", "finding near duplicates by hashing") from error
    grams = [_grams(text, words) for text in texts]
    index = MinHashLSH(threshold=min(0.99, max(0.1, 1 - limit - _SLACK)), num_perm=hashes)
    least = np.full(len(texts), np.nan)
    found: list[tuple[int, int]] = []
    for j, own in enumerate(grams):
        sketch = MinHash(num_perm=hashes)
        sketch.update_batch([" ".join(gram).encode("utf-8", "surrogatepass") for gram in own])
        for i in sorted(int(str(key)) for key in index.query(sketch)):
            distance = 1 - len(own & grams[i]) / len(own | grams[i])
            least[i], least[j] = np.fmin(least[i], distance), np.fmin(least[j], distance)
            if distance < limit:
                found.append((i, j))
        index.insert(j, sketch)
    pairs = np.array(found, np.int64).reshape(-1, 2)
    return _pairs([(pairs[:, 0], pairs[:, 1])], least)


def _improve(best: np.ndarray, who: np.ndarray, start: int, column: int, values: np.ndarray) -> np.ndarray:
    """Take over what is nearer to rows from `start` on among columns from `column` on; return the highest per row."""
    where = values.argmax(1)
    top = values[np.arange(len(values)), where]
    better = np.flatnonzero(top > best[start : start + len(values)])
    best[start + better], who[start + better] = top[better], where[better] + column
    return top


def _distances(vectors: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Return squared distances of pairs of rows at length 1, float64 [P]."""
    found = [np.zeros(0)]
    for start in range(0, len(i), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        gap = unit_rows(vectors[i[part]]) - unit_rows(vectors[j[part]])
        found.append(np.einsum("pd,pd->p", gap, gap))
    return np.concatenate(found)


def _pairs(found: Sequence[tuple[np.ndarray, np.ndarray]], least: np.ndarray) -> Pairs:
    """Put parts together, in the order of the pairs."""
    first, second = (np.concatenate([np.zeros(0, np.int64), *(part[k] for part in found)]) for k in (0, 1))
    order = np.lexsort((second, first))
    return Pairs(first[order], second[order], least)


def _grams(text: str, words: int) -> set[tuple[str, ...]]:
    """Return the runs of `words` words in lower case; all words of a text that has fewer, as one run."""
    found = _WORD.findall(text.lower()) or [text.strip()]
    return {tuple(found[k : k + words]) for k in range(max(1, len(found) - words + 1))}
