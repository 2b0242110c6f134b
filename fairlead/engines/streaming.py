"""Answers told while they are written: nothing is said that a later token could change or a stop text would cut."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["Listener", "StopFilter", "TextStream", "Token", "begun_stop", "revised", "stop_at", "whole_length"]

_BROKEN = "\ufffd"
"""What decoders write for a character whose bytes are not all there."""


@dataclass(frozen=True)
class Token:
    """One token of an answer, or one that could have stood there."""

    spelled: bytes
    """What it adds to the text."""
    logprob: float
    """Nats, of the untempered distribution that it was drawn from."""
    top: tuple[Token, ...] = ()
    """The likeliest tokens at its place."""
    entropy: float | None = None
    """Nats, of that distribution."""
    source: str | None = None
    """Who wrote it, where several models write."""


@dataclass(frozen=True)
class Listener:
    """Who hears an answer while it is written."""

    hear: Callable[[str, tuple[Token, ...]], None]
    """Is told more text of the answer, perhaps none, and the tokens since the last time. What was said stands; the end
    of the answer may be left to its `Completion`."""
    top: int | None = None
    """How many likeliest tokens are wanted with every token; None where no tokens are wanted."""


def stop_at(text: str, stops: Sequence[str], deaf: float = 0) -> int | None:
    """Return where the stop text that is complete first begins (of several, the one that began first), or None.

    One that is complete within the first `deaf` characters does not count.
    """
    deaf = min(deaf, len(text))
    found = [(text.find(stop, max(0, int(deaf) + 1 - len(stop))), len(stop)) for stop in stops]
    return min(((at + length, at) for at, length in found if at >= 0), default=(0, None))[1]


def whole_length(text: str) -> int:
    """Return how many characters of a text there are before one at its end whose bytes are not all there."""
    return len(text.rstrip(_BROKEN))


def begun_stop(text: str, stops: Sequence[str]) -> int:
    """Return how many characters at the text's end may be the beginning of a stop text."""
    return max((_begun(text, stop) for stop in stops), default=0)


def _begun(text: str, stop: str) -> int:
    most = min(len(stop) - 1, len(text))
    return next((n for n in range(most, 0, -1) if text.endswith(stop[:n])), 0)


class StopFilter:
    """Passes text on up to the first stop text; holds back what may be the beginning of one."""

    def __init__(self, stops: Sequence[str]):
        self.stops = tuple(stops)
        self.held = ""
        """Text that is not said yet."""
        self.stopped = False
        """Whether a stop text was complete; nothing is said after it."""
        self.deaf: float = 0
        """Characters from the beginning within which a complete stop text does not count."""
        self._said = 0

    def feed(self, text: str) -> str:
        """Take more text; return what can be said now."""
        if self.stopped:
            return ""
        self.held += text
        at = stop_at(self.held, self.stops, max(0, self.deaf - self._said))
        if at is not None:
            said, self.held, self.stopped = self.held[:at], "", True
            return said
        cut = len(self.held) - begun_stop(self.held, self.stops)
        said, self.held = self.held[:cut], self.held[cut:]
        self._said += len(said)
        return said

    def end(self) -> str:
        """Return what was held back and no longer has to be."""
        said, self.held = self.held, ""
        return said


class TextStream:
    """The text of an answer, piece by piece as its tokens come.

    Args:
        decode: token ids to text, without special tokens.
        stops: texts that end the answer.
        least: tokens within which a stop text that is complete does not count.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stops: Sequence[str], *, least: int = 0):
        self.decode, self.filter, self.least = decode, StopFilter(stops), least
        self.ids: list[int] = []
        self._start, self._read = 0, 0

    def feed(self, token: int) -> str:
        """Take a token; return the text that can be said now.

        Only the last tokens are decoded: those whose text is known, so that spaces between tokens come out right, and
        those behind them.
        """
        self.ids.append(token)
        if len(self.ids) <= self.least:
            self.filter.deaf = math.inf if len(self.ids) < self.least else whole_length(self.decode(self.ids))
        known, whole = self.decode(self.ids[self._start : self._read]), self.decode(self.ids[self._start :])
        if whole.endswith(_BROKEN) or len(whole) <= len(known):
            return ""
        self._start, self._read = self._read, len(self.ids)
        return self.filter.feed(whole[len(known) :])

    def end(self) -> str:
        """Return the rest of the text, once the last token is in."""
        known, whole = self.decode(self.ids[self._start : self._read]), self.decode(self.ids[self._start :])
        return self.filter.feed(whole[len(known) :]) + self.filter.end()


def revised(listener: Listener | None, settled: Callable[[str], str]) -> Listener | None:
    """Return who hears the text as it is written, and tells `listener` what it becomes.

    Args:
        listener: whom to tell.
        settled: the text so far -> the beginning of what it becomes that no more text can change.
    """
    if listener is None:
        return None
    text, said = "", 0

    def hear(more: str, tokens: tuple[Token, ...]) -> None:
        nonlocal text, said
        text += more
        sure = settled(text)
        listener.hear(sure[said:], tokens)
        said = max(said, len(sure))

    return Listener(hear, listener.top)
