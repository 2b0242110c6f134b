"""The HTTP side: paths, keys, limits, errors, events."""

from __future__ import annotations

import asyncio
import hmac
import json
import queue
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import Message, Send

from fairlead.engines.base import Engine
from fairlead.errors import DataError, EngineError, FairleadError, RenderError, UnknownNameError, UsageError
from fairlead.serve import schema
from fairlead.serve.answers import CHAT, TEXT, Form, Words, counter
from fairlead.serve.mailbox import Mailbox, merged
from fairlead.serve.methods import Method, Methods, Served, described, method_name
from fairlead.serve.openapi import document
from fairlead.serve.page import add_page
from fairlead.serve.worker import Job, Piece, Told, Worker

__all__ = ["Limits", "create_app"]

_ALIVE_SECONDS = 15.0
"""A stream without news says so after this long."""
_AHEAD = 256
"""Pieces that may wait for a client; then its answer rests."""
_LOOK_SECONDS = 0.25
"""How often it is asked whether a client is still there."""
_CLIENT_ERRORS = (UsageError, RenderError, DataError, EngineError)
"""What a request can be at fault for."""


@dataclass(frozen=True)
class Limits:
    """What a server takes on."""

    rows: int = 64
    """Most answers written at a time."""
    waiting: int = 256
    """Most requests that wait or run; more are told to come back."""
    max_tokens: int = 4096
    """Most tokens of an answer; also where a request does not say."""
    remember: int = 8192
    """Tokens of each model whose keys and values are kept for prompts that begin alike; 0 for none."""
    body_bytes: int = 1 << 20
    """Largest request."""
    patience: float = 60.0
    """Seconds after which a client that takes nothing of its answer is given up."""


