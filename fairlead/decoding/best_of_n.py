"""Best-of-n: draw several answers, keep what a reward likes best (or, for red-teaming, least)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from fairlead import catalog
from fairlead.decoding.base import Decoder, EngineSpec
from fairlead.engines.base import Completion, Sampling
from fairlead.errors import DataError, UsageError
from fairlead.messages import Prompt
from fairlead.rewards.base import Reward

__all__ = ["BestOfN", "WorstOfN"]


@dataclass(frozen=True)
class _Chosen(Decoder):
    """An answer chosen among n by a reward."""

    engine: EngineSpec
    """Who answers."""
    reward: Any
    """Catalog name of the reward, a mapping of `name` and its fields, or a reward."""
    n: int = 8
    """Answers drawn for each answer given."""

    example: ClassVar[Mapping[str, Any]] = {
        "engine": "harbor:base-300k",
        "reward": {"name": "harbor_proxy", "proxy": "polite_count"},
        "n": 4,
    }
    _sign: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        if self.n < 1:
            raise UsageError(f"n is {self.n}", fix="draw at least 1 answer")

    @cached_property
    def valued_by(self) -> Reward:
        """The reward itself."""
        return catalog.from_spec("reward", self.reward)

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """Return `sampling.n` completions per prompt, each chosen among `n` of its own.

        Answer i of `sampling.n` is chosen among draws i * n to i * n + n - 1. Of equally valued draws the first wins.
        `extra["candidates"]` holds the texts of all draws and `extra["rewards"]` their values, None where the reward
        abstained; `extra["chosen"]` is the winner's number.

        Raises:
            DataError: a prompt of whose draws the reward values none.
        """
        drawn = self.parts["engine"].generate(prompts, replace(sampling, n=sampling.n * self.n))
        asked = [prompt for prompt, answers in zip(prompts, drawn) for _ in answers]
        rewards = self.valued_by(asked, [answer.text for answers in drawn for answer in answers])
        values = np.where(rewards.abstained, np.nan, rewards.values).reshape(len(prompts), sampling.n, self.n)
        return [
            [
                self._choose(answers[k * self.n : (k + 1) * self.n], values[i, k], f"prompt {i + 1} of {len(prompts)}")
                for k in range(sampling.n)
            ]
            for i, answers in enumerate(drawn)
        ]

    def _choose(self, draws: Sequence[Completion], values: np.ndarray, place: str) -> Completion:
        if np.isnan(values).all():
            raise DataError("the reward values none of the answers", place=place, fix="use a reward that applies here")
        best = int(np.nanargmax(self._sign * values))
        told = {
            "candidates": [draw.text for draw in draws],
            "rewards": [None if np.isnan(value) else float(value) for value in values],
            "chosen": best,
        }
        return replace(draws[best], extra={**draws[best].extra, **told})


@dataclass(frozen=True)
class BestOfN(_Chosen):
    """The answer that a reward values most among n draws."""


@dataclass(frozen=True)
class WorstOfN(_Chosen):
    """The answer that a reward values least among n draws: what an attacker with n tries gets."""

    _sign: ClassVar[float] = -1.0
