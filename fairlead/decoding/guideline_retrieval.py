"""Finding guidelines: how close a request is to every guideline, by words, sentence embeddings or a trained retriever.

By words and by sentence embeddings, a guideline is known by its own line and by the requests that it was written for;
the closest of these counts. A trained retriever has learned what belongs together and looks at the line alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import numpy as np
import torch
from scipy import sparse

from fairlead import models
from fairlead.decoding.guideline_encoder import Towers
from fairlead.decoding.guideline_library import Library, words_of

__all__ = ["Embedded", "Lexical", "Neighbours", "Retriever", "Trained"]


Encode: TypeAlias = Callable[[Sequence[str]], np.ndarray]


class Retriever(Protocol):
    """Scores requests against a library."""

    least: float
    """A guideline that scores this or less is never found."""

    def __call__(self, requests: Sequence[str]) -> np.ndarray:
        """Return the scores of Q requests, float64 [Q, N]; N is the number of guidelines."""
        ...


class _ByText:
    """The texts by which guidelines are known, and whose they are."""

    least = 0.0

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


class Neighbours(_ByText):
    """Cosine of vectors of texts, in [-1, 1].

    Args:
        library: what is to be found.
        encode: texts to vectors, [Q, H].
    """

    def __init__(self, library: Library, encode: Encode):
        super().__init__(library)
        self._encode = encode
        self._index = _normal(encode(self.texts))

    def __call__(self, requests: Sequence[str]) -> np.ndarray:
        """Return the cosine of each request and the closest text of each guideline, float64 [Q, N]."""
        scores = np.zeros((len(requests), len(self.texts)))
        # One by one: a batch would change the last digits of a score, and so an answer with its neighbours.
        for row, request in enumerate(requests):
            scores[row] = np.clip(self._index @ _normal(self._encode([request]))[0], -1.0, 1.0)
        return self.closest(scores)


class Embedded(Neighbours):
    """Cosine of a sentence-embedding model's vectors, in [-1, 1].

    Args:
        library: what is to be found.
        embedder: a folder or hub id that sentence-transformers can read.

    Raises:
        MissingExtraError: sentence-transformers is not installed.
        ModelError: the model cannot be loaded.
    """

    def __init__(self, library: Library, embedder: str):
        model = models.load_embedder(embedder, "guidelines.retriever: embedding")
        super().__init__(library, lambda texts: np.asarray(model.encode(list(texts), show_progress_bar=False)))


class Trained:
    """What a trained retriever says: the dot product or cosine of a request's vector and a guideline's.

    Args:
        library: what is to be found.
        towers: the retriever.
    """

    least = -np.inf

    def __init__(self, library: Library, towers: Towers):
        self._towers = towers
        self._index = torch.from_numpy(towers.guideline.encode([item.line for item in library.items]))

    def __call__(self, requests: Sequence[str]) -> np.ndarray:
        """Return the similarity of each request and each guideline, float64 [Q, N]; -inf for a request without text."""
        scores = np.full((len(requests), len(self._index)), -np.inf)
        # One by one: a batch would change the last digits of a score, and so an answer with its neighbours.
        for row, request in enumerate(requests):
            if request.strip():
                vector = torch.from_numpy(self._towers.question.encode([request]))
                scores[row] = self._towers.compare(vector, self._index)[0].numpy()
        return scores


def _normal(vectors: np.ndarray) -> np.ndarray:
    vectors = np.asarray(vectors, dtype=np.float64)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
