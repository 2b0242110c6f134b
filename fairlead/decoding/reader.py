"""One model's view of an answer that others write as well: its row of tokens, kept in step with the text."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from fairlead.engines.base import Sampling
from fairlead.engines.draw import choose
from fairlead.engines.local import Local
from fairlead.engines.memory import shared
from fairlead.engines.programs import Ask
from fairlead.engines.rows import Row, Rows, Seen
from fairlead.engines.streaming import Token
from fairlead.engines.writing import Drawn
from fairlead.messages import Prompt

__all__ = ["Choice", "Reader"]

Asking: TypeAlias = Generator[Sequence[Ask], list[Any], Any]
"""A part of a program: yields wishes, is sent their results."""


@dataclass(frozen=True)
class Choice:
    """What a model would write next."""

    token: int
    """The token that it chose."""
    top: float
    """Probability of its likeliest token, untempered, whatever was chosen."""
    drawn: Drawn | None = None
    """What is told of it, where tokens are told."""


class Reader:
    """A model that reads along and computes only what it has not read yet.

    Args:
        local: the model.
        rows: its rows.
        prompt: what it is asked; all tokens below are those behind it.
        source: what it is called.
        told: how many likeliest tokens are told at every place, or None where no tokens are.

    Raises:
        EngineError: a prompt that is empty or leaves no room for an answer.
    """

    def __init__(self, local: Local, rows: Rows, prompt: Prompt, source: str, told: int | None):
        self.source, self.told = source, told
        self.rows, self.spelling = rows, local.renderer.spelling
        self.stops, self.silent = local.renderer.stops, local.renderer.spelling.silent
        self.prompt = local.prompt_ids(prompt)
        self.row = rows.open()
        self.forwards = 0
        """Forwards that this answer asked for; those of one round count once."""
        self._seen: dict[int, tuple[Seen, int]] = {}
        self._twins: list[Row] = []

    def close(self) -> None:
        """Give the rows back."""
        self.rows.drop(self.row, *self._twins)

    def room(self, count: int) -> int:
        """Return how many tokens, at most `count`, fit behind the prompt."""
        return count if self.rows.positions is None else min(count, self.rows.positions - len(self.prompt))

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text of the answer, encoded on its own."""
        return self.spelling.encode(text).ids

    def knows(self, ids: Sequence[int]) -> bool:
        """Whether it has been seen what comes after these tokens."""
        start = len(self.prompt)
        return len(ids) in self._seen and self.row.ids[start : start + len(ids)] == list(ids)

    def read(self, ids: Sequence[int], *, first: int | None = None) -> Asking:
        """Read tokens; what comes after the first `first`, ..., `len(ids)` of them (by default all) is seen then."""
        yield from self.read_several(ids, len(ids) if first is None else first, ())

    def read_several(self, ids: Sequence[int], first: int, others: Sequence[Sequence[int]]) -> Asking:
        """As `read`; return what comes after each of other lists of tokens too, read in the same round."""
        self._twins = [self._fork(other) for other in others]
        start = len(self.prompt)
        have = self._keep(self.row, [*self.prompt, *ids], start + first - 1)
        self._seen = {k: seen for k, seen in self._seen.items() if k <= have - start}
        asks = [self.rows.feed(self.row, [*self.prompt, *ids][have:], last=len(ids) - first + 1)]
        for twin, other in zip(self._twins, others):
            have = self._keep(twin, [*self.prompt, *other], start + len(other) - 1)
            asks.append(self.rows.feed(twin, [*self.prompt, *other][have:]))
        self.forwards += 1
        seen, *rest = yield asks
        self._seen |= {first + j: (seen, j) for j in range(len(seen.best))}
        self.rows.drop(*self._twins)
        self._twins = []
        return rest

    def choice(self, count: int, sampling: Sampling, generator: np.random.Generator) -> Choice:
        """Return what it would write after the first `count` tokens, which were read."""
        return self.choice_of(*self._seen[count], sampling, generator)

    def choice_of(self, seen: Seen, place: int, sampling: Sampling, generator: np.random.Generator) -> Choice:
        """Return the choice at one of the places seen: the likeliest token, or one drawn with the next number."""
        token = seen.best[place]
        if sampling.temperature:
            token = int(choose(seen.logits[place : place + 1], sampling, [generator.random()])[0])
        drawn = None if self.told is None else Drawn.of(seen.logits[place], token, self.told)
        return Choice(token, math.exp(seen.best_logprob[place]), drawn)

    def tokens(self, before: str, choices: Sequence[Choice]) -> list[Token]:
        """Return what is told of tokens that it wrote behind a text."""
        line, found = self.encode(before), []
        for one in choices:
            if one.drawn is not None:
                found.append(one.drawn.told(lambda id, line=line: self.spelling.spelled([id], line), self.source))
            line = [*line, one.token]
        return found

    def _fork(self, ids: Sequence[int]) -> Row:
        whole = [*self.prompt, *ids]
        return self.rows.fork(self.row, min(shared(self.row.ids, whole), len(whole) - 1))

    def _keep(self, row: Row, whole: Sequence[int], most: int) -> int:
        """Crop a row to what it has in common with `whole`, at most `most` tokens; return how many."""
        have = min(shared(row.ids, whole), most)
        self.rows.crop(row, have)
        return have
