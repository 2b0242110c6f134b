"""The filters of Magpie (Xu et al. 2024, arXiv 2406.08464), by name: thresholds on tags, then the longest answers.

What they go by stands in the records' columns: tags of a language model, the distance to the nearest other record, a
reward, and how much more that is than a base model's. Every threshold on a number is strict: the value itself is left
out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from fairlead.errors import DataError, UsageError
from fairlead.selection.base import Selection, Selector, check_keep, chosen, number_kept
from fairlead.selection.pool import Pool
from fairlead.verdicts import DIFFICULTY, QUALITY

__all__ = ["FILTERS", "MagpieFilter", "Rule", "mean_level"]

Filter = Literal["air", "pro", "pro2", "pro3", "pro4", "pro5", "pro6"]
_EASY = DIFFICULTY.index("easy")


@dataclass(frozen=True)
class Rule:
    """One line of the table; None where a column is not looked at."""

    quality: str | None = None
    """Lowest level of quality."""
    difficulty: str | None = None
    """Lowest level of difficulty."""
    reward: bool = False
    """Whether the reward has to be high enough."""
    difference: bool = False
    """Whether the answer has to be worth more than a base model's."""
    keep: int | None = 300_000
    """The longest answers kept; None for all."""
    halves: bool = False
    """Whether half of what is kept is easy, and half harder."""


FILTERS: dict[str, Rule] = {
    "air": Rule("good", "medium", difference=True),
    "pro": Rule("average", reward=True),
    "pro2": Rule("good", "easy", reward=True),
    "pro3": Rule(reward=True),
    "pro4": Rule("good", "easy", difference=True),
    "pro5": Rule("good", "easy", reward=True, keep=None),
    "pro6": Rule(reward=True, keep=200_000, halves=True),
}
"""The table."""


