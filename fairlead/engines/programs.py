"""Many requests at once, each written as if it were alone.

A program is a generator that makes one answer. It yields what it wants to know (tokens fed to a model, texts scored by
a reward); all programs' wishes of a round are served together, each door's in one call. So a method is a plain loop
over one request, and still runs in batches; programs join as others finish.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

__all__ = ["Ask", "Door", "Program", "Runner", "run", "together"]

T = TypeVar("T")


class Door(Protocol):
    """Something that serves many wishes faster than one by one."""

    def serve(self, asked: Sequence[Any]) -> Sequence[Any]:
        """Return one result per wish, in their order; no result depends on the other wishes."""
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
    asked: Sequence[Ask] = ()


class Runner:
    """Runs programs together; new ones may come at any time.

    Args:
        at_once: most programs alive at a time.
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
        self._waiting: deque[tuple[int, Callable[[], Program[Any]]]] = deque()
        self._alive: list[_Running] = []
        self._count = 0

    @property
    def busy(self) -> bool:
        """Whether any program is alive or waits."""
        return bool(self._alive or self._waiting)

    def add(self, start: Callable[[], Program[Any]]) -> int:
        """Take in a program, which `start` makes when its turn comes; return its number."""
        self._waiting.append((self._count, start))
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
        while self._waiting and len(self._alive) < self.at_once:
            number, start = self._waiting.popleft()
            one = _Running(number, start())
            if self._go_on(one, None):
                self._alive.append(one)
        results = _served(self._alive)
        alive, self._alive = self._alive, []
        for k, one in enumerate(alive):
            try:
                if self._go_on(one, results[one.number]):
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

    def _go_on(self, one: _Running, results: list[Any] | None) -> bool:
        """Run a program to its next wish; say whether it goes on."""
        try:
            one.asked = next(one.program) if results is None else one.program.send(results)
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
    done: Callable[[int, T], None] | None = None,
) -> list[T]:
    """Run programs together; return their answers in order.

    Args:
        starts: makes each program, called when its turn comes.
        at_once: most programs alive at a time.
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
        runner.add(start)
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


def _served(alive: Sequence[_Running]) -> dict[int, list[Any]]:
    """Serve every wish, each door's together; return the results by number of the program."""
    by_door: dict[int, tuple[Door, list[tuple[int, int, Any]]]] = {}
    results: dict[int, list[Any]] = {one.number: [None] * len(one.asked) for one in alive}
    for one in alive:
        for k, ask in enumerate(one.asked):
            by_door.setdefault(id(ask.door), (ask.door, []))[1].append((one.number, k, ask.what))
    for door, wishes in by_door.values():
        for (number, k, _), result in zip(wishes, door.serve([what for _, _, what in wishes]), strict=True):
            results[number][k] = result
    return results
