"""Tokens to text as it comes: nothing is said that a later token could change or a stop text would cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence

__all__ = ["StopFilter", "TextStream", "stop_at"]

_BROKEN = "\ufffd"
"""What decoders write for a character whose bytes are not all there."""


def stop_at(text: str, stops: Sequence[str]) -> int | None:
    """Return where the stop text that is complete first begins (of several, the one that began first), or None."""
    found = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    return min(found)[1] if found else None


class StopFilter:
    """Passes text on up to the first stop text; holds back what may be the beginning of one."""

    def __init__(self, stops: Sequence[str]):
        self.stops = tuple(stops)
        self.held = ""
        """Text that is not said yet."""
        self.stopped = False
        """Whether a stop text was complete; nothing is said after it."""

    def feed(self, text: str) -> str:
        """Take more text; return what can be said now."""
        if self.stopped:
            return ""
        self.held += text
        at = stop_at(self.held, self.stops)
        if at is not None:
            said, self.held, self.stopped = self.held[:at], "", True
            return said
        keep = max((self._begun(stop) for stop in self.stops), default=0)
        cut = len(self.held) - keep
        said, self.held = self.held[:cut], self.held[cut:]
        return said

    def end(self) -> str:
        """Return what was held back and no longer has to be."""
        said, self.held = self.held, ""
        return said

    def _begun(self, stop: str) -> int:
        """Return how much of the text's end is a beginning of `stop`."""
        most = min(len(stop) - 1, len(self.held))
        return next((n for n in range(most, 0, -1) if self.held.endswith(stop[:n])), 0)


class TextStream:
    """The text of an answer, piece by piece as its tokens come.

    Args:
        decode: token ids to text, without special tokens.
        stops: texts that end the answer.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stops: Sequence[str]):
        self.decode, self.filter = decode, StopFilter(stops)
        self.ids: list[int] = []
        self._start, self._read = 0, 0

    def feed(self, token: int) -> str:
        """Take a token; return the text that can be said now.

        Only the last tokens are decoded: those whose text is known, so that spaces between tokens come out right, and
        those behind them.
        """
        self.ids.append(token)
        known, whole = self.decode(self.ids[self._start : self._read]), self.decode(self.ids[self._start :])
        if whole.endswith(_BROKEN) or len(whole) <= len(known):
            return ""
        self._start, self._read = self._read, len(self.ids)
        return self.filter.feed(whole[len(known) :])

    def end(self) -> str:
        """Return the rest of the text, once the last token is in."""
        known, whole = self.decode(self.ids[self._start : self._read]), self.decode(self.ids[self._start :])
        return self.filter.feed(whole[len(known) :]) + self.filter.end()
