"""Score first, then variety: go through vectors in order and keep what is not too similar to what is kept already.

    found = diverse(vectors, order, max_similarity=0.9, keep=6000)       # rows of an array or a memory map
    found.kept, found.visited

The filter of Liu et al. 2023 (arXiv 2312.15685, section 3.3): a row is left out when its cosine to any kept row is
above `max_similarity`, and a row that was left out itself rejects nobody. By definition one row after the other; here
a block of rows at once is held against the kept ones and then among itself by matrix products. Long rows are folded
first: a share of their numbers and, as one more, the length of the rest, so that the product of two is never below
their cosine (Cauchy and Schwarz); it clears most pairs. A product that does not, or whose rounding could matter (in
float32 or bfloat16, by a bound that holds for any order of summation), is made again in float64 from the rows as they
were given, so that every block size, number of threads, device and first pass keeps the same rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from time import perf_counter
from typing import Any, Literal, TypeAlias

import numpy as np
import torch

from fairlead.errors import DataError, UsageError
from fairlead.selection.folding import CHUNK, Block, Shelf, head_of, taken

__all__ = ["FirstPass", "Kept", "Near", "diverse", "nearest", "unit_rows"]

FirstPass: TypeAlias = Literal["auto", "float32", "bfloat16"]
"""Precision of the products that decide clear cases: the faster one on this device, or one of the two."""

_FEWEST = 512
"""Rows looked at together while few are kept, where their products with each other are most of the work."""
_PAIRS = 4096
"""Pairs looked at again at once."""
_PRICE = 150
"""Products of whole rows that cost as much as looking at one pair again."""
_PATIENCE = 4
"""Products of folded rows more that leave too many pairs than that do not, after which rows are no longer folded."""
_TIE = 1e-12
"""A cosine above the limit by no more than the rounding of float64 counts as equal to it, which keeps a row."""
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Kept:
    """What `diverse` kept."""

    kept: np.ndarray
    """int64 [M]: rows, in the order in which they were accepted."""
    visited: int
    """Rows of the order that were looked at until the last was accepted; all of them where no size stopped it."""
    blank: np.ndarray
    """int64: rows among those that have no direction (all zeros), which are never kept."""
    rechecked: int
    """Pairs whose product was made again in float64; differs with block size and first pass."""


@dataclass(frozen=True)
class Near:
    """The nearest of some rows, for every row."""

    place: np.ndarray
    """int64 [N]: place among the rows asked for; -1 for a row without direction, or where there is none."""
    similarity: np.ndarray
    """float32 [N]: the cosine to it; NaN where there is none."""


def diverse(
    vectors: np.ndarray,
    order: Sequence[int] | np.ndarray,
    max_similarity: float = 0.9,
    keep: int | None = None,
    *,
    block: int = 1024,
    first_pass: FirstPass = "auto",
    device: str = "cpu",
) -> Kept:
    """Keep rows in order, without those that are too similar to a kept one.

    Args:
        vectors: floats [N, D] of any length but zero; may be a memory map, of which only visited rows are read.
        order: rows, the best first; each at most once.
        max_similarity: highest cosine between two kept rows; a higher one rejects, an equal one does not.
        keep: most rows kept; None goes through all of them.
        block: rows that are looked at together; the result does not depend on it.
        first_pass: precision of the products that decide clear cases; the result does not depend on it.
        device: where the products are made; the result does not depend on it.

    Raises:
        UsageError: settings out of their range.
        DataError: a row that is visited and not finite.
    """
    vectors = np.asanyarray(vectors)
    rows = np.asarray(order, np.int64).reshape(-1)
    _check(vectors, max_similarity, keep, block)
    at_most = len(rows) if keep is None else keep
    run = _Run(vectors, max_similarity, _precision(first_pass, device), device)
    kept: list[int] = []
    blank: list[int] = []
    visited = 0
    while visited < len(rows) and len(kept) < at_most:
        part = rows[visited : visited + min(block, max(_FEWEST, len(kept) // 8))]
        accepted, flat, broken = run.accept(part, at_most - len(kept))
        seen = int(accepted[-1]) + 1 if len(kept) + len(accepted) == at_most else len(part)
        if (broken < seen).any():
            place = f"row {part[broken[0]]}"
            raise DataError("a vector is not finite", place=place, fix="embed its text again, or leave it out")
        kept += part[accepted].tolist()
        blank += part[flat[flat < seen]].tolist()
        visited += seen
    return Kept(np.array(kept, np.int64), visited, np.array(blank, np.int64), run.rechecked)


def nearest(vectors: np.ndarray, rows: Sequence[int] | np.ndarray, *, itself: bool = True, block: int = 1024) -> Near:
    """Return, for every row of `vectors` [N, D], which of some `rows` [M] is nearest to it and the cosine, in float32.

    Of equally near ones the first is told.

    Args:
        vectors: finite floats [N, D].
        rows: which rows of them are asked for.
        itself: whether a row that is among them may be nearest to itself, as it then is.
        block: rows that are looked at together.
    """
    vectors, chosen = np.asanyarray(vectors), np.asarray(rows, np.int64).reshape(-1)
    place, similarity = np.full(len(vectors), -1, np.int64), np.full(len(vectors), np.nan, np.float32)
    own = np.full(len(vectors), -1, np.int64)
    own[chosen] = np.arange(len(chosen))
    targets = [_units(vectors[chosen[start : start + CHUNK]])[0] for start in range(0, len(chosen), CHUNK)]
    for start in range(0, len(vectors), block):
        units, finite, filled = _units(vectors[start : start + block])
        best, found = np.full(len(units), -np.inf, np.float32), np.full(len(units), -1, np.int64)
        mine = own[start : start + block]
        for k, target in enumerate(targets):
            products = (units @ target.T).numpy()
            here = np.flatnonzero((mine >= k * CHUNK) & (mine < k * CHUNK + len(target)))
            products[here, mine[here] - k * CHUNK] = np.inf if itself else -np.inf
            where = products.argmax(1)
            top = products[np.arange(len(units)), where]
            better = top > best
            best[better], found[better] = top[better], where[better] + k * CHUNK
        best[np.isposinf(best)] = 1.0
        good = finite & filled & (found >= 0)
        place[start : start + block][good], similarity[start : start + block][good] = found[good], best[good]
    return Near(place, similarity)


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Return rows [N, D] at length 1, float64; rows of zeros stay, others are never taken for zeros or infinite."""
    wide = np.asarray(rows, np.float64)
    top = np.abs(wide).max(1, keepdims=True, initial=0.0)
    scaled = wide / np.where(top > 0, top, 1.0)
    length = np.sqrt(np.einsum("nd,nd->n", scaled, scaled))[:, None]
    return scaled / np.where(length > 0, length, 1.0)


