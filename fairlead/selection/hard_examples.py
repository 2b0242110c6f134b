"""What a model does worst: prompts chosen by how its own answers score (Chang et al. 2025, arXiv 2505.11080).

Before BLEUBERI trains, the model to be trained answers every prompt once, the answers are scored by the reward of the
training, and the prompts with the lowest scores are kept: groups of answers that are all good teach nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from fairlead.errors import UsageError
from fairlead.selection.base import Selection, Selector, best_first, check_keep, chosen, number_kept
from fairlead.selection.pool import Pool

__all__ = ["HardExamples"]


@dataclass(frozen=True)
class HardExamples(Selector):
    """Keep the records whose score is lowest, highest or in the middle; equal scores stay in their order."""

    keep: float
    """Records kept: a number of them, or a share of the pool below 1."""
    column: str = "reward"
    """The column with the score of the model's own answer."""
    which: Literal["hard", "medium", "easy"] = "hard"
    """hard, the lowest scores; easy, the highest; medium, those in the middle of the order."""
    above: float | None = None
    """Least score that is kept; the score itself is kept, too. The very lowest scores often tell of bad references, or
    of prompts that have many good answers."""

    example: ClassVar[Mapping[str, Any]] = {"column": "quality", "keep": 0.25}
    leaves_out_missing: ClassVar[bool] = True
    """Rewards abstain, so a missing score is a reason and no fault."""

    def __post_init__(self) -> None:
        check_keep(self.keep, "hard_examples")
        if not self.column:
            raise UsageError("hard_examples.column is empty", fix="name the column with the scores")

    def choose(self, pool: Pool) -> Selection:
        """Order by score and choose; what is chosen comes in the order in which a larger `keep` would go on.

        The selection's score is higher for what is chosen earlier: the record's score, its negative for `hard`, and
        for `medium` the places between it and the middle, as a negative number. Metrics: `score_kept`, `score_pool`
        (means).
        """
        values = pool.numbers(self.column, missing=True)
        reasons = {int(i): "without a score" for i in np.flatnonzero(np.isnan(values))}
        if self.above is not None:
            low = np.flatnonzero(values < self.above)
            reasons |= {int(i): f"score below {self.above:g}" for i in low}
            values = np.where(values < self.above, np.nan, values)
        order = _ORDER[self.which](values)
        scores = {"hard": -values, "easy": values}.get(self.which)
        if scores is None:
            scores = np.full(len(values), np.nan)
            scores[order] = -np.arange(len(order), dtype=np.float64)
        kept = order[: number_kept(self.keep, len(pool))]
        metrics = {}
        if len(kept):
            metrics = {"score_kept": float(values[kept].mean()), "score_pool": float(np.nanmean(values))}
        return chosen(len(pool), kept, scores, reasons, _OTHERS[self.which], metrics=metrics)


def _middle_first(values: np.ndarray) -> np.ndarray:
    """Return places such that the first k are the centred slice from (n - k) // 2 on of the ascending order."""
    rising = best_first(-values)
    n = len(rising)
    starts = [(n - k) // 2 for k in range(1, n + 1)]
    added = [start if k == 1 or start < starts[k - 2] else start + k - 1 for k, start in enumerate(starts, start=1)]
    return rising[added]


_ORDER: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "hard": lambda values: best_first(-values),
    "easy": best_first,
    "medium": _middle_first,
}
_OTHERS = {"hard": "others are harder", "easy": "others are easier", "medium": "others are nearer to the middle"}
