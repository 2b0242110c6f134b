"""The contract of selectors: records in, which of them to keep out, with a score and a reason for every record.

    selection = fairlead.selector("reward_threshold", column="reward", keep=0.1)(fairlead.read("pool.jsonl"))
    selection.indices, selection.scores, selection.reasons

What a selector needs to know of a record stands in the record's own columns (scores, tags), which other methods put
there, or is made of its text; `Pool` gives both, and refuses what is missing by name instead of guessing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from fairlead import catalog
from fairlead.errors import DataError, UsageError
from fairlead.records import Record
from fairlead.selection.pool import Pool

__all__ = ["Selection", "Selector", "best_first", "check_keep", "chosen", "name_of", "number_kept"]


@dataclass(frozen=True)
class Selection:
    """Which records are kept, and why not the others."""

    indices: np.ndarray
    """int64 [M]: places of the kept records, in the order in which they were chosen."""
    scores: np.ndarray
    """float64 [N]: what the choice went by, higher is better; NaN for records that have none."""
    reasons: tuple[str, ...]
    """[N]: why a record was left out, in words that many share; empty for kept ones."""
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """name -> [N] plain values: what else is known of every record."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Flat name -> number."""
    figures: Mapping[str, str] = field(default_factory=dict)
    """title -> SVG text."""
    notes: tuple[str, ...] = ()
    """What a reader must know."""

    def __post_init__(self) -> None:
        n = len(self.scores)
        kept = np.asarray(self.indices)
        fits = (
            len(self.reasons) == n
            and all(len(column) == n for column in self.columns.values())
            and kept.ndim == 1
            and len(set(kept.tolist())) == len(kept)
            and all(0 <= i < n for i in kept.tolist())
            and {i for i, reason in enumerate(self.reasons) if not reason} == set(kept.tolist())
        )
        if not fits:
            raise DataError(f"a selection of {len(kept)} among {n} records does not add up", fix="mend the selector")

    @property
    def left_out(self) -> Counter[str]:
        """Reason -> records left out for it."""
        return Counter(reason for reason in self.reasons if reason)


@runtime_checkable
class Selector(Protocol):
    """A frozen dataclass that chooses records; subclass this for the call."""

    example: ClassVar[Mapping[str, Any]]
    """Plain field values that build a working instance for Harbor's pool; docs and tests use it."""

    sources: ClassVar[tuple[str, ...]] = ()
    """Fields that name data which the method reads beside the pool: a source, or several."""

    def choose(self, pool: Pool) -> Selection:
        """Choose among the records of a pool, of which there is at least one.

        Raises:
            DataError: columns or vectors that are missing or not finite.
        """
        ...

    def __call__(self, records: Sequence[Record]) -> Selection:
        """Choose among records.

        Raises:
            DataError: no records, or columns or vectors that are missing or not finite.
        """
        pool = records if isinstance(records, Pool) else Pool(records)
        if not len(pool):
            raise DataError("there are no records to choose from", fix="give at least one")
        return self.choose(pool)


def number_kept(keep: float | None, n: int) -> int:
    """Return how many of `n` records a `keep` stands for: a number of records, a share below 1 (rounded up), or all."""
    if keep is None:
        return n
    return min(n, int(np.ceil(keep * n - 1e-9)) if keep < 1 else int(keep))


def check_keep(keep: float | None, place: str) -> None:
    """Refuse a `keep` that is neither a share below 1 nor a whole number."""
    if keep is not None and (not keep > 0 or (keep >= 1 and keep != int(keep))):
        raise UsageError(f"keep is {keep}", place=place, fix="use a whole number of records, or a share below 1")


def best_first(scores: np.ndarray) -> np.ndarray:
    """Return the places of finite scores [N], the highest first, equal ones in their order."""
    places = np.flatnonzero(np.isfinite(scores))
    return places[np.argsort(-scores[places], kind="stable")]


def chosen(
    n: int, indices: Sequence[int] | np.ndarray, scores: np.ndarray, reasons: Mapping[int, str], other: str, **rest: Any
) -> Selection:
    """Return the selection of `indices` among `n` records.

    Args:
        n: records in the pool.
        indices: the kept ones, in the order in which they were chosen.
        scores: float64 [N].
        reasons: place -> why a record was left out.
        other: why all others were.
        rest: further fields of `Selection`.
    """
    kept = np.asarray(indices, np.int64).reshape(-1)
    is_kept = np.zeros(n, bool)
    is_kept[kept] = True
    why = tuple("" if is_kept[i] else reasons.get(i, other) for i in range(n))
    return Selection(kept, np.asarray(scores, np.float64), why, **rest)


def name_of(method: Selector) -> str:
    """Return the method's catalog name, or that of its class where it is not in the catalog."""
    target = f"{type(method).__module__}:{type(method).__qualname__}"
    return next((e.name for e in catalog.entries("selector") if e.target == target), type(method).__name__)
