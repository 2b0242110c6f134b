"""How well a retriever finds guidelines: recall, reciprocal rank, coverage, mean rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fairlead.errors import UsageError

__all__ = ["DEPTHS", "Figures", "figures_of"]

DEPTHS = (1, 3, 6, 10)
"""The numbers of guidelines at which recall is told."""
_RETRIEVED = 100


@dataclass(frozen=True)
class Figures:
    """What a retriever finds for questions whose own guidelines are known."""

    questions: int
    """How many were asked."""
    recall: dict[int, float]
    """k -> share of questions with at least one of their own guidelines among the first k."""
    mrr: float
    """Mean of 1 / rank of the first own guideline; 0 where it is not retrieved."""
    rank: float
    """Mean rank of the first own guideline in the whole order, retrieved or not."""
    coverage: float
    """Share of the library that is among the first `max(recall)` of any question."""

    def metrics(self) -> dict[str, float]:
        """Return flat names and numbers."""
        recall = {f"recall_{k}": value for k, value in self.recall.items()}
        return {**recall, "mrr": self.mrr, "rank": self.rank, "coverage": self.coverage}


def figures_of(
    scores: np.ndarray,
    own: Sequence[frozenset[int]],
    *,
    depths: Sequence[int] = DEPTHS,
    least: float = -np.inf,
    retrieved: int = _RETRIEVED,
) -> Figures:
    """Return the figures of scores [Q, N]; of equal scores the guideline that comes first in the library wins.

    Args:
        scores: how close each question is to each guideline.
        own: per question the places of its own guidelines, or of their duplicates; at least one.
        depths: where recall is told.
        least: guidelines that score this or less are not retrieved.
        retrieved: most guidelines that are, by rank.

    Raises:
        UsageError: no question, or one without a guideline.
    """
    if not len(own) or not all(own):
        raise UsageError("a question without guidelines of its own cannot be judged", fix="leave it out")
    order = np.argsort(-scores, axis=1, kind="stable")
    found = np.take_along_axis(scores, order, axis=1) > least
    hit = np.array([[place in mine for place in row] for row, mine in zip(order, own, strict=True)])
    rank = 1 + hit.argmax(axis=1)
    rows = np.arange(len(own))
    reached = found[rows, rank - 1] & (rank <= retrieved)
    recall = {k: float(np.mean(reached & (rank <= k))) for k in depths}
    widest = max(depths)
    listed = {int(i) for row, ok in zip(order[:, :widest], found[:, :widest], strict=True) for i in row[ok]}
    mrr = float(np.mean(np.where(reached, 1 / rank, 0.0)))
    return Figures(len(own), recall, mrr, float(rank.mean()), len(listed) / scores.shape[1])
