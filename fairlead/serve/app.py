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

from fairlead.engines.base import Engine
from fairlead.errors import EngineError, FairleadError, RenderError, UnknownNameError, UsageError
from fairlead.serve import schema
from fairlead.serve.answers import CHAT, TEXT, Form, Words, counter
from fairlead.serve.methods import Method, Methods, Served, described, method_name
from fairlead.serve.openapi import document
from fairlead.serve.page import add_page
from fairlead.serve.worker import Job, Piece, Worker

__all__ = ["Limits", "create_app"]

_ALIVE_SECONDS = 15.0
"""A stream without news says so after this long."""
_LOOK_SECONDS = 0.25
"""How often it is asked whether a client is still there."""
_CLIENT_ERRORS = (UsageError, RenderError, EngineError)
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
    body_bytes: int = 1 << 20
    """Largest request."""


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
        self.worker = Worker(rows=limits.rows, waiting=limits.waiting)
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
        sampling = asked.sampling(self.limits.max_tokens)
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
        heard: asyncio.Queue[Piece | Exception | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def tell(what: Piece | Exception | None) -> None:
            loop.call_soon_threadsafe(heard.put_nowait, what)

        try:
            job = self.worker.submit(
                served.engine, asked.prompt_of_model, sampling, tell, choices=asked.n, top=asked.top
            )
        except queue.Full:
            self.metrics.requests.labels(asked.model, "refused").inc()
            raise _RefusedError(429, "too many requests wait here", Retry_After="1") from None
        began = time.monotonic()
        hearing = _Hearing(self.metrics, asked.model, told, job, heard, began)
        if not asked.stream:
            return await hearing.whole(request, asked)
        # An error that is known at once is an answer of its own, not an event.
        first = await heard.get()
        if isinstance(first, Exception):
            raise hearing.refused(first)
        usage = asked.stream_options is not None and asked.stream_options.include_usage
        events = hearing.events(first, asked.n, logprobs=asked.top is not None, usage=usage)
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        return StreamingResponse(events, media_type="text/event-stream", headers=headers)


@dataclass
class _Hearing:
    """One request's answer on its way to the client."""

    metrics: _Metrics
    model: str
    form: Form
    job: Job
    heard: asyncio.Queue[Piece | Exception | None]
    began: float

    async def whole(self, request: Request, asked: schema.Request) -> JSONResponse:
        pieces: list[list[Piece]] = [[] for _ in range(asked.n)]
        try:
            while (piece := await self._next(request)) is not None:
                pieces[piece.index].append(piece)
        finally:
            self.job.cancelled.set()
        body = self.form.whole(pieces, logprobs=asked.top is not None)
        self._count("done", body["usage"])
        return JSONResponse(body)

    async def _next(self, request: Request) -> Piece | None:
        while True:
            try:
                piece = await asyncio.wait_for(self.heard.get(), _LOOK_SECONDS)
            except TimeoutError:
                if await request.is_disconnected():
                    self._count("cancelled", None)
                    raise _RefusedError(499, "the client has gone") from None
                continue
            if isinstance(piece, Exception):
                raise self.refused(piece)
            return piece

    async def events(self, first: Piece | None, n: int, *, logprobs: bool, usage: bool) -> AsyncIterator[str]:
        """Yield the answer as server-sent events."""
        completions = []
        outcome = "cancelled"
        try:
            for index in range(n):
                yield _event(self.form.first(index))
            piece: Piece | Exception | None = first
            while piece is not None:
                if isinstance(piece, Exception):
                    outcome = "failed"
                    yield _event(self.refused(piece, count=False).body)
                    return
                for event in self.form.pieces(piece, logprobs=logprobs):
                    yield _event(event)
                if piece.completion is not None:
                    completions.append(piece.completion)
                while True:
                    try:
                        piece = await asyncio.wait_for(self.heard.get(), _ALIVE_SECONDS)
                        break
                    except TimeoutError:
                        yield ": keep-alive\n\n"
            outcome = "done"
            if usage:
                yield _event(self.form.usage_event(completions))
            yield "data: [DONE]\n\n"
        finally:
            self.job.cancelled.set()
            self._count(outcome, self.form.usage(completions))

    def refused(self, error: Exception, *, count: bool = True) -> _RefusedError:
        if count:
            self._count("failed", None)
        if isinstance(error, FairleadError):
            status = 400 if isinstance(error, _CLIENT_ERRORS) else 500
            return _RefusedError(status, str(error), param=error.place if error.place == "logprobs" else None)
        return _RefusedError(500, f"{type(error).__name__}: the answer could not be made")

    def _count(self, outcome: str, usage: dict[str, int] | None) -> None:
        self.metrics.requests.labels(self.model, outcome).inc()
        self.metrics.seconds.labels(self.model).observe(time.monotonic() - self.began)
        for kind in ("prompt", "completion") if usage else ():
            assert usage is not None
            self.metrics.tokens.labels(self.model, kind).inc(usage[f"{kind}_tokens"])


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
