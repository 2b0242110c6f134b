"""One thread that answers all requests together: answers are programs, and new ones join between two rounds."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from fairlead.engines.base import Completion, Engine, Sampling
from fairlead.engines.desk import Desk
from fairlead.engines.programs import Ask, Program, Runner, together
from fairlead.engines.streaming import Listener, Token
from fairlead.errors import UnsupportedError

if TYPE_CHECKING:
    from fairlead.messages import Prompt

__all__ = ["Job", "Piece", "Told", "Worker"]


@dataclass(frozen=True)
class Piece:
    """A part of an answer."""

    index: int
    """Number of the answer."""
    text: str
    """What is said; may be empty."""
    tokens: tuple[Token, ...] = ()
    """The tokens since the last piece, where log-probs were asked for."""
    completion: Completion | None = None
    """The whole answer, with its last piece."""


Told: TypeAlias = Piece | Exception | None
"""A piece; at last None when all answers are there, or the error that ended them."""


def _here(tell: Callable[[Sequence[Any]], None], told: Sequence[Any]) -> None:
    tell(told)


@dataclass
class Job:
    """A request on its way."""

    engine: Engine
    """Who answers."""
    prompt: Prompt
    """To what."""
    sampling: Sampling
    """How to draw the first answer; each further one has the next seed."""
    tell: Callable[[Told], None]
    """Is told everything."""
    carry: Callable[..., Any] = _here
    """Calls a function with its argument where `tell` is at home; by default here, in the worker's thread. All requests
    that share it are told at once what a round gave."""
    room: Callable[[], Future[Any] | None] = lambda: None
    """Says, in the worker's thread, whether more can be told: None, or what is done when it can."""
    choices: int = 1
    """Answers."""
    stream: bool = False
    """Whether text is told as it comes."""
    top: int | None = None
    """Likeliest tokens to tell with every token; None where no tokens are wanted."""
    number: int | None = None
    """The runner's number of it, once it is there."""
    cancelled: threading.Event = field(default_factory=threading.Event)
    """Set when nobody wants the answer any more."""

    @property
    def size(self) -> int:
        """Rows that it takes at a time."""
        return self.choices * getattr(self.engine, "rows_per_answer", 1)


class Worker:
    """Answers requests for any engines in a thread of its own.

    All answers of local models and decoding methods are programs that run side by side; what they ask of other servers
    is waited for while the rest goes on. Any other engine is asked whole questions, all that wait for it at once.

    Args:
        rows: most answers written at a time.
        waiting: most requests that wait or run; more are refused.
        remember: tokens of each model whose keys and values are kept between requests.
    """

    def __init__(self, *, rows: int = 64, waiting: int = 256, remember: int = 0):
        self.rows, self.most = rows, waiting
        self._new: queue.Queue[Job | None] = queue.Queue()
        self._jobs: dict[int, Job] = {}
        self._told: list[tuple[Job, Told]] = []
        self._pending = 0
        self._lock = threading.Lock()
        self._desk = Desk(remember=remember)
        self._thread: threading.Thread | None = None

    @property
    def pending(self) -> int:
        """Requests that wait or run."""
        return self._pending

    def submit(self, job: Job) -> None:
        """Take a request in.

        Raises:
            queue.Full: too many wait.
        """
        with self._lock:
            if self._pending >= self.most:
                raise queue.Full
            self._pending += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="fairlead-worker", daemon=True)
                self._thread.start()
            self._new.put(job)

    def close(self) -> None:
        """Answer what is there and end the thread; the next request starts another one."""
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is not None:
                self._new.put(None)
        if thread is not None:
            thread.join()

    def _work(self) -> None:
        runner = Runner(at_once=self.rows, done=self._done, failed=self._failed)
        closing = False
        while not closing or runner.busy:
            for job in self._arrivals(wait=not runner.busy and not closing):
                if job is None:
                    closing = True
                else:
                    job.number = runner.add(partial(self._program, job), job.size)
                    self._jobs[job.number] = job
            for number in [n for n, job in self._jobs.items() if job.cancelled.is_set()]:
                runner.cancel(number)
                self._gone(number)
            if runner.busy:
                self._round(runner)
            self._deliver()
            if not runner.busy:
                self._desk.give_back()

    def _arrivals(self, *, wait: bool) -> list[Job | None]:
        found = [self._new.get()] if wait else []
        while True:
            try:
                found.append(self._new.get_nowait())
            except queue.Empty:
                return found

    def _round(self, runner: Runner) -> None:
        try:
            runner.round()
        except Exception as error:  # a forward failed: it served them all
            runner.close()
            for number in list(self._jobs):
                self._failed(number, error)

    def _done(self, number: int, _: Any) -> None:
        self._told.append((self._gone(number), None))

    def _failed(self, number: int, error: Exception) -> None:
        self._told.append((self._gone(number), error))

    def _gone(self, number: int) -> Job:
        with self._lock:
            self._pending -= 1
        return self._jobs.pop(number)

    def _deliver(self) -> None:
        """Tell what a round gave; it is carried over in one go, which wakes who hears it only once."""
        told, self._told = self._told, []
        by_home: dict[Callable[..., Any], list[tuple[Job, Told]]] = {}
        for job, what in told:
            by_home.setdefault(job.carry, []).append((job, what))
        for carry, own in by_home.items():
            try:
                carry(_tell, own)
            except RuntimeError:  # the event loop has ended, and nobody hears
                for job, _ in own:
                    job.cancelled.set()

    def _program(self, job: Job) -> Program[Any]:
        return together([self._choice(job, k) for k in range(job.choices)])

    def _choice(self, job: Job, index: int) -> Program[None]:
        """Write one of a request's answers: what the next seed alone would give."""
        said, tokens = 0, 0

        def hear(text: str, more: tuple[Token, ...]) -> None:
            nonlocal said, tokens
            if text or more:
                self._told.append((job, Piece(index, text, more)))
            said, tokens = said + len(text), tokens + len(more)

        sampling = replace(job.sampling, seed=job.sampling.seed + index)
        listener = Listener(hear, job.top) if job.stream or job.top is not None else None
        made = yield from _paced(self._desk.answer(job.engine, job.prompt, 0, sampling, listener), job)
        if job.top is not None and made.text and not tokens:
            raise UnsupportedError(
                "the method does not tell its tokens", place="logprobs", fix="leave logprobs out, or ask its model"
            )
        self._told.append((job, Piece(index, made.text[said:], completion=made)))


class _Patience:
    """Waits with a program until its client has taken what it was told."""

    def serve(self, asked: Sequence[Future[Any]]) -> Sequence[Future[Any]]:
        return asked


_PATIENCE = _Patience()


def _paced(program: Program[Completion], job: Job) -> Program[Completion]:
    """Run a program, and let it rest while nobody takes what it says; the others go on."""
    results: list[Any] | None = None
    try:
        while True:
            try:
                asked = next(program) if results is None else program.send(results)
            except StopIteration as end:
                return end.value
            room = job.room()
            if room is not None:
                yield [Ask(_PATIENCE, room)]
            results = yield asked
    finally:
        program.close()


def _tell(told: Sequence[tuple[Job, Told]]) -> None:
    for job, what in told:
        job.tell(what)
