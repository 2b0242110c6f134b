"""One thread that answers all requests together: answers are programs, and new ones join between two rounds."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from fairlead.decoding.base import TokenDecoder
from fairlead.engines.base import Completion, Engine, Sampling
from fairlead.engines.local import Local
from fairlead.engines.programs import Ask, Program, Runner, together
from fairlead.engines.rows import Rows, Seen
from fairlead.engines.streaming import TextStream
from fairlead.engines.writing import Line, write
from fairlead.errors import FairleadError

if TYPE_CHECKING:
    from fairlead.messages import Prompt

__all__ = ["Job", "Piece", "Token", "Worker"]


@dataclass(frozen=True)
class Token:
    """One token of an answer, or one that could have stood there."""

    spelled: bytes
    """What it adds to the text."""
    logprob: float
    """Nats, of the untempered distribution."""
    top: tuple[Token, ...] = ()
    """The likeliest tokens at its place."""


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
    """How, and how often."""
    top: int
    """Likeliest tokens to tell at each place, where log-probs are asked for."""
    tell: Heard
    """Is called in the worker's thread."""
    number: int | None = None
    """The runner's number of it, once it is there."""
    cancelled: threading.Event = field(default_factory=threading.Event)
    """Set when nobody wants the answer any more."""


class Worker:
    """Answers requests for any engines in a thread of its own.

    A local model's answers are written token by token, beside all others; a decoder that looks inside local models runs
    as a program, too; any other engine is asked whole questions, all that wait for it at once.

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
        self._lent: dict[int, Rows] = {}
        self._borrowed = ExitStack()
        self._doors: dict[int, _Questions] = {}
        self._thread = threading.Thread(target=self._work, name="fairlead-worker", daemon=True)
        self._thread.start()

    @property
    def pending(self) -> int:
        """Requests that wait or run."""
        return self._pending

    def submit(self, engine: Engine, prompt: Prompt, sampling: Sampling, tell: Heard, *, top: int = 0) -> Job:
        """Take a request in.

        Raises:
            queue.Full: too many wait.
        """
        with self._lock:
            if self._pending >= self.most:
                raise queue.Full
            self._pending += 1
        job = Job(engine, prompt, sampling, top, tell)
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
                    job.number = runner.add(partial(self._program, job))
                    self._jobs[job.number] = job
            for number in [n for n, job in self._jobs.items() if job.cancelled.is_set()]:
                runner.cancel(number)
                self._gone(number)
            if runner.busy:
                self._round(runner)
            if not runner.busy:
                self._give_back()

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
        engine = job.engine
        if isinstance(engine, Local):
            return together([self._written(job, engine, k) for k in range(job.sampling.n)])
        if isinstance(engine, TokenDecoder):
            return together([self._decoded(job, engine, k) for k in range(job.sampling.n)])
        return self._asked(job)

    def _written(self, job: Job, local: Local, index: int) -> Program[Completion]:
        """Write an answer and tell its text as it comes."""
        raw = isinstance(job.prompt, str)
        stream = TextStream(partial(local.renderer.decode, raw=raw), job.sampling.stop)
        waiting: list[Token] = []

        def spell(token: int) -> bytes:
            return local.renderer.spelling.spelled([token], stream.ids)

        def told(token: int, seen: Seen) -> None:
            if token in local.renderer.stops:
                return
            if job.sampling.logprobs:
                waiting.append(_token(token, seen, job.top, spell))
            text = stream.feed(token)
            if text:
                job.tell(Piece(index, text, tuple(waiting)))
                waiting.clear()

        rows = self._rows_of(local)
        line = Line(local, rows, rows.open(), job.prompt)
        completion = yield from write([line], index, job.sampling, tell=told)
        rest = "" if stream.filter.stopped else stream.end()
        job.tell(Piece(index, rest, tuple(waiting), completion))
        return completion

    def _decoded(self, job: Job, decoder: TokenDecoder, index: int) -> Program[Completion]:
        decoder.check(job.sampling)
        rows = decoder.rows_from(self._rows_of)
        completion = yield from decoder.program(job.prompt, index, job.sampling, rows)
        job.tell(Piece(index, completion.text, completion=completion))
        return completion

    def _asked(self, job: Job) -> Program[Sequence[Completion]]:
        door = self._doors.setdefault(id(job.engine), _Questions(job.engine))
        (answers,) = yield [Ask(door, (job.prompt, job.sampling))]
        if isinstance(answers, Exception):
            raise answers
        for index, completion in enumerate(answers):
            job.tell(Piece(index, completion.text, completion=completion))
        return answers

    def _rows_of(self, local: Local) -> Rows:
        """Borrow a model, which is this worker's own as long as there is work."""
        if id(local) not in self._lent:
            self._lent[id(local)] = self._borrowed.enter_context(local.rows())
        return self._lent[id(local)]

    def _give_back(self) -> None:
        self._borrowed.close()
        self._lent.clear()


class _Questions:
    """An engine that is asked whole questions, those with the same sampling in one call."""

    def __init__(self, engine: Engine):
        self.engine = engine

    def serve(self, asked: Sequence[tuple[Prompt, Sampling]]) -> list[Any]:
        found: list[Any] = [None] * len(asked)
        order = sorted(range(len(asked)), key=lambda k: repr(asked[k][1]))
        for _, group in itertools.groupby(order, key=lambda k: asked[k][1]):
            places = list(group)
            for k, answers in zip(places, self._answers([asked[k][0] for k in places], asked[places[0]][1])):
                found[k] = answers
        return found

    def _answers(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Any]:
        """Answer all prompts; one that is refused is asked alone, so that only its request fails."""
        try:
            return list(self.engine.generate(prompts, sampling))
        except FairleadError as error:
            if len(prompts) == 1:
                return [error]
            return [self._answers([prompt], sampling)[0] for prompt in prompts]


def _token(token: int, seen: Seen, top: int, spell: Callable[[int], bytes]) -> Token:
    logprobs = seen.logprobs()[-1]
    best = [int(one) for one in logprobs.topk(top).indices] if top else []
    told = tuple(Token(spell(one), float(logprobs[one])) for one in best)
    return Token(spell(token), float(logprobs[token]), told)
