"""What texts share: distinct n-grams, expected in equal amounts of text; self-BLEU; distances of word counts.

Sources: Li et al. 2016 (arXiv 1510.03055) for distinct-n; Hurlbert 1971 (Ecology 52:577) for its expectation in equal
amounts; Papineni et al. 2002 (ACL, P02-1040) for BLEU, Chen & Cherry 2014 (WMT, W14-3346) for its smoothing 1; Zhu et
al. 2018 (arXiv 1802.01886) for self-BLEU. Words are runs of letters and digits in lower case, and single other marks.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from fairlead.rewards.ngrams import ngrams

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = [
    "bleu",
    "cosine_distances",
    "distinct",
    "expected_distinct",
    "self_bleu",
    "word_vectors",
    "words_of",
]

_WORD = re.compile(r"\w+|[^\w\s]")
_SMALLEST = 0.1


def words_of(text: str) -> list[str]:
    """Return the words and marks of a text, in lower case."""
    return _WORD.findall(text.lower())


def distinct(counts: ArrayLike) -> float:
    """Return the share of different n-grams among all, from how often each occurs; NaN where there is none."""
    found = np.asarray(counts, dtype=np.int64)
    return len(found) / int(found.sum()) if found.sum() else math.nan


def expected_distinct(counts: ArrayLike, size: int) -> float:
    """Return the expected share of different n-grams among `size` drawn without replacement; NaN for fewer.

    Unlike the plain share it does not fall as more text is looked at, so it compares texts of unequal length.
    """
    from scipy.special import gammaln

    found = np.asarray(counts, dtype=np.float64)
    total = found.sum()
    if size < 1 or total < size:
        return math.nan
    left = total - found
    possible = left >= size
    log_absent = np.full(len(found), -np.inf)
    log_absent[possible] = (
        gammaln(left[possible] + 1)
        - gammaln(left[possible] - size + 1)
        - gammaln(total + 1)
        + gammaln(total - size + 1)
    )
    return float((-np.expm1(np.minimum(log_absent, 0.0))).sum()) / size


def bleu(words: Sequence[str], references: Sequence[Sequence[str]], order: int = 4) -> float:
    """Return BLEU of one text, in [0, 1], against references, by n-grams up to `order` or as long as the text.

    An n-gram order without a match counts .1 of one. NaN for a text without words or without references.
    """
    return _bleu(words, [[ngrams(r, n) for n in range(1, order + 1)] for r in references], [*map(len, references)])


def self_bleu(texts: Sequence[Sequence[str]], order: int = 4) -> np.ndarray:
    """Return every text's BLEU against the others [N]: 1 if they are all the same. NaN for a text without words."""
    counted = [[ngrams(words, n) for n in range(1, order + 1)] for words in texts]
    lengths = [len(words) for words in texts]
    kept = [i for i, length in enumerate(lengths) if length]
    found = np.full(len(texts), np.nan)
    for i in kept:
        others = [j for j in kept if j != i]
        found[i] = _bleu(texts[i], [counted[j] for j in others], [lengths[j] for j in others])
    return found


def word_vectors(texts: Sequence[Sequence[str]]) -> csr_array:
    """Return the word counts of texts [N, words]; the row of a text without words is zero."""
    from scipy.sparse import csr_array

    places: dict[str, int] = {}
    columns = [places.setdefault(word, len(places)) for words in texts for word in words]
    rows = np.repeat(np.arange(len(texts)), [len(words) for words in texts])
    return csr_array((np.ones(len(columns)), (rows, columns)), shape=(len(texts), max(1, len(places))))


def cosine_distances(vectors: Any) -> np.ndarray:
    """Return the mean cosine distance of every row to the other rows [N], of vectors [N, H], sparse or not.

    Rows that are zero are left out; one row alone has no distance.
    """
    from scipy.sparse import csr_array, diags_array

    table = csr_array(vectors, dtype=np.float64)
    norms = np.sqrt(np.asarray(table.multiply(table).sum(1)).ravel())
    table, norms = table[norms > 0], norms[norms > 0]
    if len(norms) < 2:
        return np.zeros(0)
    table = diags_array(1 / norms) @ table
    alike = np.asarray(table @ np.asarray(table.sum(0)).ravel()) - 1
    return np.clip(1 - alike / (len(norms) - 1), 0.0, 2.0)


def _bleu(words: Sequence[str], references: Sequence[Sequence[Counter]], lengths: Sequence[int]) -> float:
    if not words or not references:
        return math.nan
    orders = min(len(references[0]), len(words))
    logs = []
    for n in range(1, orders + 1):
        own = ngrams(words, n)
        matched = sum(min(count, max(r[n - 1][gram] for r in references)) for gram, count in own.items())
        logs.append(math.log((matched or _SMALLEST) / (len(words) - n + 1)))
    closest = min(lengths, key=lambda length: (abs(length - len(words)), length))
    brevity = min(0.0, 1 - closest / len(words))
    return math.exp(brevity + sum(logs) / orders)