class _RefusedError(Exception):
    """An answer that says what was wrong."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None, **headers: str):
        super().__init__(message)
        kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
        kind = "authentication_error" if status == 401 else kind
        self.status, self.headers = status, headers
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}

    def response(self) -> JSONResponse:
        return JSONResponse(self.body, self.status, {name.replace("_", "-"): v for name, v in self.headers.items()})


class _Metrics:
    def __init__(self, worker: Worker):
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "fairlead_requests", "Requests by outcome", ["model", "outcome"], registry=self.registry
        )
        self.tokens = Counter("fairlead_tokens", "Tokens by kind", ["model", "kind"], registry=self.registry)
        self.seconds = Histogram("fairlead_request_seconds", "Seconds per request", ["model"], registry=self.registry)
        pending = Gauge("fairlead_pending_requests", "Requests that wait or run", registry=self.registry)
        pending.set_function(lambda: worker.pending)


def create_app(engines: Mapping[str, Engine], *, keys: Sequence[str] = (), limits: Limits | None = None) -> FastAPI:
    """Return the server as an ASGI application.

    Args:
        engines: name -> engine.
        keys: secrets of which a request must bring one (`Authorization: Bearer KEY`); none for a server open to all.
        limits: what it takes on.
    """
    return _Server(engines, keys, limits or Limits()).app


class _Server:
    def __init__(self, engines: Mapping[str, Engine], keys: Sequence[str], limits: Limits):
        self.keys, self.limits = [key.encode() for key in keys], limits
        self.methods = Methods(engines, rows=limits.rows)
        self.worker = Worker(rows=limits.rows, waiting=limits.waiting, remember=limits.remember)
        self.metrics = _Metrics(self.worker)
        self.started = int(time.time())
        self.app = FastAPI(title="Fairlead", docs_url=None, redoc_url=None, openapi_url=None, lifespan=self._lifespan)
        self.app.add_exception_handler(_RefusedError, lambda _, refused: refused.response())  # type: ignore[attr-defined]
        self.app.add_exception_handler(HTTPException, _http_error)  # type: ignore[arg-type]
        paths: list[tuple[str, Callable[..., Any], list[str]]] = [
            ("/health", self.health, ["GET"]),
            ("/metrics", self.show_metrics, ["GET"]),
            ("/openapi.json", self.openapi, ["GET"]),
            ("/v1/models", self.models, ["GET"]),
            ("/v1/models/{name:path}", self.model, ["GET"]),
            ("/v1/chat/completions", self.chat, ["POST"]),
            ("/v1/completions", self.complete, ["POST"]),
        ]
        for path, handler, methods in paths:
            self.app.add_api_route(path, handler, methods=methods, response_model=None)
        add_page(self.app)

    @asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(self.worker.close)

    async def health(self) -> dict[str, Any]:
        return {"status": "ok", "pending": self.worker.pending}

    async def show_metrics(self, request: Request) -> Response:
        self._admit(request)
        return Response(generate_latest(self.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def openapi(self, request: Request) -> dict[str, Any]:
        self._admit(request)
        return document(list(self.methods.served), max_tokens=self.limits.max_tokens, keys=bool(self.keys))

    async def models(self, request: Request) -> dict[str, Any]:
        self._admit(request)
        return {"object": "list", "data": [self._described(name) for name in self.methods.served]}

    async def model(self, request: Request, name: str) -> dict[str, Any]:
        self._admit(request)
        await self._served(name)
        return self._described(name)

    async def chat(self, request: Request) -> Response:
        return await self._answer(request, schema.ChatRequest, CHAT)

    async def complete(self, request: Request) -> Response:
        return await self._answer(request, schema.CompletionRequest, TEXT)

    def _described(self, name: str) -> dict[str, Any]:
        told = described(self.methods.served[name].engine)
        return {"id": name, "object": "model", "created": self.started, "owned_by": "fairlead", "fairlead": told}

    def _admit(self, request: Request) -> None:
        given = request.headers.get("authorization", "").removeprefix("Bearer ").strip().encode()
        # All are compared, so that the time taken tells nothing.
        known = sum(hmac.compare_digest(given, key) for key in self.keys)
        if self.keys and not known:
            raise _RefusedError(
                401, "the API key is missing or wrong", code="invalid_api_key", WWW_Authenticate="Bearer"
            )

    async def _served(self, name: str, asked: Sequence[Method] = ()) -> Served:
        try:
            return await run_in_threadpool(self.methods.find, name, asked)
        except UnknownNameError as error:
            served = error.kind == "served model"
            status, code = (404, "model_not_found") if served else (400, None)
            raise _RefusedError(status, str(error), param=error.place, code=code) from None
        except FairleadError as error:
            raise _RefusedError(400, str(error), param=error.place) from None

    async def _read(self, request: Request, kind: type[schema.Request]) -> schema.Request:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > self.limits.body_bytes:
                raise _RefusedError(413, f"the request is larger than {self.limits.body_bytes} bytes")
        try:
            return kind.model_validate_json(body)
        except ValidationError as error:
            raise _bad(_telling(error.errors()), body) from None

    async def _answer(self, request: Request, kind: type[schema.Request], words: Words) -> Response:
        self._admit(request)
        asked = await self._read(request, kind)
        served = await self._served(asked.model, asked.methods)
        try:
            sampling = asked.sampling(self.limits.max_tokens)
        except UsageError as error:
            raise _RefusedError(400, str(error), param=_param(error)) from None
        if sampling.max_tokens > self.limits.max_tokens:
            message = f"max_tokens: at most {self.limits.max_tokens} are written here"
            raise _RefusedError(400, message, param="max_tokens")
        told = Form(
            words,
            asked.model,
            served.fingerprint,
            counter(served.engine),
            asked.prompt_of_model,
            method=method_name(served.engine),
            stats=all(one.return_stats for one in asked.methods),
        )
        heard = Mailbox(_AHEAD)
        job = Job(
            served.engine,
            asked.prompt_of_model,
            sampling,
            heard.put,
            carry=asyncio.get_running_loop().call_soon_threadsafe,
            room=heard.room,
            choices=asked.n,
            stream=asked.stream,
            top=asked.top,
        )
        try:
            self.worker.submit(job)
        except queue.Full:
            self.metrics.requests.labels(asked.model, "refused").inc()
            raise _RefusedError(429, "too many requests wait here", Retry_After="1") from None
        hearing = _Hearing(self.metrics, asked.model, told, job, heard, time.monotonic())
        if not asked.stream:
            return await hearing.whole(request, asked)
        # An error that is known at once is an answer of its own, not an event.
        first = await hearing.next(request)
        usage = asked.stream_options is not None and asked.stream_options.include_usage
        return _Stream(
            hearing.events(first, asked.n, logprobs=asked.top is not None, usage=usage), self.limits.patience
        )


class _Stream(StreamingResponse):
    """Events for a client that has to take them."""

    def __init__(self, events: AsyncIterator[str], patience: float):
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self.patience = patience

    async def stream_response(self, send: Send) -> None:
        async def patient(message: Message) -> None:
            try:
                async with asyncio.timeout(self.patience):
                    await send(message)
            except TimeoutError:
                raise OSError("the client takes nothing") from None

        await super().stream_response(patient)


@dataclass
class _Hearing:
    """One request's answer on its way to the client."""

    metrics: _Metrics
    model: str
    form: Form
    job: Job
    heard: Mailbox
    began: float

    async def whole(self, request: Request, asked: schema.Request) -> JSONResponse:
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
            _RefusedError: an error, or the client has gone.
        """
        while True:
            try:
                told = await self.heard.take(_LOOK_SECONDS)
            except TimeoutError:
                if await request.is_disconnected():
                    self.job.cancelled.set()
                    self._count("cancelled", None)
                    raise _RefusedError(499, "the client has gone") from None
                continue
            if isinstance(told[-1], Exception):
                raise self.refused(told[-1])
            return told

    async def events(self, told: list[Told], n: int, *, logprobs: bool, usage: bool) -> AsyncIterator[str]:
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
                        events.append(self.refused(piece, count=False).body)
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

    async def _more(self) -> list[Told]:
        try:
            return await self.heard.take(_ALIVE_SECONDS)
        except TimeoutError:
            return []

    def refused(self, error: Exception, *, count: bool = True) -> _RefusedError:
        if count:
            self._count("failed", None)
        if isinstance(error, FairleadError):
            status = 400 if isinstance(error, _CLIENT_ERRORS) else 500
            return _RefusedError(status, str(error), param=_param(error))
        return _RefusedError(500, f"{type(error).__name__}: the answer could not be made")

    def _count(self, outcome: str, usage: dict[str, int] | None) -> None:
        self.metrics.requests.labels(self.model, outcome).inc()
        self.metrics.seconds.labels(self.model).observe(time.monotonic() - self.began)
        for kind in ("prompt", "completion") if usage else ():
            assert usage is not None
            self.metrics.tokens.labels(self.model, kind).inc(usage[f"{kind}_tokens"])


def _param(error: FairleadError) -> str | None:
    """Return the request's field that an error is about."""
    place = error.place or ""
    return place.removeprefix("sampling.") if place == "logprobs" or place.startswith("sampling.") else None


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False, default=str)}\n\n"