class _Run:
    """The kept rows, and what is near to what.

    Args:
        vectors: [N, D], as given.
        limit: the highest cosine that is no reason to reject.
        dtype: of the first products.
        device: where they are made.
    """

    def __init__(self, vectors: np.ndarray, limit: float, dtype: torch.dtype, device: str):
        self.vectors, self.limit = vectors, limit + _TIE
        size = vectors.shape[1]
        self.margin = _rounding(dtype, size)
        self.head = head_of(size, limit)
        self.rechecked = 0
        self._missed = 0
        self._shelf = Shelf(size, self.head, dtype, device)

    def accept(self, rows: np.ndarray, at_most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the places within `rows` of those accepted, of those of zeros, and of those that are not finite."""
        units, finite, filled = _units(self.vectors[rows])
        block = self._shelf.like(rows, units, self.head if self._missed < _PATIENCE else 0)
        places = np.flatnonzero(finite & filled)
        block = block.taken(places)
        for chunk in self._shelf.chunks():
            if len(places):
                alive = np.flatnonzero(~self._near_any(block, chunk))
                places, block = places[alive], block.taken(alive)
        alive = _greedy(self._near_each_other(block), at_most)
        self._shelf.add(block.taken(alive))
        return places[alive], np.flatnonzero(finite & ~filled), np.flatnonzero(~finite)

    def _near_any(self, block: Block, chunk: Block) -> np.ndarray:
        """Tell for each of B rows whether any of a chunk of kept ones is too near, bool [B]."""
        if block.short is not None and chunk.short is not None:
            pairs = self._unclear(block.short @ chunk.short.T)
            if pairs is not None:
                near = np.zeros(len(block.rows), bool)
                near[pairs[0][self._near_pairs(block, chunk, *pairs)]] = True
                return near
        products = block.whole @ chunk.whole.T
        top = products.amax(1).float().cpu().numpy()
        near = top > self.limit + self.margin
        open_ = np.flatnonzero(~near & (top >= self.limit - self.margin))
        if len(open_):
            which, others = _true(taken(products, open_) >= self.limit - self.margin)
            queried = open_[which]
            near[queried[self._above(block.rows[queried], chunk.rows[others])]] = True
        return near

    def _near_each_other(self, block: Block) -> np.ndarray:
        """Return which later rows of B are too near to which earlier ones, bool [B, B]."""
        if block.short is not None:
            pairs = self._unclear((block.short @ block.short.T).triu_(1))
            if pairs is not None:
                near = np.zeros((len(block.rows), len(block.rows)), bool)
                near[pairs] = self._near_pairs(block, block, *pairs)
                return near
        products = block.whole @ block.whole.T
        products.masked_fill_(torch.ones_like(products, dtype=torch.bool).tril_(), -torch.inf)
        near = (products > self.limit + self.margin).cpu().numpy()
        first, second = _true(products >= self.limit - self.margin)
        open_ = ~near[first, second]
        first, second = first[open_], second[open_]
        near[first, second] = self._above(block.rows[first], block.rows[second])
        return near

    def _unclear(self, products: torch.Tensor) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the pairs that folded rows do not clear; None where whole rows cost less than looking at each."""
        if not products.numel():
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        lines = np.flatnonzero(products.amax(1).float().cpu().numpy() >= self.limit - self.margin)
        unclear = taken(products, lines) >= self.limit - self.margin
        if int(unclear.sum()) * _PRICE > products.numel():
            self._missed += 1
            return None
        self._missed = max(0, self._missed - 1)
        first, second = _true(unclear)
        return lines[first], second

    def _near_pairs(self, block: Block, chunk: Block, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Tell for pairs of whole rows whether they are too near, bool [P]."""
        near = [np.zeros(0, bool)]
        for start in range(0, len(first), _PAIRS):
            one, other = first[start : start + _PAIRS], second[start : start + _PAIRS]
            which, whom = (torch.from_numpy(part).to(block.whole.device) for part in (one, other))
            rows = block.whole[which].float() * chunk.whole[whom].float()
            products = rows.sum(1).cpu().numpy()
            above = products > self.limit + self.margin
            open_ = np.flatnonzero(~above & (products >= self.limit - self.margin))
            above[open_] = self._above(block.rows[one[open_]], chunk.rows[other[open_]])
            near.append(above)
        return np.concatenate(near)

    def _above(self, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Tell for pairs of rows whether their cosine in float64 is above the limit, bool [P]."""
        self.rechecked += len(rows)
        found = [np.zeros(0, bool)]
        for start in range(0, len(rows), _PAIRS):
            first = unit_rows(self.vectors[rows[start : start + _PAIRS]])
            second = unit_rows(self.vectors[others[start : start + _PAIRS]])
            found.append(np.einsum("pd,pd->p", first, second) > self.limit)
        return np.concatenate(found)


def _true(marks: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return the line and column of every true mark."""
    first, second = marks.nonzero(as_tuple=True)
    return first.cpu().numpy(), second.cpu().numpy()


def _greedy(near: np.ndarray, at_most: int) -> np.ndarray:
    """Return which of B rows are accepted in order, given which later ones each would reject, bool [B, B]."""
    dead = np.zeros(len(near), bool)
    for i in np.flatnonzero(near.any(1)):
        if not dead[i]:
            dead |= near[i]
    return np.flatnonzero(~dead)[:at_most]


def _rounding(dtype: torch.dtype, size: int) -> float:
    """Return how far a product of two unit rows of `size` numbers may be from the exact one.

    Both rows are brought to length 1 in float32, perhaps folded, and rounded to `dtype`, their products summed in
    float32 in any order, and the sum is rounded to `dtype`. Where torch may make products of float32 in less, they
    count as bfloat16.
    """
    if torch.get_float32_matmul_precision() != "highest":
        dtype = torch.bfloat16
    unit, single = torch.finfo(dtype).eps / 2, torch.finfo(torch.float32).eps / 2
    return 3.1 * unit + 1.1 * (2.5 * size + 16) * single


def _units(rows: np.ndarray) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Return rows [N, D] at length 1 in float32, and which are finite and which not all zeros, bool [N]; else zeros."""
    given = torch.from_numpy(np.require(rows, np.float32 if rows.dtype == np.float32 else np.float64, ["C", "W"]))
    top = given.abs().amax(1)
    finite, filled = torch.isfinite(top), top != 0
    good = (finite & filled)[:, None]
    scaled = (given / torch.where(good, top[:, None], 1.0)).float()
    if not good.all():
        scaled = torch.where(good, scaled, 0.0)
    units = scaled / torch.where(good, scaled.norm(dim=1, keepdim=True), 1.0)
    return units, finite.numpy(), filled.numpy()


def _precision(first_pass: FirstPass, device: str) -> torch.dtype:
    if first_pass not in ("auto", *_DTYPES):
        raise UsageError(f"first_pass is {first_pass!r}", fix=f"use one of auto, {', '.join(_DTYPES)}")
    return _DTYPES[_faster(device) if first_pass == "auto" else first_pass]


@lru_cache(maxsize=4)
def _faster(device: str) -> str:
    """Return the precision whose products take less time here: bfloat16 wants a processor that has it."""
    spent = {}
    for name, dtype in _DTYPES.items():
        rows = torch.ones(256, 256, dtype=dtype, device=device)
        spent[name] = min(_timed(rows) for _ in range(5))
    return min(spent, key=lambda name: spent[name])


def _timed(rows: torch.Tensor) -> float:
    start = perf_counter()
    float((rows @ rows.T)[0, 0])
    return perf_counter() - start


def _check(vectors: Any, max_similarity: float, keep: int | None, block: int) -> None:
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu":
        what = f"vectors are {vectors.dtype} of shape {tuple(vectors.shape)}"
        raise UsageError(what, fix="give numbers [rows, numbers in a vector]")
    if not -1 <= max_similarity <= 1:
        raise UsageError(f"max_similarity is {max_similarity}", fix="use a cosine in [-1, 1]")
    if keep is not None and keep < 0:
        raise UsageError(f"keep is {keep}", fix="use a number of rows, or None for all")
    if block < 1:
        raise UsageError(f"block is {block}", fix="use a value >= 1")
