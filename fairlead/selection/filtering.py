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

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from time import perf_counter
from typing import Any, Literal, TypeAlias

import numpy as np
import torch

from fairlead.errors import DataError, UsageError

__all__ = ["FirstPass", "Kept", "Near", "diverse", "nearest", "unit_rows"]

FirstPass: TypeAlias = Literal["auto", "float32", "bfloat16"]
"""Precision of the products that decide clear cases: the faster one on this device, or one of the two."""

_CHUNK = 4096
"""Kept rows that one product goes over; a row that they reject is spared the chunks behind."""
_FEWEST = 512
"""Rows looked at together while few are kept, where their products with each other are most of the work."""
_PAIRS = 4096
"""Pairs looked at again at once."""
_PRICE = 600
"""Products of whole rows that cost as much as looking at one pair again."""
_FOLD = 2.5
"""Numbers in a folded row: this, times 1 - limit, times those of a whole one. Of rows whose numbers are alike in size,
pairs are cleared whose cosine is below 1 - 1 / this, at any limit."""
_LEAST = 128
"""Rows of fewer numbers are not folded."""
_PATIENCE = 4
"""Blocks most of whose rows had to be multiplied whole, after which rows are no longer folded."""
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
    targets = [_units(vectors[chosen[start : start + _CHUNK]])[0] for start in range(0, len(chosen), _CHUNK)]
    for start in range(0, len(vectors), block):
        units, finite, filled = _units(vectors[start : start + block])
        best, found = np.full(len(units), -np.inf, np.float32), np.full(len(units), -1, np.int64)
        mine = own[start : start + block]
        for k, target in enumerate(targets):
            products = (units @ target.T).numpy()
            here = np.flatnonzero((mine >= k * _CHUNK) & (mine < k * _CHUNK + len(target)))
            products[here, mine[here] - k * _CHUNK] = np.inf if itself else -np.inf
            where = products.argmax(1)
            top = products[np.arange(len(units)), where]
            better = top > best
            best[better], found[better] = top[better], where[better] + k * _CHUNK
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
        self.head = _head(size, limit)
        self.rechecked = 0
        self._missed = 0
        self._rows: list[int] = []
        self._whole, self._short = _Shelf(size, dtype, device), _Shelf(self.head + 1, dtype, device)

    def accept(self, rows: np.ndarray, at_most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the places within `rows` of those accepted, of those of zeros, and of those that are not finite."""
        units, finite, filled = _units(self.vectors[rows])
        whole = self._whole.like(units)
        short = self._short.like(_folded(units, self.head)) if self.head and self._missed < _PATIENCE else None
        alive = np.flatnonzero(finite & filled)
        for k in range(len(self._whole.chunks)):
            if not len(alive):
                break
            kept = np.array(self._rows[k * _CHUNK : (k + 1) * _CHUNK], np.int64)
            near = None if short is None else self._folded_near_any(_taken(short, alive), rows[alive], kept, k)
            if near is None:
                near = self._near_any(_taken(whole, alive), rows[alive], kept, k)
            alive = alive[~near]
        near = None if short is None else self._folded_near_each_other(_taken(short, alive), rows[alive])
        if near is None:
            near = self._near_each_other(_taken(whole, alive), rows[alive])
        accepted = alive[_greedy(near, at_most)]
        self._whole.add(_taken(whole, accepted))
        if short is not None:
            self._short.add(_taken(short, accepted))
        self._rows += rows[accepted].tolist()
        return accepted, np.flatnonzero(finite & ~filled), np.flatnonzero(~finite)

    def _folded_near_any(self, queries: torch.Tensor, rows: np.ndarray, kept: np.ndarray, k: int) -> np.ndarray | None:
        """Tell for each of B folded rows whether any of chunk `k` is too near, bool [B]; None: too many are unclear."""
        pairs = self._unclear(queries @ self._short.chunks[k].T)
        if pairs is None:
            return None
        first, second = pairs
        near = np.zeros(len(rows), bool)
        near[first[self._above(rows[first], kept[second])]] = True
        return near

    def _folded_near_each_other(self, part: torch.Tensor, rows: np.ndarray) -> np.ndarray | None:
        """Return which later ones of B folded rows are too near to which earlier ones, bool [B, B]; None as above."""
        pairs = self._unclear((part @ part.T).triu_(1))
        if pairs is None:
            return None
        first, second = pairs
        near = np.zeros((len(rows), len(rows)), bool)
        near[first, second] = self._above(rows[first], rows[second])
        return near

    def _unclear(self, products: torch.Tensor) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the pairs that folded rows do not clear; None where whole rows cost less than looking at each."""
        if not products.numel():
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        lines = np.flatnonzero(products.amax(1).float().cpu().numpy() >= self.limit - self.margin)
        unclear = _taken(products, lines) >= self.limit - self.margin
        if int(unclear.sum()) * _PRICE > products.numel():
            self._missed += 1
            return None
        self._missed = max(0, self._missed - 1)
        first, second = (part.cpu().numpy() for part in unclear.nonzero(as_tuple=True))
        return lines[first], second

    def _near_any(self, queries: torch.Tensor, rows: np.ndarray, kept: np.ndarray, k: int) -> np.ndarray:
        """Tell for each of B whole rows whether any of chunk `k` is too near, bool [B]."""
        products = queries @ self._whole.chunks[k].T
        top = products.amax(1).float().cpu().numpy()
        near = top > self.limit + self.margin
        open_ = np.flatnonzero(~near & (top >= self.limit - self.margin))
        if len(open_):
            lines = _taken(products, open_) >= self.limit - self.margin
            which, others = (part.cpu().numpy() for part in lines.nonzero(as_tuple=True))
            queried = open_[which]
            near[queried[self._above(rows[queried], kept[others])]] = True
        return near

    def _near_each_other(self, part: torch.Tensor, rows: np.ndarray) -> np.ndarray:
        """Return which later ones of B whole rows are too near to which earlier ones, bool [B, B]."""
        products = part @ part.T
        products.masked_fill_(torch.ones_like(products, dtype=torch.bool).tril_(), -torch.inf)
        near = (products > self.limit + self.margin).cpu().numpy()
        first, second = (products >= self.limit - self.margin).nonzero(as_tuple=True)
        first, second = first.cpu().numpy(), second.cpu().numpy()
        open_ = ~near[first, second]
        first, second = first[open_], second[open_]
        near[first, second] = self._above(rows[first], rows[second])
        return near

    def _above(self, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Tell for pairs of rows whether their cosine in float64 is above the limit, bool [P]."""
        self.rechecked += len(rows)
        found = [np.zeros(0, bool)]
        for start in range(0, len(rows), _PAIRS):
            first = unit_rows(self.vectors[rows[start : start + _PAIRS]])
            second = unit_rows(self.vectors[others[start : start + _PAIRS]])
            found.append(np.einsum("pd,pd->p", first, second) > self.limit)
        return np.concatenate(found)


class _Shelf:
    """Rows of `size` numbers that grow in number, in chunks."""

    def __init__(self, size: int, dtype: torch.dtype, device: str):
        self.size, self.dtype, self.device = size, dtype, device
        self.count = 0
        self._store: list[torch.Tensor] = []

    @property
    def chunks(self) -> list[torch.Tensor]:
        """The rows so far, [_CHUNK, size] each and the last as many as it holds."""
        return [chunk[: self.count - k * _CHUNK] for k, chunk in enumerate(self._store)]

    def like(self, rows: torch.Tensor) -> torch.Tensor:
        """Return rows in the precision and on the device of these."""
        return rows.to(self.device, self.dtype)

    def add(self, rows: torch.Tensor) -> None:
        """Add rows [N, size] behind the others."""
        done = 0
        while done < len(rows):
            k, used = divmod(self.count, _CHUNK)
            if k == len(self._store):
                self._store.append(torch.zeros(_CHUNK, self.size, dtype=self.dtype, device=self.device))
            count = min(_CHUNK - used, len(rows) - done)
            self._store[k][used : used + count] = rows[done : done + count]
            self.count += count
            done += count


def _head(size: int, limit: float) -> int:
    """Return how many numbers of a row of `size` stay when it is folded; 0 where folding would not pay."""
    head = 32 * max(1, math.ceil(_FOLD * (1 - limit) * size / 32)) - 1
    return head if size >= _LEAST and 2 * head <= size else 0


def _folded(units: torch.Tensor, head: int) -> torch.Tensor:
    """Return the first `head` numbers of unit rows, and the length of the others as one more, [N, head + 1]."""
    return torch.cat([units[:, :head], units[:, head:].norm(dim=1, keepdim=True)], 1)


def _taken(rows: torch.Tensor, places: np.ndarray) -> torch.Tensor:
    """Return some rows in order; all of them are not copied."""
    return rows if len(places) == len(rows) else rows[torch.from_numpy(places).to(rows.device)]


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
