"""The HTTP side: paths, keys, limits, errors, events."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import queue
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from fairlead.engines.base import Engine
from fairlead.errors import FairleadError, UnknownNameError, UsageError
from fairlead.serve import schema
from fairlead.serve.answers import CHAT, TEXT, Form, Words, counter
from fairlead.serve.hearing import EventStream, Hearing, Metrics
from fairlead.serve.mailbox import Mailbox
from fairlead.serve.methods import Method, Methods, Served, described, method_name
from fairlead.serve.openapi import document
from fairlead.serve.page import add_page
from fairlead.serve.refusals import RefusedError, parsed, refused
from fairlead.serve.worker import Job, Worker

__all__ = ["Limits", "create_app"]

_HEADER = 1000
"""Most characters of a list of fields in a header."""
_AHEAD = 256
"""Pieces that may wait for a client; then its answer rests."""


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

    def __post_init__(self) -> None:
        least = {"rows": 1, "waiting": 1, "max_tokens": 1, "remember": 0, "body_bytes": 1, "patience": 0}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise UsageError(f"{name} is {getattr(self, name)}", fix=f"use at least {value}")


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
        self.metrics = Metrics(self.worker)
        self.started = int(time.time())
        self.app = FastAPI(title="Fairlead", docs_url=None, redoc_url=None, openapi_url=None, lifespan=self._lifespan)
        self.app.add_exception_handler(RefusedError, lambda _, refused: refused.response())  # type: ignore[attr-defined]
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
            raise RefusedError(
                401, "the API key is missing or wrong", code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"}
            )
        host = request.headers.get("host", "")
        host = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
        if not self.keys and not _is_here(host):
            # A page of somebody else's could have its own name point to this machine.
            message = f"without keys this server answers to names of this machine, not to {host!r}"
            raise RefusedError(403, message, code="wrong_host")

    async def _served(self, name: str, asked: Sequence[Method] = ()) -> Served:
        try:
            return await run_in_threadpool(self.methods.find, name, asked)
        except UnknownNameError as error:
            served = error.kind == "served model"
            status, code = (404, "model_not_found") if served else (400, None)
            raise RefusedError(status, str(error), param=error.place, code=code) from None
        except FairleadError as error:
            raise RefusedError(400, str(error), param=error.place) from None

    async def _body(self, request: Request) -> bytes:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > self.limits.body_bytes:
                raise RefusedError(413, f"the request is larger than {self.limits.body_bytes} bytes")
        return body

    async def _answer(self, request: Request, kind: type[schema.Request], words: Words) -> Response:
        self._admit(request)
        lenient = request.headers.get("x-compat", "").lower() == "lenient"
        asked, ignored = parsed(kind, await self._body(request), lenient=lenient)
        served = await self._served(asked.model, asked.methods)
        try:
            sampling = asked.sampling(self.limits.max_tokens)
        except UsageError as error:
            raise refused(error) from None
        if sampling.max_tokens > self.limits.max_tokens:
            message = f"max_tokens: at most {self.limits.max_tokens} are written here"
            raise RefusedError(400, message, param="max_tokens")
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
            raise RefusedError(429, "too many requests wait here", headers={"Retry-After": "1"}) from None
        hearing = Hearing(self.metrics, asked.model, told, job, heard, time.monotonic())
        if asked.stream:
            # An error that is known at once is an answer of its own, not an event.
            first = await hearing.next(request)
            usage = asked.stream_options is not None and asked.stream_options.include_usage
            events = hearing.events(first, asked.n, logprobs=asked.top is not None, usage=usage)
            response: Response = EventStream(events, self.limits.patience)
        else:
            response = await hearing.whole(request, asked)
        if ignored:
            response.headers["X-Ignored"] = ", ".join(ignored).encode("unicode_escape").decode()[:_HEADER]
        return response


def _is_here(name: str) -> bool:
    """Whether a host is this machine's own name, or none that somebody could register: a single word, or an address."""
    return "." not in name or name.endswith(".localhost") or _is_number(name)


def _is_number(name: str) -> bool:
    """Whether a host is an address, which nobody can have point elsewhere."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def _http_error(_: Request, error: HTTPException) -> JSONResponse:
    return RefusedError(error.status_code, str(error.detail), headers=error.headers).response()
