"""Many requests at once, each written as if it were alone.

A program is a generator that makes one answer. It yields what it wants to know (tokens fed to a model, texts scored by
a reward); all programs' wishes of a round are served together, each door's in one call. So a method is a plain loop
over one request, and still runs in batches; programs join as others finish.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, TypeVar

__all__ = ["Ask", "Door", "Program", "Runner", "run", "together"]

T = TypeVar("T")

_LOOK_SECONDS = 0.05
"""How long a round waits for work done elsewhere when nothing else is to be done."""


class Door(Protocol):
    """Something that serves many wishes faster than one by one."""

    def serve(self, asked: Sequence[Any]) -> Sequence[Any]:
        """Return one result per wish, in their order; no result depends on the other wishes.

        A result that is made elsewhere may be a `Future`: its program waits for it, the others go on.
        """
        ...


@dataclass(frozen=True)
class Ask:
    """A wish and who grants it."""

    door: Door
    """Who can grant it."""
    what: Any
    """What it is, in the door's own terms."""


Program: TypeAlias = Generator[Sequence[Ask], list[Any], T]
"""Yields wishes, is sent their results, returns its answer."""


@dataclass
class _Running:
    number: int
    program: Generator[Sequence[Ask], list[Any], Any]
    size: int
    asked: Sequence[Ask] = ()
    results: list[Any] = field(default_factory=list)
    """What was granted, `Future`s among it; empty until it was asked for."""

    @property
    def awaited(self) -> list[Future[Any]]:
        """What is still being made."""
        return [result for result in self.results if isinstance(result, Future) and not result.done()]


class Runner:
    """Runs programs together; new ones may come at any time.

    Args:
        at_once: most programs alive at a time, by their sizes; one that is larger runs alone.
        done: is told the number and the answer of every program that ends.
        failed: is told the number and the error of a program that raises; without it, the error is raised here.
    """

    def __init__(
        self,
        *,
        at_once: int = 64,
        done: Callable[[int, Any], None],
        failed: Callable[[int, Exception], None] | None = None,
    ):
        self.at_once, self.done, self.failed = at_once, done, failed
        self._waiting: deque[tuple[int, int, Callable[[], Program[Any]]]] = deque()
        self._alive: list[_Running] = []
        self._count = 0

    @property
    def busy(self) -> bool:
        """Whether any program is alive or waits."""
        return bool(self._alive or self._waiting)

    def add(self, start: Callable[[], Program[Any]], size: int = 1) -> int:
        """Take in a program, which `start` makes when its turn comes; return its number."""
        self._waiting.append((self._count, size, start))
        self._count += 1
        return self._count - 1

    def cancel(self, number: int) -> None:
        """Close a program, if it has not ended."""
        self._waiting = deque(one for one in self._waiting if one[0] != number)
        for one in self._alive:
            if one.number == number:
                one.program.close()
        self._alive = [one for one in self._alive if one.number != number]

    def round(self) -> None:
        """Start what there is room for, serve all wishes, and let every program go on."""
        while self._waiting and self._has_room(self._waiting[0][1]):
            number, size, start = self._waiting.popleft()
            one = _Running(number, start(), size)
            if self._go_on(one, None):
                self._alive.append(one)
        _serve([one for one in self._alive if not one.results])
        awaited = [one.awaited for one in self._alive]
        if awaited and all(awaited):
            wait([future for futures in awaited for future in futures], _LOOK_SECONDS, FIRST_COMPLETED)
        alive, self._alive = self._alive, []
        for k, one in enumerate(alive):
            try:
                if one.awaited or self._go_on(one, one.results):
                    self._alive.append(one)
            except BaseException:
                self._alive += alive[k + 1 :]
                raise

    def close(self) -> None:
        """End all programs without their answers."""
        self._waiting.clear()
        for one in self._alive:
            one.program.close()
        self._alive = []

    def _has_room(self, size: int) -> bool:
        return not self._alive or sum(one.size for one in self._alive) + size <= self.at_once

    def _go_on(self, one: _Running, results: list[Any] | None) -> bool:
        """Run a program to its next wish; say whether it goes on."""
        one.results = []
        try:
            one.asked = next(one.program) if results is None else _resumed(one.program, results)
        except StopIteration as end:
            self.done(one.number, end.value)
            return False
        except Exception as error:
            if self.failed is None:
                raise
            self.failed(one.number, error)
            return False
        return True


def run(
    starts: Iterable[Callable[[], Program[T]]],
    *,
    at_once: int = 64,
    size: int = 1,
    done: Callable[[int, T], None] | None = None,
) -> list[T]:
    """Run programs together; return their answers in order.

    Args:
        starts: makes each program, called when its turn comes.
        at_once: most programs alive at a time, by their sizes.
        size: of each program.
        done: is told the number and the answer of every program that ends.

    Raises:
        Whatever a program or a door raises; all others are closed first.
    """
    answers: dict[int, T] = {}

    def take(number: int, answer: T) -> None:
        answers[number] = answer
        if done is not None:
            done(number, answer)

    runner = Runner(at_once=at_once, done=take)
    for start in starts:
        runner.add(start, size)
    try:
        while runner.busy:
            runner.round()
    finally:
        runner.close()
    return [answers[k] for k in range(len(answers))]


def together(programs: Sequence[Program[T]]) -> Program[list[T]]:
    """Run programs side by side as one; return their answers in order."""
    answers: dict[int, T] = {}
    asked: dict[int, Sequence[Ask]] = {}
    results: dict[int, list[Any] | None] = dict.fromkeys(range(len(programs)))
    try:
        while results:
            for number, found in results.items():
                try:
                    asked[number] = next(programs[number]) if found is None else programs[number].send(found)
                except StopIteration as end:
                    answers[number] = end.value
                    asked.pop(number, None)
            told = (yield [ask for wishes in asked.values() for ask in wishes]) if asked else []
            results, start = {}, 0
            for number, wishes in asked.items():
                results[number] = told[start : start + len(wishes)]
                start += len(wishes)
    finally:
        for program in programs:
            program.close()
    return [answers[k] for k in range(len(programs))]


def _resumed(program: Program[Any], results: list[Any]) -> Sequence[Ask]:
    """Give a program what it asked for, or the error of what was made elsewhere."""
    try:
        found = [result.result() if isinstance(result, Future) else result for result in results]
    except Exception as error:
        return program.throw(error)
    return program.send(found)


def _serve(asking: Sequence[_Running]) -> None:
    """Serve every wish, each door's together."""
    by_door: dict[int, tuple[Door, list[tuple[_Running, int, Any]]]] = {}
    for one in asking:
        one.results = [None] * len(one.asked)
        for k, ask in enumerate(one.asked):
            by_door.setdefault(id(ask.door), (ask.door, []))[1].append((one, k, ask.what))
    for door, wishes in by_door.values():
        for (one, k, _), result in zip(wishes, door.serve([what for _, _, what in wishes]), strict=True):
            one.results[k] = result
