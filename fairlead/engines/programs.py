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

__all__ = ["Ask", "Door", "Program", "run"]

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
    waiting = deque(enumerate(starts))
    answers: dict[int, T] = {}
    alive: list[_Running] = []

    def go_on(one: _Running, results: list[Any] | None) -> bool:
        """Run a program to its next wish; say whether it goes on."""
        try:
            one.asked = next(one.program) if results is None else one.program.send(results)
        except StopIteration as end:
            answers[one.number] = end.value
            if done is not None:
                done(one.number, end.value)
            return False
        return True

    try:
        while alive or waiting:
            while waiting and len(alive) < at_once:
                number, start = waiting.popleft()
                one = _Running(number, start())
                alive.append(one)
                if not go_on(one, None):
                    alive.remove(one)
            results = _served(alive)
            alive = [one for one in alive if go_on(one, results[one.number])]
    finally:
        for one in alive:
            one.program.close()
    return [answers[k] for k in range(len(answers))]


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
