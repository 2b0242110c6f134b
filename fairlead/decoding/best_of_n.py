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
from fairlead.engines.desk import Desk
from fairlead.engines.programs import Ask, Program
from fairlead.engines.streaming import Listener, Token
from fairlead.errors import DataError, UsageError
from fairlead.messages import Prompt
from fairlead.rewards.base import Reward, RewardSpec

__all__ = ["BestOfN", "WorstOfN"]


@dataclass(frozen=True)
class _Chosen(Decoder):
    """An answer chosen among n by a reward."""

    engine: EngineSpec
    """Who answers."""
    reward: RewardSpec
    """Catalog name of the reward, a mapping of `name` and its fields, or a reward."""
    n: int = 8
    """Answers drawn for each answer given."""

    adjustable: ClassVar[tuple[str, ...]] = ("reward", "n")
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

    @property
    def rows_per_answer(self) -> int:
        """All draws are made at a time."""
        return self.n * super().rows_per_answer

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """Return `sampling.n` completions per prompt, each chosen among `n` of its own.

        Answer i of `sampling.n` is chosen among draws i * n to i * n + n - 1. Of equally valued draws the first wins.
        `extra["candidates"]` holds the texts of all draws and `extra["rewards"]` their values, None where the reward
        abstained; `extra["chosen"]` is the winner's number.

        Raises:
            DataError: a prompt of whose draws the reward values none.
        """
        drawn = self.parts["engine"].generate(prompts, replace(sampling, n=sampling.n * self.n))
        values = self.serve([(prompt, answer.text) for prompt, answers in zip(prompts, drawn) for answer in answers])
        chosen = [
            self._choose(own, values[k * self.n : (k + 1) * self.n], f"prompt {k // sampling.n + 1} of {len(prompts)}")
            for k, own in enumerate(answers[i : i + self.n] for answers in drawn for i in _starts(answers, self.n))
        ]
        return [chosen[k : k + sampling.n] for k in _starts(chosen, sampling.n)]

    def answer(
        self, prompt: Prompt, index: int, sampling: Sampling, desk: Desk, tell: Listener | None = None
    ) -> Program[Completion]:
        """Make answer number `index`; its tokens are told when it was chosen."""
        heard: list[list[Token]] = [[] for _ in range(self.n)]
        tells = [_keeping(tokens, tell) for tokens in heard]
        numbers = range(index * self.n, (index + 1) * self.n)
        draws = yield from desk.answers(self.parts["engine"], prompt, numbers, sampling, tells)
        values: list[float] = yield [Ask(self, (prompt, draw.text)) for draw in draws]
        chosen = self._choose(draws, values, "the prompt")
        if tell is not None:
            tell.hear(chosen.text, tuple(heard[chosen.extra["chosen"]]))
        return chosen

    def serve(self, asked: Sequence[tuple[Prompt, str]]) -> list[float]:
        """Value answers to prompts; NaN where the reward abstains."""
        rewards = self.valued_by([prompt for prompt, _ in asked], [text for _, text in asked])
        return np.where(rewards.abstained, np.nan, rewards.values).tolist()

    def _choose(self, draws: Sequence[Completion], values: Sequence[float], place: str) -> Completion:
        if np.isnan(values).all():
            raise DataError("the reward values none of the answers", place=place, fix="use a reward that applies here")
        best = int(np.nanargmax(self._sign * np.asarray(values)))
        told = {
            "candidates": [draw.text for draw in draws],
            "rewards": [None if np.isnan(value) else float(value) for value in values],
            "chosen": best,
        }
        return replace(draws[best], extra={**draws[best].extra, **told})


def _starts(items: Sequence[Any], size: int) -> range:
    return range(0, len(items), size)


def _keeping(tokens: list[Token], tell: Listener | None) -> Listener | None:
    """Return who keeps the tokens of a draw that may be chosen, where tokens are wanted at all."""
    if tell is None or tell.top is None:
        return None
    return Listener(lambda _, more: tokens.extend(more), tell.top)


@dataclass(frozen=True)
class BestOfN(_Chosen):
    """The answer that a reward values most among n draws."""


@dataclass(frozen=True)
class WorstOfN(_Chosen):
    """The answer that a reward values least among n draws: what an attacker with n tries gets."""

    _sign: ClassVar[float] = -1.0
