"""One of every set of records that say nearly the same.

Source: the filter of Magpie (Xu et al. 2024, arXiv 2406.08464, section 2.2, and its published code): a record is kept
when no near one stands before it. As nearness is not transitive, that rule also removes records whose only near one was
removed itself; the rules `greedy` and `components` are the two ways out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from fairlead import figures
from fairlead.engines.embedding import Embedding
from fairlead.errors import UsageError
from fairlead.selection.base import Selection, Selector, best_first, chosen
from fairlead.selection.neighbours import Pairs, hashed_text_pairs, text_pairs, vector_pairs
from fairlead.selection.pool import Part, Pool

__all__ = ["NearDuplicates"]


@dataclass(frozen=True)
class NearDuplicates(Selector):
    """Keep one of the records that lie closer together than a limit."""

    closer_than: float = 0.05
    """Records whose distance is below this are near. Of vectors it is 2 (1 - cos), so that 0.05 is a cosine above
    0.975; of n-grams it is 1 - shared / all of both."""
    by: Literal["vectors", "ngrams", "minhash"] = "vectors"
    """What is compared: vectors; the n-grams of words in texts; or these, among candidates that hashing finds."""
    rule: Literal["lowest", "greedy", "components"] = "lowest"
    """Who stays: a record with no near one before it (as published); one with no near one that stays before it; the
    first of all that are linked by near ones."""
    best: str | None = None
    """The column by which records come before others, the highest first; None takes them in their order."""
    embedding: Embedding | str = Embedding()
    """How texts are embedded, or the column that holds vectors; for `vectors`."""
    part: Part = "all"
    """Which of a record's texts stands for it; the published filter compares the prompts."""
    words: int = 3
    """Words in an n-gram."""
    hashes: int = 128
    """Hash functions; for `minhash`. More miss fewer pairs."""

    example: ClassVar[Mapping[str, Any]] = {"embedding": {"model": "harbor:base-300k"}, "best": "quality"}
    keeps_by_place: ClassVar[bool] = True
    """Of equal records the earlier one is kept."""

    def __post_init__(self) -> None:
        most = 4 if self.by == "vectors" else 1
        if not 0 < self.closer_than <= most:
            fix = f"use a distance above 0, at most {most}"
            raise UsageError(f"near_duplicates.closer_than is {self.closer_than}", fix=fix)
        for name, value, known in (("by", self.by, _FINDERS), ("rule", self.rule, _RULES)):
            if value not in known:
                raise UsageError(f"near_duplicates.{name} is {value!r}", fix=f"use one of {', '.join(known)}")
        for name, least in (("words", 1), ("hashes", 16)):
            if getattr(self, name) < least:
                raise UsageError(f"near_duplicates.{name} is {getattr(self, name)}", fix=f"use a value >= {least}")

    def choose(self, pool: Pool) -> Selection:
        """Find the near ones of every record that has a text, and apply the rule."""
        order = np.arange(len(pool)) if self.best is None else best_first(pool.numbers(self.best))
        order, pairs = _FINDERS[self.by](self, pool, order)
        keeps, stands_for = _RULES[self.rule](len(order), pairs)
        counts = np.bincount(np.concatenate([pairs.first, pairs.second]), minlength=len(order))
        least = np.full(len(pool), np.nan)
        least[order] = pairs.least
        reasons = {int(order[k]): "near to an earlier record" for k in np.flatnonzero(~keeps)}
        missing = len(pool) - len(order)
        return chosen(
            len(pool),
            order[keeps],
            least,
            reasons,
            "no text to compare",
            columns=_columns(pool, order, least, counts, np.where(counts > 0, stands_for, -1)),
            metrics={
                "near_pairs": float(len(pairs.first)),
                "near_duplicates": float((~keeps).sum()),
                "without_text": float(missing),
            },
            figures=_figures(least),
        )


def _columns(
    pool: Pool, order: np.ndarray, least: np.ndarray, counts: np.ndarray, stands_for: np.ndarray
) -> dict[str, list[Any]]:
    repeats, names = [0] * len(pool), [None] * len(pool)
    for k, i in enumerate(order.tolist()):
        repeats[i] = int(counts[k])
        names[i] = pool[int(order[stands_for[k]])].id if stands_for[k] >= 0 else None  # type: ignore[call-overload]
    return {
        "min_neighbor_distance": [None if np.isnan(value) else float(value) for value in least],
        "repeat_count": repeats,
        "representative": names,
    }


def _figures(least: np.ndarray) -> dict[str, str]:
    known = least[~np.isnan(least)].tolist()
    drawn = {"records": known}
    return (
        {"distance to the nearest": figures.distribution(drawn, label="distance", unit="share of records")}
        if known
        else {}
    )


def _by_vectors(how: NearDuplicates, pool: Pool, order: np.ndarray) -> tuple[np.ndarray, Pairs]:
    vectors = pool.vectors(how.embedding, how.part)
    order = order[vectors[order].any(1)]
    return order, vector_pairs(vectors[order], how.closer_than)


def _by_ngrams(how: NearDuplicates, pool: Pool, order: np.ndarray) -> tuple[np.ndarray, Pairs]:
    order, texts = _with_text(how, pool, order)
    return order, text_pairs(texts, how.words, how.closer_than)


def _by_minhash(how: NearDuplicates, pool: Pool, order: np.ndarray) -> tuple[np.ndarray, Pairs]:
    order, texts = _with_text(how, pool, order)
    return order, hashed_text_pairs(texts, how.words, how.closer_than, how.hashes)


def _with_text(how: NearDuplicates, pool: Pool, order: np.ndarray) -> tuple[np.ndarray, list[str]]:
    texts = pool.texts(how.part)
    order = order[[bool(texts[i].strip()) for i in order]] if len(order) else order
    return order, [texts[i] for i in order]


_FINDERS: dict[str, Callable[[NearDuplicates, Pool, np.ndarray], tuple[np.ndarray, Pairs]]] = {
    "vectors": _by_vectors,
    "ngrams": _by_ngrams,
    "minhash": _by_minhash,
}


def _lowest(count: int, pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """Return who stays, bool [N], and who stands for whom: the first near one, or oneself where all come later."""
    stands_for = np.arange(count)
    np.minimum.at(stands_for, pairs.second, pairs.first)
    return stands_for == np.arange(count), stands_for


def _greedy(count: int, pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """As `_lowest`, with the first near one that stays itself."""
    stands_for = np.full(count, -1, np.int64)
    starts, ends = (np.searchsorted(pairs.first, np.arange(count), side) for side in ("left", "right"))
    for i in range(count):
        if stands_for[i] < 0:
            stands_for[i] = i
            later = pairs.second[starts[i] : ends[i]]
            stands_for[later[stands_for[later] < 0]] = i
    return stands_for == np.arange(count), stands_for


def _components(count: int, pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """As `_lowest`, with the first of all that are linked."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    links = coo_matrix((np.ones(len(pairs.first), np.int8), (pairs.first, pairs.second)), shape=(count, count))
    _, which = connected_components(links, directed=False)
    _, firsts = np.unique(which, return_index=True)
    stands_for = firsts[which] if count else np.zeros(0, np.int64)
    return stands_for == np.arange(count), stands_for


_RULES: dict[str, Callable[[int, Pairs], tuple[np.ndarray, np.ndarray]]] = {
    "lowest": _lowest,
    "greedy": _greedy,
    "components": _components,
}