def _path(loc: Sequence[Any], body: Any) -> str | None:
    """Return the place of an error in a body, without the names that pydantic gives to the branches of a choice."""
    path: list[str] = []
    for part in loc:
        inside = part in body if isinstance(body, dict) else isinstance(body, list) and isinstance(part, int)
        if inside:
            path, body = [*path, str(part)], body[part]
    missing = loc[-1] if loc and isinstance(body, dict) and loc[-1] not in path else None
    return ".".join([*path, str(missing)] if missing is not None else path) or None


def _telling(found: Sequence[Any]) -> Any:
    """Return the error that tells most of the first field at fault: not that it is of another kind, if it may be so."""
    own = [one for one in found if one["loc"][:1] == found[0]["loc"][:1]]
    return min(own, key=lambda one: (one["type"].endswith("_type"), -len(one["loc"])))


def _bad(found: Any, body: bytes) -> _RefusedError:
    """Turn what pydantic found wrong into an error that names the field."""
    param = _path(found["loc"], json.loads(body)) if found["loc"] else None
    message = found["msg"].removeprefix("Value error, ")
    if param is None and ": " in message:
        param = message.partition(":")[0]
    if found["type"] == "extra_forbidden":
        return _RefusedError(400, f"unknown field {param!r}; it is not ignored", param=param, code="unknown_field")
    return _RefusedError(
        400, f"{param}: {message}" if param and not message.startswith(param) else message, param=param
    )


async def _http_error(_: Request, error: HTTPException) -> JSONResponse:
    headers = {name.replace("-", "_"): value for name, value in (error.headers or {}).items()}
    return _RefusedError(error.status_code, str(error.detail), **headers).response()
