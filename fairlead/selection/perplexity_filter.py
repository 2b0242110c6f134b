"""Keep what does not surprise a model too much, one record of every cluster, or the least surprising of each.

The three filters that I-SHEEP (arXiv 2408.08072) compares with a model's own grades: perplexity below 50, density (one
record of each of 3,000 clusters of last hidden states) and both (of each cluster the record of least perplexity).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from fairlead import figures
from fairlead.engines.embedding import Embedding
from fairlead.errors import UsageError
from fairlead.selection.base import Selection, Selector, chosen
from fairlead.selection.kmeans import kmeans
from fairlead.selection.lots import lots_of
from fairlead.selection.pool import Part, Pool

__all__ = ["PerplexityFilter"]

_RESTARTS = 10
_MANY = 100
"""Clusters from which on one start of k-means is enough: with many, starts differ little, and each takes long."""


@dataclass(frozen=True)
class PerplexityFilter(Selector):
    """Keep records whose perplexities are low, one of every cluster, or both, the least surprising first."""

    below: float | None = 50.0
    """Perplexity from which on a record is left out, in any of `columns`; None for no such limit."""
    columns: tuple[str, ...] = ("answer_perplexity", "pair_perplexity")
    """The columns with perplexities."""
    one_per_cluster: Literal["no", "any", "lowest"] = "no"
    """Whether one record of each cluster is kept, of those below the limit: drawn by lot, or the least in `lowest`."""
    lowest: str = "pair_perplexity"
    """The column that orders records."""
    by: str | None = None
    """Column with the cluster of a record; without, vectors are divided by k-means."""
    embedding: Embedding | str = Embedding()
    """How texts become vectors, or the column that holds vectors; the paper takes the model's last hidden states."""
    clusters: int = 3000
    """Clusters of k-means; fewer where fewer records differ."""
    part: Part = "all"
    """Which text of a record is embedded."""
    seed: int = 0
    """Randomness of lots and clusters."""

    keeps_by_quota: ClassVar[bool] = True

    example: ClassVar[Mapping[str, Any]] = {
        "below": 3.0,
        "columns": ["quality"],
        "one_per_cluster": "lowest",
        "lowest": "complexity",
        "embedding": {"model": "harbor:base-300k"},
        "clusters": 8,
    }

    def __post_init__(self) -> None:
        if self.below is None and self.one_per_cluster == "no":
            raise UsageError("perplexity_filter would keep everything", fix="give below, one_per_cluster or both")
        if self.below is not None and not self.below > 0:
            raise UsageError(f"perplexity_filter.below is {self.below}", fix="use a number above 0, such as 50")
        if self.below is not None and not self.columns:
            raise UsageError("perplexity_filter.columns is empty", fix="name the columns that below limits")
        if self.clusters < 1:
            raise UsageError(f"perplexity_filter.clusters is {self.clusters}", fix="use 1 or more")

    def choose(self, pool: Pool) -> Selection:
        """Leave out what surprises, then keep one record of every cluster.

        Columns: `cluster`, where records are divided. Metrics: `clusters`, `below` (the share below the limit).

        Raises:
            DataError: perplexities or vectors that are missing or not finite; a column that no record has.
        """
        worth = self._worth(pool)
        reasons: dict[int, str] = {}
        good = np.ones(len(pool), bool)
        for column in self.columns if self.below is not None else ():
            high = pool.numbers(column) >= self.below
            reasons = dict.fromkeys(np.flatnonzero(high).tolist(), f"{column} is {self.below:g} or more") | reasons
            good &= ~high
        kept = np.flatnonzero(good)
        metrics = {"below": float(good.mean())} if self.below is not None else {}
        columns: dict[str, list[Any]] = {}
        if self.one_per_cluster != "no":
            labels, blank = self._clusters(pool)
            reasons |= dict.fromkeys(blank, "blank text")
            lots = lots_of([record.id for record in pool], self.seed)
            rank = np.lexsort((lots, -worth)) if self.one_per_cluster == "lowest" else np.argsort(lots, kind="stable")
            first: dict[str, int] = {}
            for i in rank.tolist():
                if good[i] and i not in blank:
                    first.setdefault(labels[i], i)
            kept = np.array(sorted(first.values()), np.int64)
            columns = {"cluster": [None if i in blank else label for i, label in enumerate(labels)]}
            metrics["clusters"] = float(len({label for i, label in enumerate(labels) if i not in blank}))
        kept = kept[np.argsort(-worth[kept], kind="stable")]
        other = "another record stands for its cluster"
        return chosen(
            len(pool), kept, worth, reasons, other, columns=columns, metrics=metrics, figures=_figures(worth, kept)
        )

    def _worth(self, pool: Pool) -> np.ndarray:
        """Return what orders records, float64 [N], higher for less surprise; zeros where no perplexity counts."""
        if self.below is None and self.one_per_cluster == "any":
            return np.zeros(len(pool))
        ordered = self.lowest if self.one_per_cluster == "lowest" else self.columns[-1]
        return -pool.numbers(ordered)

    def _clusters(self, pool: Pool) -> tuple[list[str], set[int]]:
        """Return every record's cluster, and the places of those without a text."""
        if self.by is not None:
            return [str(value) for value in pool.values(self.by)], set()
        vectors = np.asarray(pool.vectors(self.embedding, self.part), np.float64)
        there = np.flatnonzero(np.abs(vectors).sum(1) > 0)
        labels = [""] * len(pool)
        if len(there):
            there = there[np.argsort([pool[int(i)].id for i in there], kind="stable")]
            k = min(self.clusters, len(there))
            found, _ = kmeans(vectors[there], k, restarts=1 if k > _MANY else _RESTARTS, seed=self.seed)
            for i, label in zip(there.tolist(), found.tolist(), strict=True):
                labels[i] = f"cluster {label + 1:0{len(str(k))}}"
        return labels, set(range(len(pool))) - set(there.tolist())


def _figures(worth: np.ndarray, kept: np.ndarray) -> dict[str, str]:
    """Draw the perplexities of what is kept and what is left out, as far as there are any."""
    inside = np.zeros(len(worth), bool)
    inside[kept] = True
    sides = {
        side: np.log(-worth[which & (worth < 0)]).tolist() for side, which in (("kept", inside), ("left out", ~inside))
    }
    there = {side: values for side, values in sides.items() if values}
    if not there:
        return {}
    return {"perplexity": figures.distribution(there, label="logarithm of the perplexity", unit="share of records")}
