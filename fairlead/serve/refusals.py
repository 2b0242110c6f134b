"""What a request gets that cannot be answered: the status, and an error that names the field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import pydantic_core
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError

from fairlead.errors import (
    DataError,
    EngineError,
    EngineTimeoutError,
    FairleadError,
    RenderError,
    RequestError,
    UnsupportedError,
    UsageError,
)

__all__ = ["RefusedError", "parsed", "refused"]

M = TypeVar("M", bound=BaseModel)

_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (UsageError, 400),
    (RenderError, 400),
    (DataError, 400),
    (RequestError, 400),
    (UnsupportedError, 400),
    (EngineTimeoutError, 504),
    (EngineError, 502),
    (Exception, 500),
)
"""Whose fault an error is; the first kind that fits counts."""
_FIELDS = {"choices": "structured_outputs"}
"""Settings that have another name in requests."""
_EXTENSION = "steering"
"""The field inside which unknown fields are never ignored."""


class RefusedError(Exception):
    """An answer that says what was wrong."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(message)
        kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
        kind = "authentication_error" if status == 401 else kind
        self.status, self.headers = status, dict(headers or {})
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}

    def response(self) -> JSONResponse:
        """Return it as it is sent."""
        return JSONResponse(self.body, self.status, self.headers)


def refused(error: Exception, *, prompt: str | None = None) -> RefusedError:
    """Return what is answered when an answer ends with an error; `prompt` is the field that errors of prompts name."""
    status = next(status for kind, status in _STATUS if isinstance(error, kind))
    if not isinstance(error, FairleadError):
        return RefusedError(status, f"{type(error).__name__}: the answer could not be made")
    place = error.place or ""
    own = place == "logprobs" or place.startswith("sampling.")
    asked = prompt if isinstance(error, RenderError | RequestError) else None
    field = place.removeprefix("sampling.")
    return RefusedError(status, str(error), param=_FIELDS.get(field, field) if own else asked)


def parsed(kind: type[M], body: bytes, *, lenient: bool) -> tuple[M, list[str]]:
    """Read a request.

    Args:
        kind: what it must be.
        body: JSON.
        lenient: whether fields that are not known, outside `steering`, are left out.

    Returns:
        The request and the fields that were left out.

    Raises:
        RefusedError: naming the first field that is wrong.
    """
    try:
        return kind.model_validate_json(body), []
    except ValidationError as error:
        found = error.errors()
    content = pydantic_core.from_json(body) if any(one["loc"] for one in found) else None
    unknown = [one["loc"] for one in found if one["type"] == "extra_forbidden" and one["loc"][0] != _EXTENSION]
    if not lenient or not unknown:
        raise _bad(_telling(found), content)
    ignored = [_without(loc, content) for loc in unknown]
    return parsed(kind, pydantic_core.to_json(content), lenient=False)[0], ignored


def _steps(loc: Sequence[Any], body: Any) -> list[Any]:
    """Return the steps to a place in a body, without the names that pydantic gives to the branches of a choice."""
    steps: list[Any] = []
    for part in loc:
        inside = part in body if isinstance(body, dict) else isinstance(body, list) and isinstance(part, int)
        if inside:
            steps, body = [*steps, part], body[part]
    return steps


def _without(loc: Sequence[Any], body: Any) -> str:
    """Take a field out of a body; return its name."""
    *before, last = steps = _steps(loc, body)
    for step in before:
        body = body[step]
    body.pop(last, None)
    return ".".join(map(str, steps))


def _telling(found: Sequence[Any]) -> Any:
    """Return the error that tells most of the first field at fault: not that it is of another kind, if it may be so."""
    own = [one for one in found if one["loc"][:1] == found[0]["loc"][:1]]
    return min(own, key=lambda one: (one["type"].endswith("_type"), -len(one["loc"])))


def _bad(found: Any, body: Any) -> RefusedError:
    """Turn what pydantic found wrong into an error that names the field."""
    steps = (
        [*_steps(found["loc"], body), *found["loc"][-1:]] if found["type"] == "missing" else _steps(found["loc"], body)
    )
    param = ".".join(map(str, steps)) or None
    message = found["msg"].removeprefix("Value error, ")
    if found["type"] == "value_error":
        param = message.partition(":")[0]
    if found["type"] == "extra_forbidden":
        return RefusedError(400, f"unknown field {param!r}; it is not ignored", param=param, code="unknown_field")
    told = f"{param}: {message}" if param and not message.startswith(param) else message
    return RefusedError(400, told, param=param)