@dataclass(frozen=True)
class MagpieFilter(Selector):
    """Keep what passes a filter of Magpie, the longest answers first."""

    filter: Filter = "pro"
    """Which filter: air, or pro to pro6."""
    keep: float | None = None
    """Most records kept: a number, or a share of the pool below 1; by default the filter's own 300,000 (pro6: 200,000,
    pro5: all)."""
    reward_above: float = -12.0
    """What the reward has to be above, where the filter looks at it; the paper's value is on the scale of its own
    reward model."""
    difference_above: float = 0.0
    """What the difference of rewards has to be above, where the filter looks at it."""
    distance_above: float = 1e-6
    """What the distance to the nearest other record has to be above: 0 but for rounding."""
    quality: str | None = "input_quality"
    """Column with the quality: very poor, poor, average, good, excellent, or None. Without a column (null), here and
    below, the filter does not look at it."""
    difficulty: str | None = "difficulty"
    """Column with the difficulty: very easy, easy, medium, hard, very hard, or None."""
    distance: str | None = "min_neighbor_distance"
    """Column with the distance to the nearest other record; none where near duplicates were left out before."""
    reward: str | None = "reward"
    """Column with the reward."""
    difference: str | None = "reward_difference"
    """Column with the difference of rewards."""

    example: ClassVar[Mapping[str, Any]] = {"filter": "pro3", "distance": "quality"}

    def __post_init__(self) -> None:
        check_keep(self.keep, "magpie_filter.keep")
        if self.rule.halves and self.difficulty is None:
            what = f"magpie_filter.difficulty is null, and {self.filter} shares out by difficulty"
            raise UsageError(what, fix="name the column, or use another filter")

    @property
    def rule(self) -> Rule:
        """The filter's line of the table."""
        return FILTERS[self.filter]

    @property
    def keeps_by_quota(self) -> bool:
        """Whether a smaller choice need not be the beginning of a larger one."""
        return self.rule.halves

    def choose(self, pool: Pool) -> Selection:
        """Leave out what fails a threshold, then keep the longest answers; of equally long ones the earlier.

        Raises:
            DataError: a column that is missing, a level that there is not, a number that is not finite.
        """
        rule, n = self.rule, len(pool)
        reasons: dict[int, str] = {}
        hardness = None
        if rule.quality is not None and self.quality is not None:
            _below(reasons, _levels(pool, self.quality, QUALITY), QUALITY.index(rule.quality), self.quality)
        if (rule.difficulty is not None or rule.halves) and self.difficulty is not None:
            hardness = _levels(pool, self.difficulty, DIFFICULTY)
            _below(reasons, hardness, DIFFICULTY.index(rule.difficulty or "easy"), self.difficulty)
        bounds = ((self.distance, self.distance_above, True), (self.reward, self.reward_above, rule.reward),
                  (self.difference, self.difference_above, rule.difference))  # fmt: skip
        for column, bound, asked in bounds:
            if asked and column is not None:
                for i in np.flatnonzero(pool.numbers(column) <= bound).tolist():
                    reasons.setdefault(i, f"{column} is not above {bound:g}")
        lengths = np.array([float(len(text)) for text in pool.texts("answer")])
        passed = np.array([i for i in range(n) if i not in reasons], np.int64)
        order = passed[np.argsort(-lengths[passed], kind="stable")]
        most = number_kept(rule.keep if self.keep is None else self.keep, n)
        kept = _halves(order, hardness, most) if rule.halves and hardness is not None else order[:most]
        rest = {"metrics": {"passed": float(len(passed)), **self._means(pool)}, "notes": self._notes(reasons, n)}
        return chosen(n, kept, lengths, reasons, "passes, but others are longer", **rest)

    def _means(self, pool: Pool) -> dict[str, float]:
        """Return the mean levels of the pool, from 1 to 5, where there are tags."""
        found = {}
        for name, column, levels in (("quality", self.quality, QUALITY), ("difficulty", self.difficulty, DIFFICULTY)):
            if column is not None and pool.has(column):
                mean = mean_level([record.extra.get(column) for record in pool], levels)
                found |= {} if mean is None else {f"mean_{name}": mean}
        return found

    def _notes(self, reasons: Mapping[int, str], n: int) -> tuple[str, ...]:
        untagged = sum(reason.startswith("no ") for reason in reasons.values())
        return (f"{untagged} of {n} records have no tag that could be read, and are left out",) if untagged else ()


def mean_level(values: Sequence[Any], levels: Sequence[str]) -> float | None:
    """Return the mean place of some levels, counted from 1; None where no value is one of them."""
    found = [levels.index(value) + 1 for value in values if value in levels]
    return sum(found) / len(found) if found else None


def _levels(pool: Pool, column: str, levels: Sequence[str]) -> list[int | None]:
    """Return the places of a column's values among the levels, None where there is no tag."""
    values = pool.values(column)
    bad = [record.id for record, value in zip(pool, values, strict=True) if value is not None and value not in levels]
    if bad:
        what = f"{len(bad)} values of {column!r} are no level, the first at {bad[0]}"
        raise DataError(what, fix=f"use {', '.join(levels)}, or None for no tag")
    return [None if value is None else levels.index(value) for value in values]


def _below(reasons: dict[int, str], found: Sequence[int | None], lowest: int, column: str) -> None:
    for i, level in enumerate(found):
        if level is None:
            reasons.setdefault(i, f"no {column}")
        elif level < lowest:
            reasons.setdefault(i, f"{column} is too low")


def _halves(order: np.ndarray, difficulty: Sequence[int | None], most: int) -> np.ndarray:
    """Return the longest easy records and as many longest harder ones, in their order."""
    easy = [i for i in order.tolist() if difficulty[i] == _EASY]
    harder = [i for i in order.tolist() if difficulty[i] != _EASY]
    each = min(len(easy), len(harder), most // 2)
    kept = {*easy[:each], *harder[:each]}
    return np.array([i for i in order.tolist() if i in kept], np.int64)
