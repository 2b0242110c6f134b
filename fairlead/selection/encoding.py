"""Records as rows of few numbers: embedded, pairs by pair, standardised, and turned to their principal axes."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np

from fairlead.engines.embedding import Embedding
from fairlead.errors import DataError
from fairlead.records import Conversation, Preference
from fairlead.selection.pool import Part, Pool

__all__ = ["PairMode", "encode", "principal"]

PairMode: TypeAlias = Literal["concat", "diff", "both"]
"""What stands for a pair: prompt and chosen answer; chosen less rejected; or chosen and rejected, a row each."""


def encode(pool: Pool, embedding: Embedding | str, part: Part, pairs: PairMode) -> np.ndarray:
    """Return a pool's vectors, float64 [N, D], or [2 N, D] for `both`: all chosen ones, then all rejected ones.

    Raises:
        DataError: records that are no pairs, where pairs are asked for; vectors as `Pool.vectors` refuses them.
    """
    first = np.asarray(pool.vectors(embedding, part), np.float64)
    if pairs == "concat":
        return first
    if isinstance(embedding, str):
        what = f"column {embedding!r} holds one vector per record, and pairs={pairs} needs two"
        raise DataError(what, fix="embed the texts, or use pairs=concat")
    other = [record.id for record in pool if not isinstance(record, Preference)]
    if other:
        what = f"{len(other)} of {len(pool)} records are no preferences: {', '.join(other[:3])}"
        raise DataError(what, fix="use pairs=concat, or give preferences alone")
    losers = [Conversation(r.id, r.prompt, r.rejected, r.extra) for r in pool if isinstance(r, Preference)]
    second = np.asarray(pool.beside(losers).vectors(embedding, part), np.float64)
    return first - second if pairs == "diff" else np.concatenate([first, second])


def principal(rows: np.ndarray, dimensions: float) -> tuple[np.ndarray, float]:
    """Standardise rows [N, D] and return them on their leading principal axes, with the share of variance these hold.

    Args:
        rows: float64 [N, D].
        dimensions: a number of axes, or a share of the variance below 1 that they must hold.

    Returns:
        float64 [N, d] with d >= 1, and the share. Columns that do not vary are left out.
    """
    spread = rows.std(0)
    varying = spread > 1e-12 * max(1.0, float(np.abs(rows).max(initial=0.0)))
    if not varying.any():
        return np.zeros((len(rows), 1)), 1.0
    scaled = (rows[:, varying] - rows[:, varying].mean(0)) / spread[varying]
    variances, axes = np.linalg.eigh(scaled.T @ scaled / len(rows))
    variances, axes = np.maximum(variances[::-1], 0.0), axes[:, ::-1]
    held = np.cumsum(variances) / variances.sum()
    number = int(dimensions) if dimensions >= 1 else int(np.searchsorted(held, dimensions - 1e-12)) + 1
    number = min(number, len(held), max(1, int((variances > 1e-9 * variances[0]).sum())))
    axes = axes[:, :number]
    signs = np.sign(axes[np.abs(axes).argmax(0), range(number)])
    return scaled @ (axes * signs), float(held[number - 1])
