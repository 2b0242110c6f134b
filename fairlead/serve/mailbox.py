"""Where what a worker tells waits for its client."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from fairlead.serve.worker import Piece, Told

__all__ = ["Mailbox", "merged"]


class Mailbox:
    """What is told in an event loop, taken out there by whoever sends it on. Made and used in that loop.

    Args:
        most: pieces that lie here before the worker is told to wait with more.
    """

    def __init__(self, most: int):
        self.most = most
        self._lying: list[Told] = []
        self._come = asyncio.Event()
        self._lock = threading.Lock()
        self._emptied: Future[Any] | None = None

    def put(self, told: Told) -> None:
        """Lay something here."""
        self._lying.append(told)
        self._come.set()

    def room(self) -> Future[Any] | None:
        """Return None while there is room; else what is done when all was taken. Called in the worker's thread."""
        with self._lock:
            if len(self._lying) < self.most:
                return None
            self._emptied = self._emptied or Future()
            return self._emptied

    async def take(self, seconds: float) -> list[Told]:
        """Wait until something is here; return all, oldest first.

        Raises:
            TimeoutError: nothing came in time.
        """
        if not self._lying:
            self._come.clear()
            async with asyncio.timeout(seconds):
                await self._come.wait()
        with self._lock:
            taken, self._lying = self._lying, []
            emptied, self._emptied = self._emptied, None
        if emptied is not None:
            emptied.set_result(None)
        return taken


def merged(told: Sequence[Told]) -> list[Told]:
    """Put the pieces of each answer together: they are sent on as one."""
    found: list[Told] = []
    places: dict[int, int] = {}
    for one in told:
        if isinstance(one, Piece) and one.index in places:
            last = found[places[one.index]]
            assert isinstance(last, Piece)
            found[places[one.index]] = replace(one, text=last.text + one.text, tokens=last.tokens + one.tokens)
            continue
        if isinstance(one, Piece):
            places[one.index] = len(found)
        found.append(one)
    return found
