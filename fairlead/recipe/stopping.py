"""When rounds end by themselves: a rule over a metric of every round, and what is known of the rounds so far.

    stop: {metric: checked.rewards.model.total, by: 0.02}

The rule is worked out between rounds from what the rounds measured, so a run that was stopped comes to the same end.
The round of the best metric stands for all: `@ID_STEP` is what that round's step made, wherever the rounds ended.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fairlead.errors import RecipeError, UsageError

__all__ = ["LOOP_METRICS", "Loop", "Standing", "Stop"]

LOOP_METRICS = ("rounds", "best")
"""Metrics of the rounds themselves: how many were done, and which of them is the best."""


@dataclass(frozen=True)
class Stop:
    """Rounds end when a metric has not become better for so many rounds."""

    metric: str
    """Of the steps of a round: "STEP.EVALUATOR.MODEL.AXIS", or "STEP.NUMBER"."""
    by: float = 0.0
    """A round is a gain when its metric is better than that of the last gain by more than this."""
    patience: int = 1
    """Rounds without a gain after which no further one is begun."""
    goal: Literal["highest", "lowest"] = "highest"
    """Which values are better."""

    def __post_init__(self) -> None:
        if "." not in self.metric.strip("."):
            fix = "name a step of the round and its number, such as checked.rewards.model.total"
            raise UsageError(f"stop.metric is {self.metric!r}", fix=fix)
        if not self.by >= 0:
            raise UsageError(f"stop.by is {self.by}", fix="use a value >= 0")
        if self.patience < 1:
            raise UsageError(f"stop.patience is {self.patience}", fix="use 1 or more rounds")

    def ends(self, values: Sequence[float]) -> bool:
        """Tell whether the rounds end behind those of these values; a value that is not finite is no gain."""
        best, since = -math.inf, 0
        for value in self._signed(values):
            gain = value > best + self.by if math.isfinite(best) else math.isfinite(value)
            best, since = (value, 0) if gain else (best, since + 1)
        return since >= self.patience

    def best(self, values: Sequence[float]) -> int:
        """Return the place of the best value, of equal ones the first; the first place where none is finite."""
        signed = [value if math.isfinite(value) else -math.inf for value in self._signed(values)]
        return signed.index(max(signed))

    def _signed(self, values: Sequence[float]) -> list[float]:
        return [value if self.goal == "highest" else -value for value in values]


@dataclass(frozen=True)
class Standing:
    """What is known of rounds at some point."""

    values: tuple[float, ...]
    """The metric of every round that was done."""
    best: int
    """Number of the best round, from 1."""
    ended: bool
    """Whether the rule ends them here."""


@dataclass(frozen=True)
class Loop:
    """Rounds that may end before their number."""

    id: str
    """Name of the block."""
    names: tuple[str, ...]
    """Ids of the steps of a round, as the block writes them."""
    rounds: int
    """Most rounds."""
    stop: Stop
    """When they end."""
    place: str
    """Where the rule stands: "file:line"."""

    @property
    def certain(self) -> int:
        """Rounds that are done in any case."""
        return min(self.rounds, 1 + self.stop.patience)

    @property
    def aliases(self) -> dict[str, str]:
        """Id that stands for a step of the best round -> the id that the block writes."""
        return {f"{self.id}_{name}": name for name in self.names}

    def step(self, number: int, name: str) -> str:
        """Return the id of a step of a round."""
        return f"{self.id}{number}_{name}"

    def round_of(self, step: str) -> int:
        """Return the round of a step's id, from 1; 0 for a step that is none of these."""
        numbers = {self.step(number, name): number for number in range(1, self.rounds + 1) for name in self.names}
        return numbers.get(step, 0)

    def standing(self, metrics: Mapping[str, float], done: int) -> Standing:
        """Return what is known after so many rounds.

        Raises:
            RecipeError: a metric that a round did not measure.
        """
        head, _, rest = self.stop.metric.partition(".")
        names = [f"{self.step(number, head)}.{rest}" for number in range(1, done + 1)]
        for name in names:
            if name not in metrics:
                there = sorted(known.partition(".")[2] for known in metrics if known.startswith(self.step(1, head)))
                fix = f"measured are {', '.join(there[:8])}" if there else "see metrics in steps/*/step.json"
                raise RecipeError(f"stop.metric: {name} was not measured", place=self.place, fix=fix)
        values = tuple(metrics[name] for name in names)
        return Standing(values, self.stop.best(values) + 1, self.stop.ends(values))

    def said(self, found: Standing) -> dict[str, Any]:
        """Return plain values of how the rounds went, and a sentence."""
        told = ", ".join(f"{value:.4g}" for value in found.values)
        cut = len(found.values) < self.rounds
        why = f"no gain of more than {self.stop.by:g}" if self.stop.by else "no gain"
        end = f"ended: {why} in {self.stop.patience} round{'s' * (self.stop.patience > 1)}" if cut else "all were done"
        text = f"{self.id}: {len(found.values)} of at most {self.rounds} rounds, {end}; {self.stop.metric} {told}; "
        return {
            "id": self.id,
            "metric": self.stop.metric,
            "values": list(found.values),
            "rounds": len(found.values),
            "of": self.rounds,
            "best": found.best,
            "text": f"{text}round {found.best} stands for them",
        }
