"""Finding guidelines: how close a request is to every guideline, by its words or by a sentence-embedding model.

A guideline is known by its own line and by the requests that it was written for; the closest of these counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from scipy import sparse

from fairlead import models
from fairlead.decoding.guideline_library import Library, words_of

__all__ = ["Embedded", "Lexical", "Retriever"]


class Retriever(Protocol):
    """Scores requests against a library."""

    def __call__(self, requests: Sequence[str]) -> np.ndarray:
        """Return the scores of Q requests, float64 [Q, N], at most 1; N is the number of guidelines."""
        ...


class _ByText:
    """The texts by which guidelines are known, and whose they are."""

    def __init__(self, library: Library):
        self.texts = [text for item in library.items for text in (item.line, *item.sources)]
        sizes = [1 + len(item.sources) for item in library.items]
        self.starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(int)

    def closest(self, scores: np.ndarray) -> np.ndarray:
        """Return the highest score of each guideline's texts, [Q, texts] -> [Q, N]."""
        return np.maximum.reduceat(scores, self.starts, axis=1) if len(scores) else np.zeros((0, len(self.starts)))


class Lexical(_ByText):
    """Cosine of tf-idf vectors of words, in [0, 1].

    Words of a request that no text of the library has count in its length, as the rarest words do: a request that is
    mostly about something else is far from everything.
    """

    def __init__(self, library: Library):
        super().__init__(library)
        counted = [Counter(words_of(text)) for text in self.texts]
        found = Counter(word for words in counted for word in words)
        self._columns = {word: k for k, word in enumerate(found)}
        self._rarest = float(np.log(1 + len(counted))) + 1
        weights = {word: float(np.log((1 + len(counted)) / (1 + n))) + 1 for word, n in found.items()}
        self._weights = weights
        self._index = self._vectors(counted).T.tocsc()

    def __call__(self, requests: Sequence[str]) -> np.ndarray:
        """Return the cosine of each request and the closest text of each guideline, float64 [Q, N]."""
        scores = self._vectors([Counter(words_of(request)) for request in requests]) @ self._index
        return self.closest(np.clip(scores.toarray(), 0.0, 1.0))

    def _vectors(self, counted: Sequence[Counter[str]]) -> sparse.csr_matrix:
        rows, columns, values = [], [], []
        for row, words in enumerate(counted):
            weighed = {word: n * self._weights.get(word, self._rarest) for word, n in words.items()}
            norm = float(np.sqrt(sum(value**2 for value in weighed.values()))) or 1.0
            known = [(self._columns[word], value / norm) for word, value in weighed.items() if word in self._columns]
            rows += [row] * len(known)
            columns += [column for column, _ in known]
            values += [value for _, value in known]
        shape = (len(counted), len(self._columns))
        return sparse.csr_matrix((values, (rows, columns)), shape=shape, dtype=np.float64)


class Embedded(_ByText):
    """Cosine of a sentence-embedding model's vectors, in [-1, 1].

    Args:
        library: what is to be found.
        embedder: a folder or hub id that sentence-transformers can read.

    Raises:
        MissingExtraError: sentence-transformers is not installed.
        ModelError: the model cannot be loaded.
    """

    def __init__(self, library: Library, embedder: str):
        super().__init__(library)
        self._encode = _encoder(embedder)
        self._index = self._encode(self.texts)

    def __call__(self, requests: Sequence[str]) -> np.ndarray:
        """Return the cosine of each request and the closest text of each guideline, float64 [Q, N]."""
        scores = np.zeros((len(requests), len(self.texts)))
        # One by one: a batch would change the last digits of a score, and so an answer with its neighbours.
        for row, request in enumerate(requests):
            scores[row] = np.clip(self._index @ self._encode([request])[0], -1.0, 1.0)
        return self.closest(scores)


def _encoder(embedder: str) -> Callable[[Sequence[str]], np.ndarray]:
    model = models.load_embedder(embedder, "guidelines.retriever: embedding")

    def encode(texts: Sequence[str]) -> np.ndarray:
        found = np.asarray(model.encode(list(texts), show_progress_bar=False), dtype=np.float64)
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)

    return encode
