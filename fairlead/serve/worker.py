"""One thread that answers all requests together: answers are programs, and new ones join between two rounds."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from fairlead.engines.base import Completion, Engine, Sampling
from fairlead.engines.desk import Desk
from fairlead.engines.programs import Program, Runner, together
from fairlead.engines.streaming import Listener, Token
from fairlead.errors import UnsupportedError

if TYPE_CHECKING:
    from fairlead.messages import Prompt

__all__ = ["Job", "Piece", "Worker"]


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


Heard = Callable[[Piece | Exception | None], None]
"""Is told every piece; at last None when all answers are there, or the error that ended them."""


@dataclass
class Job:
    """A request on its way."""

    engine: Engine
    """Who answers."""
    prompt: Prompt
    """To what."""
    sampling: Sampling
    """How to draw the first answer; each further one has the next seed."""
    choices: int
    """Answers."""
    top: int | None
    """Likeliest tokens to tell with every token; None where no tokens are wanted."""
    tell: Heard
    """Is called in the worker's thread."""

    @property
    def size(self) -> int:
        """Rows that it takes at a time."""
        return self.choices * getattr(self.engine, "rows_per_answer", 1)

    number: int | None = None
    """The runner's number of it, once it is there."""
    cancelled: threading.Event = field(default_factory=threading.Event)
    """Set when nobody wants the answer any more."""


class Worker:
    """Answers requests for any engines in a thread of its own.

    All answers of local models and decoding methods are programs that run side by side; what they ask of other servers
    is waited for while the rest goes on. Any other engine is asked whole questions, all that wait for it at once.

    Args:
        rows: most answers written at a time.
        waiting: most requests that wait or run; more are refused.
    """

    def __init__(self, *, rows: int = 64, waiting: int = 256):
        self.rows, self.most = rows, waiting
        self._new: queue.Queue[Job | None] = queue.Queue()
        self._jobs: dict[int, Job] = {}
        self._pending = 0
        self._lock = threading.Lock()
        self._desk = Desk()
        self._thread = threading.Thread(target=self._work, name="fairlead-worker", daemon=True)
        self._thread.start()

    @property
    def pending(self) -> int:
        """Requests that wait or run."""
        return self._pending

    def submit(
        self,
        engine: Engine,
        prompt: Prompt,
        sampling: Sampling,
        tell: Heard,
        *,
        choices: int = 1,
        top: int | None = None,
    ) -> Job:
        """Take a request in; see `Job`.

        Raises:
            queue.Full: too many wait.
        """
        with self._lock:
            if self._pending >= self.most:
                raise queue.Full
            self._pending += 1
        job = Job(engine, prompt, sampling, choices, top, tell)
        self._new.put(job)
        return job

    def close(self) -> None:
        """Answer what is there and end the thread."""
        self._new.put(None)
        self._thread.join()

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
        job = self._gone(number)
        job.tell(None)

    def _failed(self, number: int, error: Exception) -> None:
        job = self._gone(number)
        job.tell(error)

    def _gone(self, number: int) -> Job:
        with self._lock:
            self._pending -= 1
        return self._jobs.pop(number)

    def _program(self, job: Job) -> Program[Any]:
        return together([self._choice(job, k) for k in range(job.choices)])

    def _choice(self, job: Job, index: int) -> Program[None]:
        """Write one of a request's answers: what the next seed alone would give."""
        said, tokens = 0, 0

        def hear(text: str, more: tuple[Token, ...]) -> None:
            nonlocal said, tokens
            if text or more:
                job.tell(Piece(index, text, more))
            said, tokens = said + len(text), tokens + len(more)

        sampling = replace(job.sampling, seed=job.sampling.seed + index)
        made = yield from self._desk.answer(job.engine, job.prompt, 0, sampling, Listener(hear, job.top))
        if job.top is not None and made.text and not tokens:
            raise UnsupportedError(
                "the method does not tell its tokens", place="logprobs", fix="leave logprobs out, or ask its model"
            )
        job.tell(Piece(index, made.text[said:], completion=made))
