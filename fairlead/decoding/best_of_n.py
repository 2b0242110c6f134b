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
        values: list[tuple[float, ...]] = yield [Ask(self, (prompt, draw.text)) for draw in draws]
        chosen = self._choose(draws, values, "the prompt")
        if tell is not None:
            tell.hear(chosen.text, tuple(heard[chosen.extra["chosen"]]))
        return chosen

    @property
    def _judges(self) -> tuple[Reward, ...]:
        """Who has something to say of a draw; the first ranks them."""
        return (self.valued_by,)

    def serve(self, asked: Sequence[tuple[Prompt, str]]) -> list[tuple[float, ...]]:
        """Value answers to prompts, a number from each judge; NaN where one abstains."""
        prompts, said = [prompt for prompt, _ in asked], [text for _, text in asked]
        return list(zip(*(judge(prompts, said).values.tolist() for judge in self._judges)))

    def _choose(self, draws: Sequence[Completion], found: Sequence[tuple[float, ...]], place: str) -> Completion:
        values = np.array([value for value, *_ in found])
        if np.isnan(values).all():
            raise DataError("the reward values none of the answers", place=place, fix="use a reward that applies here")
        best = self._best(values, found)
        told = {"candidates": [draw.text for draw in draws], "rewards": _plain(values), "chosen": best}
        return replace(draws[best], extra={**draws[best].extra, **told, **self._told(found)})

    def _best(self, values: np.ndarray, found: Sequence[tuple[float, ...]]) -> int:
        return int(np.nanargmax(self._sign * values))

    def _told(self, found: Sequence[tuple[float, ...]]) -> dict[str, Any]:
        return {}


def _starts(items: Sequence[Any], size: int) -> range:
    return range(0, len(items), size)


def _keeping(tokens: list[Token], tell: Listener | None) -> Listener | None:
    """Return who keeps the tokens of a draw that may be chosen, where tokens are wanted at all."""
    if tell is None or tell.top is None:
        return None
    return Listener(lambda _, more: tokens.extend(more), tell.top)


def _plain(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]


@dataclass(frozen=True)
class BestOfN(_Chosen):
    """The answer that a reward values most among n draws, or among those that do not cost too much."""

    cost: RewardSpec | None = None
    """A second reward that is a cost: draws that cost more than `budget` are passed over, however much they are worth.
    Where all do, the cheapest is the answer; a draw whose cost is not known is within the budget."""
    budget: float = 0.0
    """With a cost: the most that an answer may cost, in the cost's own unit."""

    adjustable: ClassVar[tuple[str, ...]] = ("reward", "n", "cost", "budget")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cost is None and self.budget != 0:
            raise UsageError("best_of_n has a budget and no cost", fix="name the cost, a reward, or leave budget out")

    @cached_property
    def _judges(self) -> tuple[Reward, ...]:
        return (self.valued_by,) if self.cost is None else (self.valued_by, catalog.from_spec("reward", self.cost))

    def _best(self, values: np.ndarray, found: Sequence[tuple[float, ...]]) -> int:
        if self.cost is None:
            return super()._best(values, found)
        costs = np.array([cost for _, cost in found])
        allowed = ~(costs > self.budget) & ~np.isnan(values)
        if allowed.any():
            return int(np.where(allowed, values, -np.inf).argmax())
        return int(np.nanargmin(costs))

    def _told(self, found: Sequence[tuple[float, ...]]) -> dict[str, Any]:
        return {} if self.cost is None else {"costs": _plain(np.array([cost for _, cost in found]))}


@dataclass(frozen=True)
class WorstOfN(_Chosen):
    """The answer that a reward values least among n draws: what an attacker with n tries gets."""

    _sign: ClassVar[float] = -1.0
