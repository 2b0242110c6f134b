"""What a search looks for: a weighted sum of rewards, with bounds where all of them can give any.

Values and bounds are computed by the same operations in the same order, each of which keeps order under rounding, so a
value never leaves its bounds and pruning by them is exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from fairlead import catalog
from fairlead.engines.base import Engine, Sampling
from fairlead.engines.programs import Ask
from fairlead.errors import DataError, UsageError
from fairlead.messages import Prompt
from fairlead.rewards.base import Bounded, Reward, RewardSpec

__all__ = ["Heuristic", "Scorer", "standardised"]


@dataclass(frozen=True)
class Heuristic:
    """One reward in the sum: `weight * (reward - mean) / scale`."""

    reward: RewardSpec
    """Catalog name of the reward, a mapping of `name` and its fields, or a reward."""
    weight: float = 1.0
    """Its share in the sum; negative to avoid what it values, 0 to leave it out."""
    mean: float = 0.0
    """Subtracted from the reward. It changes no choice, but makes sums of several rewards readable."""
    scale: float = 1.0
    """Divides the reward, such as its standard deviation, so that weights of unlike rewards compare."""
    otherwise: float | None = None
    """The reward's value where it abstains; None makes an abstention an error."""

    adjustable: ClassVar[tuple[str, ...]] = ("reward", "weight", "mean", "scale", "otherwise")

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.weight, self.mean, self.scale))) or self.scale <= 0:
            what = f"a heuristic has weight {self.weight}, mean {self.mean}, scale {self.scale}"
            raise UsageError(what, fix="use finite numbers and a scale above 0")
        _ = self.valued_by  # a wrong name is an error before anything runs

    @cached_property
    def valued_by(self) -> Reward:
        """The reward itself."""
        return catalog.from_spec("reward", self.reward)

    def weighted(self, values: np.ndarray) -> np.ndarray:
        """Return this reward's part of the sum, [N]."""
        return self.weight * ((values - self.mean) / self.scale)

    def filled(self, values: np.ndarray) -> np.ndarray:
        """Put `otherwise` where the reward has no value."""
        return values if self.otherwise is None else np.where(np.isnan(values), self.otherwise, values)


class Scorer:
    """Values texts by the sum of heuristics; many programs' texts in one call of every reward."""

    def __init__(self, heuristics: Sequence[Heuristic]):
        self.heuristics = tuple(h for h in heuristics if h.weight)
        self._tellers = [r if isinstance(r, Bounded) else None for r in (h.valued_by for h in self.heuristics)]
        self.bounded = None not in self._tellers
        """Whether every reward can tell from a beginning what it can still come to."""

    def ask(self, prompt: Prompt, text: str) -> Ask:
        """Ask for the value of a text as an answer to a prompt."""
        return Ask(self, (prompt, text))

    def serve(self, asked: Sequence[tuple[Prompt, str]]) -> list[float]:
        """Value all that is asked, together."""
        prompts, texts = zip(*asked)
        return self.values(prompts, texts).tolist()

    def values(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> np.ndarray:
        """Return the weighted sums, float64 [N].

        Raises:
            DataError: a reward abstains and its heuristic does not say what then.
        """
        total = np.zeros(len(texts))
        for heuristic in self.heuristics:
            values = heuristic.filled(heuristic.valued_by(prompts, texts).values)
            if np.isnan(values).any():
                raise DataError(
                    f"the reward {heuristic.reward!r} says nothing of an answer",
                    place=f"an answer to {_shown(prompts[int(np.isnan(values).argmax())])}",
                    fix="give its heuristic a value with otherwise, or use a reward that applies to all prompts",
                )
            total = total + heuristic.weighted(values)
        return total

    def bounds(self, prompt: Prompt, beginnings: Sequence[str]) -> list[tuple[float, float]]:
        """Return the least and greatest sums of texts that begin so; infinite where a reward cannot tell."""
        low, high = np.zeros(len(beginnings)), np.zeros(len(beginnings))
        for heuristic, teller in zip(self.heuristics, self._tellers):
            least, most = np.full(len(beginnings), -np.inf), np.full(len(beginnings), np.inf)
            if teller is not None:
                found = teller.bounds([prompt] * len(beginnings), beginnings)
                found = [heuristic.filled(np.asarray(bound, dtype=np.float64)) for bound in found]
                silent = np.isnan(found).any(0)
                least, most = np.where(silent, least, found[0]), np.where(silent, most, found[1])
            ends = heuristic.weighted(least), heuristic.weighted(most)
            low, high = low + np.minimum(*ends), high + np.maximum(*ends)
        return list(zip(low.tolist(), high.tolist()))


def standardised(
    heuristics: Sequence[Heuristic], engine: Engine, prompts: Sequence[Prompt], sampling: Sampling
) -> tuple[Heuristic, ...]:
    """Set each heuristic's mean and scale to those of its reward over an engine's own answers (z-scores).

    Args:
        heuristics: the rewards; what their mean and scale were does not matter.
        engine: usually the model that the search will decode with.
        prompts: questions like those to come.
        sampling: how to draw; with temperature and n, so that there is something to tell apart.

    Raises:
        DataError: a reward that has the same value, or none, for all answers.
    """
    answers = engine.generate(prompts, sampling)
    asked = [prompt for prompt, row in zip(prompts, answers) for _ in row]
    said = [answer.text for row in answers for answer in row]
    found = []
    for heuristic in heuristics:
        values = heuristic.filled(heuristic.valued_by(asked, said).values)
        values = values[~np.isnan(values)]
        if not len(values) or values.std() == 0:
            raise DataError(
                f"the reward {heuristic.reward!r} tells none of {len(said)} answers apart",
                fix="give more prompts, or draw more answers at a higher temperature",
            )
        found.append(replace(heuristic, mean=float(values.mean()), scale=float(values.std())))
    return tuple(found)


def _shown(prompt: Prompt) -> str:
    text = prompt if isinstance(prompt, str) else " / ".join(turn["content"] for turn in prompt)
    return repr(text if len(text) <= 80 else f"{text[:77]}...")
