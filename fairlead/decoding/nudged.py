"""What nudging writes: drafts and where they may be left, and the answer with who wrote which part of it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any

from fairlead.decoding.reader import Choice, Reader
from fairlead.engines.base import Completion, FinishReason, Sampling
from fairlead.engines.endings import Endings
from fairlead.engines.streaming import Listener, begun_stop
from fairlead.render.spelling import Spelling

__all__ = ["BOUNDARIES", "Draft", "Nudged", "nudge_ids"]

_NATURAL = ("nudger_eos", "stop")
"""Reasons that are an end of the answer itself."""


@dataclass(frozen=True)
class Draft:
    """What the nudger would write."""

    text: str
    """Its whole characters."""
    choices: list[Choice]
    """Its tokens, without the one that ended it."""
    ended: bool
    """Whether the nudger ended the answer with it."""
    ends: list[int]
    """Characters written up to and including each token."""


def _at_spaces(draft: Draft) -> tuple[list[tuple[int, str]], int | None]:
    start = len(draft.text) - len(draft.text.lstrip(" "))
    words = draft.text[start:].split(" ")
    ends = [start - 1 + end for end in accumulate(len(word) + 1 for word in words[:-1])]
    return [(end, f" {word}") for end, word in zip(ends, words[1:]) if word], ends[-1] if ends else None


def _at_tokens(draft: Draft) -> tuple[list[tuple[int, str]], int | None]:
    ends = sorted({end for end in draft.ends if 0 < end < len(draft.text)})
    after = [*ends[1:], len(draft.text)]
    return [(end, draft.text[end:next_end]) for end, next_end in zip(ends, after)], ends[-1] if ends else None


BOUNDARIES: dict[str, Callable[[Draft], tuple[list[tuple[int, str]], int | None]]] = {
    "space": _at_spaces,
    "token": _at_tokens,
}
"""Where a draft may be left: the characters written there with the piece that comes next, and what of the draft is
kept if it is left nowhere (None: all, as it has one piece)."""


def nudge_ids(draft: Draft, end: int) -> int:
    """Return how many of a draft's tokens write its first `end` characters; the last may write more than these."""
    return bisect_left(draft.ends, end) + 1 if end else 0


@dataclass
class Nudged:
    """The answer so far."""

    spelling: Spelling
    """The base's: its tokens count."""
    sampling: Sampling
    """Has the limit and the stop texts."""
    cap: int
    """Most tokens of the answer."""
    text: str = ""
    """All segments' texts, one after the other."""
    segments: list[dict[str, Any]] = field(default_factory=list)
    """Who wrote what: source, text, token_ids, top1."""
    reason: str = ""
    """Why the answer is over; empty while it is not."""

    tell: Listener | None = None
    """Is told what stays."""

    def __post_init__(self) -> None:
        self._endings = Endings(lambda ids: "".join(map(chr, ids)), frozenset(), self.sampling.stop)
        self._said = 0

    def stops(self, text: str) -> bool:
        """Whether a text holds a stop text."""
        return any(stop in text for stop in self.sampling.stop)

    def add(self, writer: Reader, text: str, choices: Sequence[Choice], *, final: bool = False) -> None:
        """Append a segment, and end the answer where it reaches the limit or a stop text."""
        before = self.text
        if text:
            self.text += text
            ids, tops = [one.token for one in choices], [one.top for one in choices]
            self.segments.append({"source": writer.source, "text": text, "token_ids": ids, "top1": tops})
        self._end(final)
        if self.tell is not None:
            self._tell(self.tell, writer, before, choices)

    def foretell(self, text: str) -> None:
        """Tell the words of a segment that is still being written, where no tokens have to be told with them."""
        if self.tell is None or self.tell.top is not None:
            return
        whole = self.text + text
        sure = whole[: min(max(0, whole.rfind(" ")), len(whole) - begun_stop(whole, self.sampling.stop))].rstrip(" ")
        # Near the limit the end of the segment may be cut.
        if len(sure) > self._said and len(self.spelling.encode(whole).starts) < self.cap:
            self.tell.hear(sure[self._said :], ())
            self._said = len(sure)

    def _end(self, final: bool) -> None:
        starts = self.spelling.encode(self.text).starts
        if len(starts) > self.cap:
            self._cut(self.text[: starts[self.cap]].rstrip(" "))
        if self.stops(self.text):
            self._cut(self._endings.cut(list(map(ord, self.text)))[1])
            self.reason = "stop"
        elif len(starts) > self.cap or (len(starts) == self.cap and not final):
            self.reason = "length"

    def _tell(self, tell: Listener, writer: Reader, before: str, choices: Sequence[Choice]) -> None:
        """Tell the text that can no longer be cut, and the tokens just written as far as they are in the answer."""
        sure = self.text if self.reason else self.text[: len(self.text) - begun_stop(self.text, self.sampling.stop)]
        sure = sure.rstrip(" ")  # the limit cuts before a space
        tokens = [] if tell.top is None else writer.tokens(before, choices)
        left, told = len(self.text.encode()) - len(before.encode()), []
        for token in tokens:
            if left > 0:
                told.append(replace(token, spelled=token.spelled[:left]))
            left -= len(token.spelled)
        tell.hear(sure[self._said :], tuple(told))
        self._said = max(self._said, len(sure))

    def _cut(self, text: str) -> None:
        """Shorten the answer to a beginning of it."""
        self.text, left = text, len(text)
        for segment in self.segments:
            segment["text"] = segment["text"][:left]
            left -= len(segment["text"])
        self.segments = [segment for segment in self.segments if segment["text"]]

    def completion(self, counts: dict[str, int]) -> Completion:
        """Return the answer with its segments, counts and reason."""
        starts = self.spelling.encode(self.text).starts
        tokens, at = {"nudge": 0, "base": 0}, 0
        for segment in self.segments:
            end = at + len(segment["text"])
            tokens[segment["source"]] += bisect_left(starts, end) - bisect_left(starts, at)
            at = end
        share = tokens["nudge"] / len(starts) if starts else 0.0
        stats = {**counts, "tokens_nudge": tokens["nudge"], "tokens_base": tokens["base"], "share": share}
        finish = FinishReason.STOP if self.reason in _NATURAL else FinishReason.LENGTH
        told = {"segments": self.segments, "stop_reason": self.reason, "stats": stats}
        return Completion(self.text, finish_reason=finish, extra=told)
