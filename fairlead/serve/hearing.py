"""One request's answer on its way to its client, whole or as events."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, StreamingResponse
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import Message, Send

from fairlead.serve import schema
from fairlead.serve.answers import Form
from fairlead.serve.mailbox import Mailbox, merged
from fairlead.serve.refusals import RefusedError, refused
from fairlead.serve.worker import Job, Piece, Told, Worker

__all__ = ["EventStream", "Hearing", "Metrics"]

_ALIVE_SECONDS = 15.0
"""A stream without news says so after this long."""
_LOOK_SECONDS = 0.25
"""How often it is asked whether a client is still there."""


class Metrics:
    """What is counted, for Prometheus."""

    def __init__(self, worker: Worker):
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "fairlead_requests", "Requests by outcome", ["model", "outcome"], registry=self.registry
        )
        self.tokens = Counter("fairlead_tokens", "Tokens by kind", ["model", "kind"], registry=self.registry)
        self.seconds = Histogram("fairlead_request_seconds", "Seconds per request", ["model"], registry=self.registry)
        pending = Gauge("fairlead_pending_requests", "Requests that wait or run", registry=self.registry)
        pending.set_function(lambda: worker.pending)


class _GivenUpError(Exception):
    pass


class EventStream(StreamingResponse):
    """Events for a client that has to take them."""

    def __init__(self, events: AsyncGenerator[str, None], patience: float):
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self.events, self.patience = events, patience

    async def stream_response(self, send: Send) -> None:
        """Send the events; give up when one is not taken in time."""

        async def patient(message: Message) -> None:
            try:
                async with asyncio.timeout(self.patience):
                    await send(message)
            except TimeoutError:
                raise _GivenUpError from None

        try:
            await super().stream_response(patient)
        except _GivenUpError:
            return  # a response without its end: the connection is closed
        finally:
            await self.events.aclose()


@dataclass
class Hearing:
    """One request's answer on its way to the client."""

    metrics: Metrics
    """Where it is counted."""
    model: str
    """Name of the served model."""
    form: Form
    """How it is told."""
    job: Job
    """The request."""
    heard: Mailbox
    """What was told of it."""
    began: float
    """When, on the monotonic clock."""

    async def whole(self, request: Request, asked: schema.Request) -> JSONResponse:
        """Return the answer when all of it is there.

        Raises:
            RefusedError: an error, or the client has gone.
        """
        pieces: list[list[Piece]] = [[] for _ in range(asked.n)]
        try:
            told: list[Told] = []
            while not told or told[-1] is not None:
                told = await self.next(request)
                for piece in told:
                    if isinstance(piece, Piece):
                        pieces[piece.index].append(piece)
        finally:
            self.job.cancelled.set()
        body = self.form.whole(pieces, logprobs=asked.top is not None)
        self._count("done", body["usage"])
        return JSONResponse(body)

    async def next(self, request: Request) -> list[Told]:
        """Return what is told next.

        Raises:
            RefusedError: an error, or the client has gone.
        """
        while True:
            try:
                told = await self.heard.take(_LOOK_SECONDS)
            except TimeoutError:
                if await request.is_disconnected():
                    self.job.cancelled.set()
                    self._count("cancelled", None)
                    raise RefusedError(499, "the client has gone") from None
                continue
            if isinstance(told[-1], Exception):
                self._count("failed", None)
                raise self._refused(told[-1])
            return told

    async def events(self, told: list[Told], n: int, *, logprobs: bool, usage: bool) -> AsyncGenerator[str, None]:
        """Yield the answer as server-sent events; what waits together goes together."""
        completions = []
        outcome = "cancelled"
        try:
            yield "".join(_event(self.form.first(index)) for index in range(n))
            while True:
                events = []
                for piece in merged(told):
                    if isinstance(piece, Exception):
                        outcome = "failed"
                        events.append(self._refused(piece).body)
                    elif piece is None:
                        outcome = "done"
                        events += [self.form.usage_event(completions)] if usage else []
                    else:
                        events += self.form.pieces(piece, logprobs=logprobs)
                        completions += [piece.completion] if piece.completion is not None else []
                done = "data: [DONE]\n\n" if outcome == "done" else ""
                yield "".join(map(_event, events)) + done
                if outcome != "cancelled":
                    return
                told = await self._more()
                while not told:
                    yield ": keep-alive\n\n"
                    told = await self._more()
        finally:
            self.job.cancelled.set()
            self._count(outcome, self.form.usage(completions))

    def _refused(self, error: Exception) -> RefusedError:
        return refused(error, prompt=self.form.words.prompt)

    async def _more(self) -> list[Told]:
        try:
            return await self.heard.take(_ALIVE_SECONDS)
        except TimeoutError:
            return []

    def _count(self, outcome: str, usage: dict[str, int] | None) -> None:
        self.metrics.requests.labels(self.model, outcome).inc()
        self.metrics.seconds.labels(self.model).observe(time.monotonic() - self.began)
        for kind in ("prompt", "completion") if usage else ():
            assert usage is not None
            self.metrics.tokens.labels(self.model, kind).inc(usage[f"{kind}_tokens"])


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False, default=str)}\n\n"
