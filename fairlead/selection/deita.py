"""A few thousand instructions worth training on: complexity times quality first, then variety (Liu et al. 2023).

Source: arXiv 2312.15685, sections 2 and 3, with its published code (commit ac6b91a) where the text is silent: what the
paper calls a distance is there a cosine similarity above which a record is left out. Its filter in batches rejects
records because of others that are rejected themselves; here none does, whatever the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from fairlead import figures
from fairlead.engines.embedding import Embedding
from fairlead.errors import DataError, UsageError
from fairlead.selection.base import Selection, Selector, best_first, check_keep, chosen, number_kept
from fairlead.selection.filtering import Kept, diverse, nearest
from fairlead.selection.pool import Part, Pool

__all__ = ["Deita", "combined_scores"]

_AGGREGATES: dict[str, Callable[[np.ndarray], float]] = {
    "sum": lambda turns: float(turns.sum()),
    "mean": lambda turns: float(turns.mean()),
    "max": lambda turns: float(turns.max()),
}
_POINTS = 400
"""Points of a curve; more make a figure larger and no clearer."""


@dataclass(frozen=True)
class Deita(Selector):
    """Keep the records with the highest complexity x quality that are not too similar to one kept before."""

    keep: float | None = 6000
    """Most records kept: a number of them, or a share of the pool below 1; None keeps all that vary enough."""
    max_similarity: float = 0.9
    """Highest cosine between two kept records; a record with a higher one to a kept record is left out."""
    aggregate: Literal["sum", "mean", "max"] = "sum"
    """What a record's score is of its turns' products; the paper's sum favours long conversations."""
    complexity: str | None = "complexity"
    """The column with the complexity of the instruction, a number or one per turn; None counts as 1."""
    quality: str | None = "quality"
    """The column with the quality of the answer, a number or one per turn; None counts as 1."""
    embedding: Embedding | str = Embedding()
    """How texts are embedded, or the column that holds vectors."""
    part: Part = "all"
    """Which of a record's texts stands for it."""

    example: ClassVar[Mapping[str, Any]] = {"keep": 0.25, "embedding": {"model": "harbor:base-300k"}}

    def __post_init__(self) -> None:
        check_keep(self.keep, "deita")
        if not -1 <= self.max_similarity <= 1:
            raise UsageError(f"deita.max_similarity is {self.max_similarity}", fix="use a cosine in [-1, 1]")
        if self.complexity is None and self.quality is None:
            raise UsageError("deita has no score to go by", fix="name the column of complexity, of quality, or both")

    def choose(self, pool: Pool) -> Selection:
        """Score, sort, and go through the records from the best on."""
        scores = combined_scores(pool, self.complexity, self.quality, self.aggregate)
        vectors = pool.vectors(self.embedding, self.part)
        order = best_first(scores)
        found = diverse(vectors, order, self.max_similarity, number_kept(self.keep, len(pool)))
        near = nearest(vectors, found.kept, itself=False)
        reasons = dict.fromkeys(order[: found.visited].tolist(), f"similarity to a kept one > {self.max_similarity:g}")
        reasons |= dict.fromkeys(found.blank.tolist(), "no text to compare")
        return chosen(
            len(pool),
            found.kept,
            scores,
            reasons,
            "others are worth more",
            columns=_columns(pool, found, near.place, near.similarity),
            metrics=self._metrics(order, found, near.similarity),
            figures=_figures(order, found, near.similarity),
        )

    def _metrics(self, order: np.ndarray, found: Kept, similarity: np.ndarray) -> dict[str, float]:
        """Return how far the choice reaches over the pool, and how close its records lie."""
        covered = similarity >= self.max_similarity
        covered[np.setdiff1d(order[: found.visited], found.blank)] = True
        inside = similarity[found.kept]
        return {
            "visited": float(found.visited),
            "too_similar": float(found.visited - len(found.kept) - len(found.blank)),
            "without_text": float(len(found.blank)),
            "coverage": float(covered.mean()),
            **({"similarity_inside": float(inside.mean())} if len(inside) > 1 else {}),
        }


def combined_scores(
    pool: Pool, complexity: str | None, quality: str | None, aggregate: Literal["sum", "mean", "max"] = "sum"
) -> np.ndarray:
    """Return complexity x quality per record, float64 [N]: the products of its turns, added, averaged or the highest.

    Raises:
        DataError: scores that are missing, not finite, or of different numbers of turns.
    """
    columns = [pool.lists(name) for name in (complexity, quality) if name is not None]
    turns = columns[0]
    if len(columns) > 1:
        odd = [record.id for record, one, other in zip(pool, *columns, strict=True) if len(one) != len(other)]
        if odd:
            what = (
                f"{len(odd)} of {len(pool)} records have {complexity!r} and {quality!r} of different numbers of turns"
            )
            raise DataError(f"{what}, such as {odd[0]}", fix="score every turn of a record in both columns")
        turns = [one * other for one, other in zip(*columns, strict=True)]
    return np.array([_AGGREGATES[aggregate](one) for one in turns])


def _columns(pool: Pool, found: Kept, place: np.ndarray, similarity: np.ndarray) -> dict[str, list[Any]]:
    """Return the nearest kept record's id, of kept records the nearest other one's, and the cosine to it."""
    ids = [pool[int(i)].id for i in found.kept]
    return {
        "nearest": [ids[k] if k >= 0 else None for k in place.tolist()],
        "similarity": [None if np.isnan(value) else float(value) for value in similarity.tolist()],
    }


def _figures(order: np.ndarray, found: Kept, similarity: np.ndarray) -> dict[str, str]:
    kept = np.zeros(len(similarity), bool)
    kept[found.kept] = True
    path = np.concatenate([[0], np.cumsum(kept[order[: found.visited]])])
    shown = np.unique(np.linspace(0, found.visited, _POINTS).astype(int))
    sides = {"kept": similarity[kept].tolist(), "left out": similarity[~kept].tolist()}
    return {
        "kept by visited": figures.curves({"kept": (shown, path[shown])}, x="records visited", y="records kept"),
        "similarity to the nearest kept record": figures.distribution(
            {side: values for side, values in sides.items() if values}, label="cosine", unit="share of records"
        ),
    }
