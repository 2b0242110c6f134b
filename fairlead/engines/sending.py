"""One HTTP request that ends: tries with growing waits, a pace shared by all, and a deadline on everything."""

from __future__ import annotations

import email.utils
import json
import random
import threading
import time
from typing import Any

import httpx

from fairlead.errors import EngineError, EngineTimeoutError, RequestError

__all__ = ["Deadline", "Pace", "Poster"]

_TRY_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_FIRST_WAIT = 0.5
"""Seconds before the second try; doubled for each next one."""
_LONGEST_WAIT = 60.0


class Deadline:
    """The moment by which something must be done; `stop` ends every wait earlier."""

    def __init__(self, seconds: float, stop: threading.Event | None = None):
        self.seconds = seconds
        self.end = time.monotonic() + seconds
        self.stop = stop or threading.Event()

    @property
    def left(self) -> float:
        """Seconds left; never negative."""
        return max(0.0, self.end - time.monotonic())

    def wait(self, seconds: float) -> bool:
        """Wait, unless that goes past the deadline; return whether there is time left to go on."""
        if seconds >= self.left:
            return False
        return not self.stop.wait(seconds)


class Pace:
    """When the next request may begin; shared by all threads.

    Args:
        per_second: most requests begun per second; None for no limit.
    """

    def __init__(self, per_second: float | None):
        self.gap = 0.0 if per_second is None else 1.0 / per_second
        self._next = 0.0
        self._lock = threading.Lock()

    def hold(self, seconds: float) -> None:
        """Let no request begin for some seconds."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)

    def take(self) -> float:
        """Take the next place; return the seconds to wait for it."""
        with self._lock:
            start = max(self._next, time.monotonic())
            self._next = start + self.gap
            return start - time.monotonic()


class _TryError(Exception):
    """One try failed in a way that another may not; carries the seconds that the server asked to wait."""

    def __init__(self, what: str, wait: float = 0.0):
        super().__init__(what)
        self.wait = wait


class Poster:
    """Sends JSON and returns JSON.

    Args:
        client: the connections.
        pace: shared by all requests.
        timeout: seconds that the server may stay silent in one try.
        retries: tries after the first.
        key_name: the environment variable to name when the server wants a key.
    """

    def __init__(self, client: httpx.Client, pace: Pace, *, timeout: float, retries: int, key_name: str):
        self.client, self.pace, self.timeout, self.retries, self.key_name = client, pace, timeout, retries, key_name

    def send(self, method: str, url: str, body: Any, deadline: Deadline) -> Any:
        """Return the server's answer, trying again where that can help.

        Raises:
            EngineTimeoutError: the deadline passed.
            EngineError: the server refused, or failed at every try.
        """
        problem = "no answer"
        for attempt in range(self.retries + 1):
            if not deadline.wait(self.pace.take()):
                break
            try:
                return self._once(method, url, body, deadline)
            except _TryError as failed:
                problem = str(failed)
                if failed.wait:
                    self.pace.hold(min(failed.wait, deadline.left))
                backoff = min(_LONGEST_WAIT, _FIRST_WAIT * 2**attempt) * random.uniform(0.5, 1.0)
                if attempt < self.retries and not deadline.wait(max(backoff, failed.wait)):
                    break
        else:
            raise EngineError(
                f"failed {self.retries + 1} times; the last time: {problem}",
                place=url,
                fix="check that the server runs; raise retries if it is busy",
            )
        if deadline.stop.is_set():
            raise EngineError("given up because another request failed", place=url)
        raise EngineTimeoutError(
            f"not answered within {deadline.seconds:g} s; the last try: {problem}",
            place=url,
            fix="raise deadline, or lower concurrency or requests_per_second",
        )

    def _once(self, method: str, url: str, body: Any, deadline: Deadline) -> Any:
        silence = httpx.Timeout(max(0.001, min(self.timeout, deadline.left)))
        try:
            with self.client.stream(method, url, json=body, timeout=silence) as response:
                parts = []
                for part in response.iter_bytes():
                    parts.append(part)
                    # The client's timeout only limits each silence; a slow drip is ended here.
                    if not deadline.left:
                        raise _TryError("the answer did not end in time")
                content = b"".join(parts)
        except httpx.TransportError as error:
            raise _TryError(f"{type(error).__name__} {error}".strip()) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise EngineError(f"{type(error).__name__}: {error}", place=url, fix="check the address") from error
        if response.status_code in _TRY_AGAIN:
            raise _TryError(f"status {response.status_code} {_excerpt(content)}", _retry_after(response))
        if response.status_code != 200:
            raise self._refused(url, response.status_code, content)
        try:
            return json.loads(content)
        except ValueError as error:
            raise _TryError(f"an answer that is not JSON: {_excerpt(content)}") from error

    def _refused(self, url: str, status: int, content: bytes) -> EngineError:
        fix = "change the request as the server says"
        if status in (401, 403):
            fix = f"put a valid key into the environment variable {self.key_name}"
        if status in (301, 302, 307, 308, 404, 405):
            fix = "check the address (/v1 included) and the model's name"
        kind = RequestError if status in (400, 413, 422) else EngineError
        return kind(f"the server refused with status {status}: {_excerpt(content)}", place=url, fix=fix)


def _excerpt(content: bytes) -> str:
    """Return the message in an error body, or its beginning."""
    text = content[:2000].decode("utf-8", errors="replace")
    try:
        found = json.loads(content)
        error = found.get("error", found)
        text = error.get("message", error) if isinstance(error, dict) else error
        param = error.get("param") if isinstance(error, dict) else None
        if param and str(param) not in str(text):
            text = f"{param}: {text}"
    except (ValueError, AttributeError):
        pass
    return " ".join(str(text).split())[:300]


def _retry_after(response: httpx.Response) -> float:
    """Return the seconds that the server asks to wait (a number or a date), 0 if it does not."""
    value = response.headers.get("retry-after", "").strip()
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return 0.0
