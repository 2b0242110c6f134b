"""Where programs get what they need: rows of local models, and answers of any engine, each asked beside all others."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from fairlead.engines.base import Completion, Engine, Sampling
from fairlead.engines.memory import Memory
from fairlead.engines.programs import Ask, Program, Runner, together
from fairlead.engines.streaming import Listener
from fairlead.errors import FairleadError

if TYPE_CHECKING:
    from fairlead.engines.local import Local
    from fairlead.engines.rows import Rows
    from fairlead.messages import Prompt

__all__ = ["Answerer", "Desk", "stream"]

_THREADS = 32
"""Most questions that wait for answers from elsewhere at a time."""


@runtime_checkable
class Answerer(Protocol):
    """An engine whose answers can be made as programs."""

    def answer(
        self, prompt: Prompt, index: int, sampling: Sampling, desk: Desk, tell: Listener | None = None
    ) -> Program[Completion]:
        """Make the answer that `generate` would give as number `index` to a prompt.

        Args:
            prompt: as `generate` takes it.
            index: the answer's number.
            sampling: how to draw; its `n` does not count.
            desk: where the engines that it asks are.
            tell: is told the answer as it is written.
        """
        ...


def stream(engine: Engine, prompt: Prompt, sampling: Sampling) -> Iterator[str | Completion]:
    """Yield the first answer to a prompt piece by piece as it is written, and at last its `Completion`.

    Pieces are never taken back; together they are the completion's text. An engine that cannot be heard while it
    writes says all in one piece. A local model is lent until the last one.

    stream(fairlead.engine("harbor:aligned-1m"), "the ship", Sampling(max_tokens=24))
    """
    said, waiting = 0, list[str]()
    made: list[Completion] = []

    def hear(text: str, _: Any) -> None:
        if text:
            waiting.append(text)

    with Desk() as desk:
        runner = Runner(done=lambda _, completion: made.append(completion))
        runner.add(lambda: desk.answer(engine, prompt, 0, sampling, Listener(hear)))
        try:
            while runner.busy:
                runner.round()
                yield from waiting
                said += sum(map(len, waiting))
                waiting.clear()
        finally:
            runner.close()
    if len(made[0].text) > said:
        yield made[0].text[said:]
    yield made[0]


class Desk:
    """Lends local models to programs, each once, and asks other engines, those with the same sampling in one call.

    An engine is asked elsewhere, while other programs go on, if its attribute `remote` says so. Used by one thread.

    Args:
        remember: tokens of each model whose keys and values are kept when the model was given back, for prompts that
            begin alike.
    """

    def __init__(self, *, remember: int = 0) -> None:
        self.remember = remember
        self._memories: dict[int, Memory] = {}
        self._borrowed = ExitStack()
        self._lent: dict[int, Rows] = {}
        self._questions: dict[int, _Questions] = {}
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="fairlead-asking")

    def __enter__(self) -> Desk:
        return self

    def __exit__(self, *_: Any) -> None:
        self.give_back()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def give_back(self) -> None:
        """Return all models; a program that is still alive must not go on."""
        self._borrowed.close()
        self._lent.clear()
        self._questions.clear()

    def rows(self, local: Local) -> Rows:
        """Return a local model's rows."""
        if id(local) not in self._lent:
            memory = self._memories.setdefault(id(local), Memory(self.remember)) if self.remember else None
            self._lent[id(local)] = self._borrowed.enter_context(local.rows(memory))
        return self._lent[id(local)]

    def answer(
        self, engine: Engine, prompt: Prompt, index: int, sampling: Sampling, tell: Listener | None = None
    ) -> Program[Completion]:
        """Make answer number `index` of any engine; one that is no `Answerer` is not heard before its end."""
        if isinstance(engine, Answerer):
            return (yield from engine.answer(prompt, index, sampling, self, tell))
        return (yield from self._asked(engine, prompt, range(index, index + 1), sampling))[0]

    def answers(
        self,
        engine: Engine,
        prompt: Prompt,
        numbers: range,
        sampling: Sampling,
        tell: Sequence[Listener | None] | None = None,
    ) -> Program[list[Completion]]:
        """Make several answers of any engine to one prompt, with a listener for each."""
        if not isinstance(engine, Answerer):
            return (yield from self._asked(engine, prompt, numbers, sampling))
        tell = tell or [None] * len(numbers)
        programs = [engine.answer(prompt, k, sampling, self, heard) for k, heard in zip(numbers, tell, strict=True)]
        return (yield from together(programs))

    def _asked(self, engine: Engine, prompt: Prompt, numbers: range, sampling: Sampling) -> Program[list[Completion]]:
        door = self._questions.setdefault(id(engine), _Questions(engine, self._pool))
        (answers,) = yield [Ask(door, (prompt, replace(sampling, n=numbers.stop)))]
        if isinstance(answers, Exception):
            raise answers
        return answers[numbers.start :]


class _Questions:
    """An engine that is asked whole questions."""

    def __init__(self, engine: Engine, pool: ThreadPoolExecutor):
        self.engine, self.pool = engine, pool

    def serve(self, asked: Sequence[tuple[Prompt, Sampling]]) -> list[Any]:
        found: list[Any] = [None] * len(asked)
        order = sorted(range(len(asked)), key=lambda k: repr(asked[k][1]))
        for _, group in itertools.groupby(order, key=lambda k: asked[k][1]):
            places = list(group)
            for k, answers in zip(places, self._answers([asked[k][0] for k in places], asked[places[0]][1])):
                found[k] = answers
        return found

    def _answers(self, prompts: Sequence[Prompt], sampling: Sampling) -> Sequence[Any | Future[Any]]:
        if getattr(self.engine, "remote", False):
            return [self.pool.submit(lambda one=one: self.engine.generate([one], sampling)[0]) for one in prompts]
        try:
            return self.engine.generate(prompts, sampling)
        except FairleadError as error:
            if len(prompts) == 1:
                return [error]
            # One that is refused is asked alone, so that only its program fails.
            return [self._answers([prompt], sampling)[0] for prompt in prompts]
