"""Keep what a reward values: above a threshold, the best of the pool, or both.

The plainest selector, and the filter in most pipelines (Touvron et al. 2023, arXiv 2307.09288, section 3.2.3; the
reward filters of Magpie, arXiv 2406.08464). The value stands in a column, or a reward of the catalog gives it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fairlead import catalog
from fairlead.errors import DataError, UsageError
from fairlead.selection.base import Selection, Selector, best_first, check_keep, chosen, number_kept
from fairlead.selection.pool import Pool

__all__ = ["RewardThreshold"]


@dataclass(frozen=True)
class RewardThreshold(Selector):
    """Keep records whose value is high enough, the best first."""

    reward: Any = None
    """The reward that values a record's prompt and answer: a catalog name, or {name, fields...}."""
    column: str | None = None
    """The column that holds the value, in place of a reward."""
    above: float | None = None
    """Least value that is kept; the value itself is kept, too."""
    keep: float | None = None
    """Most records kept: a number of them, or a share of the pool below 1; of equal values the earlier ones."""

    example: ClassVar[Mapping[str, Any]] = {"column": "quality", "keep": 0.25}

    def __post_init__(self) -> None:
        if (self.reward is None) == (self.column is None):
            fix = "give either the reward that values the records or the column that holds the value"
            raise UsageError("reward_threshold wants one source of values", fix=fix)
        if self.above is None and self.keep is None:
            raise UsageError("reward_threshold would keep everything", fix="give above, keep or both")
        check_keep(self.keep, "reward_threshold")

    def choose(self, pool: Pool) -> Selection:
        """Value and choose."""
        values = pool.numbers(self.column) if self.column is not None else self._valued(pool)
        reasons = {int(i): "the reward abstained" for i in np.flatnonzero(np.isnan(values))}
        order = best_first(values)
        if self.above is not None:
            reasons |= {int(i): f"value below {self.above:g}" for i in order if values[i] < self.above}
            order = order[values[order] >= self.above]
        kept = order[: number_kept(self.keep, len(pool))]
        return chosen(len(pool), kept, values, reasons, "others are worth more")

    def _valued(self, pool: Pool) -> np.ndarray:
        """Return the reward's values, float64 [N]; NaN where it abstains."""
        reward: Any = catalog.from_spec("reward", self.reward)
        several = [record.id for record in pool if not getattr(record, "prompt", "")]
        if several:
            fix = "split them into prompt and completion first, or use a column"
            raise DataError(f"{len(several)} records are whole conversations, which a reward cannot value", fix=fix)
        prompts = [record.prompt for record in pool]  # type: ignore[union-attr]
        found = reward(prompts, pool.texts("answer"))
        return np.where(found.abstained, np.nan, found.values)
