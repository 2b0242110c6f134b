"""Keep so many of every group: by a tag, or by clusters of vectors.

The shares of a pool are seldom those that a model should learn from: a few topics fill most of it. Equal shares, or
shares by the square root of a group's size, are the usual cures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from fairlead.engines.embedding import Embedding
from fairlead.errors import UsageError
from fairlead.estimates import Estimate
from fairlead.figures import intervals
from fairlead.selection.base import Selection, Selector, check_keep, chosen, number_kept
from fairlead.selection.kmeans import kmeans
from fairlead.selection.lots import lots_of
from fairlead.selection.pool import Part, Pool
from fairlead.selection.quotas import filled, largest_remainder

__all__ = ["Balance"]

_NAMED = 20


@dataclass(frozen=True)
class Balance(Selector):
    """Keep records by quotas for their groups: of each group the best by a column, or those drawn by lot."""

    keep: float
    """Records kept: a number of them, or a share of the pool below 1."""
    by: str | None = None
    """Column with the group of a record; a record without it, or with none in it, is in the group `none`."""
    embedding: Embedding | str | None = None
    """In place of `by`: how texts become vectors, or the column that holds vectors; k-means divides them."""
    clusters: int = 10
    """Clusters, with an embedding."""
    part: Part = "all"
    """Which text of a record is embedded."""
    shares: Literal["equal", "root", "pool"] = "equal"
    """What each group is to have: as much as any other, by the square root of its size, or by its size."""
    score: str | None = None
    """Column by which a group's records are chosen, the highest first; without, they are drawn by lot."""
    nearest: bool = False
    """Whether a group's records are chosen by how near their vectors are to the mean of the group's, the nearest first:
    its typical ones; with an embedding."""
    fill: bool = False
    """Whether other groups make up for what a small one lacks; else fewer records are kept than asked for."""
    seed: int = 0
    """Randomness of lots and clusters."""

    keeps_by_quota: ClassVar[bool] = True

    example: ClassVar[Mapping[str, Any]] = {
        "keep": 0.25,
        "embedding": {"model": "harbor:base-300k"},
        "clusters": 4,
        "score": "quality",
    }

    def __post_init__(self) -> None:
        check_keep(self.keep, "balance")
        if (self.by is None) == (self.embedding is None):
            raise UsageError("balance wants one way to group", fix="give either a column (by) or an embedding")
        if self.nearest and (self.embedding is None or self.score is not None):
            fix = "give an embedding and no score, or leave nearest out"
            raise UsageError("balance.nearest has no vectors, or a score beside them", fix=fix)
        if self.clusters < 1:
            raise UsageError(f"balance.clusters is {self.clusters}", fix="use 1 or more")

    def choose(self, pool: Pool) -> Selection:
        """Group, and choose of every group.

        Columns: `group`. Metrics: `groups`, `shortfall` (records that small groups lacked), and the evenness of the
        groups in the pool and in what is kept (entropy over its most, 0 to 1).

        Raises:
            DataError: scores or vectors that are missing or not finite; a column that no record has.
        """
        n = len(pool)
        groups, reasons = self._groups(pool)
        names = sorted({group for group in groups if group is not None})
        places = {name: np.array([i for i, group in enumerate(groups) if group == name], np.int64) for name in names}
        sizes = np.array([len(places[name]) for name in names])
        lots = lots_of([record.id for record in pool], self.seed)
        worth = self._typical(pool, places) if self.nearest else lots
        worth = worth if self.score is None else pool.numbers(self.score)
        if not names:
            return chosen(n, [], worth, reasons, "blank text", columns={"group": groups})
        asked = number_kept(self.keep, n)
        weights = _SHARES[self.shares](sizes)
        quotas = largest_remainder(weights, asked)
        given = filled(weights, sizes, asked) if self.fill else np.minimum(quotas, sizes)
        kept = np.concatenate(
            [places[name][np.lexsort((lots[places[name]], -worth[places[name]]))[:q]] for name, q in zip(names, given)]
        )
        kept = kept[np.lexsort((lots[kept], -worth[kept]))]
        lacking = np.maximum(quotas - sizes, 0)
        return chosen(
            n, kept, worth, reasons, "its group is full",
            columns={"group": groups}, metrics=_metrics(sizes, given, lacking),
            figures=_figures(names, sizes, given), notes=self._notes(names, sizes, quotas, lacking, asked, len(kept)),
        )  # fmt: skip

    def _groups(self, pool: Pool) -> tuple[list[str | None], dict[int, str]]:
        """Return every record's group, and why those without one are left out."""
        if self.by is not None:
            if not pool.has(self.by):
                pool.values(self.by)
            found = [record.extra.get(self.by) for record in pool]
            return ["none" if value is None else str(value) for value in found], {}
        vectors = np.asarray(pool.vectors(self.embedding or "", self.part), np.float64)
        there = np.flatnonzero(np.abs(vectors).sum(1) > 0)
        groups: list[str | None] = [None] * len(pool)
        if len(there):
            there = there[np.argsort([pool[int(i)].id for i in there], kind="stable")]
            labels, _ = kmeans(vectors[there], self.clusters, seed=self.seed)
            for i, label in zip(there.tolist(), labels.tolist(), strict=True):
                groups[i] = f"cluster {label + 1:0{len(str(self.clusters))}}"
        return groups, {i: "blank text" for i, group in enumerate(groups) if group is None}

    def _typical(self, pool: Pool, places: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the distance of every record to the mean of its group, below 0, float64 [N]; NaN without a group."""
        vectors = np.asarray(pool.vectors(self.embedding or "", self.part), np.float64)
        found = np.full(len(pool), np.nan)
        for own in places.values():
            found[own] = -np.linalg.norm(vectors[own] - vectors[own].mean(0), axis=1)
        return found

    def _notes(
        self, names: list[str], sizes: np.ndarray, quotas: np.ndarray, lacking: np.ndarray, asked: int, kept: int
    ) -> tuple[str, ...]:
        short = [i for i in np.argsort(-lacking, kind="stable").tolist() if lacking[i]]
        if not short:
            return ()
        told = ", ".join(f"{names[i]} has {sizes[i]} of {quotas[i]}" for i in short[:_NAMED])
        more = f" and {len(short) - _NAMED} more" if len(short) > _NAMED else ""
        end = "others make up for it" if self.fill else f"{kept} records are kept, not {asked}"
        return (f"{len(short)} of {len(names)} groups are too small: {told}{more}; {end}",)


_SHARES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "equal": lambda sizes: np.ones(len(sizes)),
    "root": lambda sizes: np.sqrt(sizes),
    "pool": lambda sizes: sizes.astype(np.float64),
}


def _metrics(sizes: np.ndarray, given: np.ndarray, lacking: np.ndarray) -> dict[str, float]:
    return {
        "groups": float(len(sizes)),
        "shortfall": float(lacking.sum()),
        "pool_evenness": _evenness(sizes),
        "kept_evenness": _evenness(given),
    }


def _evenness(counts: np.ndarray) -> float:
    """Return the entropy of the shares over that of equal ones: 1 where all are equal, 0 where one has all."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum() / np.log(len(counts))) if len(counts) > 1 else 1.0


def _figures(names: list[str], sizes: np.ndarray, given: np.ndarray) -> dict[str, str]:
    """Draw each group's share of the pool and of what is kept, the largest groups alone where there are many."""
    shown = np.argsort(-sizes, kind="stable")[:_NAMED].tolist()
    summary = {
        title: {names[i]: Estimate(counts[i] / max(counts.sum(), 1), math.nan, math.nan, int(counts[i])) for i in shown}
        for title, counts in (("pool", sizes), ("kept", given))
    }
    return {"groups": intervals(summary, [names[i] for i in shown], label="share")}
