"""The bodies of answers, in the words of the OpenAI protocol."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fairlead.decoding.base import Decoder
from fairlead.engines.base import Completion, Engine
from fairlead.engines.cache import Cache
from fairlead.engines.local import Local
from fairlead.engines.streaming import Token
from fairlead.messages import Prompt
from fairlead.serve.worker import Piece

__all__ = ["CHAT", "TEXT", "Form", "Words", "counter"]


def counter(engine: Engine) -> Local | None:
    """Return the local model whose tokens are counted: the engine itself, or the first one among its parts."""
    if isinstance(engine, Cache):
        return counter(engine.engine)
    if isinstance(engine, Local):
        return engine
    parts = engine.parts.values() if isinstance(engine, Decoder) else ()
    return next((found for part in parts if (found := counter(part)) is not None), None)


@dataclass(frozen=True)
class Words:
    """What differs between the kinds of answer."""

    kind: str
    """`object` of a whole answer."""
    streamed: str
    """`object` of an event."""
    prefix: str
    """What ids begin with."""
    prompt: str
    """The field of a request that says to what."""
    said: Callable[[str], dict[str, Any]]
    """A whole answer."""
    opening: dict[str, Any]
    """What a streamed answer begins with."""
    piece: Callable[[str], dict[str, Any]]
    """A piece of it."""
    closing: dict[str, Any]
    """What it ends with."""


CHAT = Words(
    "chat.completion",
    "chat.completion.chunk",
    "chatcmpl",
    "messages",
    said=lambda text: {"message": {"role": "assistant", "content": text, "refusal": None}},
    opening={"delta": {"role": "assistant", "content": ""}},
    piece=lambda text: {"delta": {"content": text}},
    closing={"delta": {}},
)
TEXT = Words(
    "text_completion",
    "text_completion",
    "cmpl",
    "prompt",
    said=lambda text: {"text": text},
    opening={"text": ""},
    piece=lambda text: {"text": text},
    closing={"text": ""},
)


@dataclass
class Form:
    """One answer being told, as whole or in events."""

    words: Words
    """Which kind of answer."""
    model: str
    """Name of the served model."""
    fingerprint: str
    """What it was computed from."""
    counts: Local | None
    """Whose tokens are counted; None where nobody knows."""
    prompt: Prompt
    """What was asked."""
    method: str | None
    """Catalog name of the decoding method that answers; None for a plain model."""
    stats: bool
    """Whether it is told what the method did."""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Of this answer."""
    created: int = field(default_factory=lambda: int(time.time()))
    """Seconds since 1970."""

    def head(self, kind: str) -> dict[str, Any]:
        """Return what every body begins with."""
        return {
            "id": f"{self.words.prefix}-{self.id}",
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint[:16],
        }

    def whole(self, pieces: Sequence[Sequence[Piece]], *, logprobs: bool) -> dict[str, Any]:
        """Return the body for the pieces of every answer."""
        choices = []
        for index, own in enumerate(pieces):
            completion = own[-1].completion
            assert completion is not None
            told = [token for piece in own for token in piece.tokens] if logprobs else None
            choices.append(
                {
                    "index": index,
                    **self.words.said(completion.text),
                    "finish_reason": str(completion.finish_reason),
                    "logprobs": None if told is None else self.logprobs(told),
                    **self.extra(completion),
                }
            )
        usage = self.usage([own[-1].completion for own in pieces if own[-1].completion is not None])
        body = {**self.head(self.words.kind), "choices": choices, "usage": usage}
        return body | ({"steering": choices[0]["steering"]} if len(choices) == 1 and self.method else {})

    def first(self, index: int) -> dict[str, Any]:
        """Return the event that opens an answer."""
        return self.event(index, self.words.opening)

    def event(self, index: int, delta: dict[str, Any], **more: Any) -> dict[str, Any]:
        """Return an event of one answer."""
        choice = {"index": index, **delta, "logprobs": None, "finish_reason": None, **more}
        return {**self.head(self.words.streamed), "choices": [choice]}

    def pieces(self, piece: Piece, *, logprobs: bool) -> list[dict[str, Any]]:
        """Return the events of a piece."""
        events = []
        if piece.text or piece.tokens:
            told = {"logprobs": self.logprobs(list(piece.tokens))} if logprobs and piece.tokens else {}
            events.append(self.event(piece.index, self.words.piece(piece.text), **told))
        if piece.completion is not None:
            extra, reason = self.extra(piece.completion), str(piece.completion.finish_reason)
            event = self.event(piece.index, self.words.closing, finish_reason=reason, **extra)
            events.append({**event, **extra})
        return events

    def usage_event(self, completions: Sequence[Completion]) -> dict[str, Any]:
        """Return the event that counts tokens."""
        return {**self.head(self.words.streamed), "choices": [], "usage": self.usage(completions)}

    def usage(self, completions: Sequence[Completion]) -> dict[str, int] | None:
        """Count tokens; None where no tokenizer is at hand."""
        if self.counts is None:
            return None
        asked = len(self.counts.renderer.prompt(self.prompt))
        said = sum(
            len(c.token_ids) if c.token_ids is not None else len(self.counts.renderer.spelling.encode(c.text).ids)
            for c in completions
        )
        return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}

    def logprobs(self, tokens: Sequence[Token]) -> dict[str, Any]:
        """Return the log-probs of tokens."""
        return {"content": [self._token(token) for token in tokens], "refusal": None}

    def extra(self, completion: Completion) -> dict[str, Any]:
        """Return which decoding method answered and what it tells of that."""
        if self.method is None:
            return {}
        return {"steering": {"method": self.method, **(completion.extra if self.stats else {})}}

    def _token(self, token: Token) -> dict[str, Any]:
        told = {"entropy": token.entropy, "source": token.source}
        known = {name: value for name, value in told.items() if value is not None}
        return {**_spelled(token), "top_logprobs": [_spelled(other) for other in token.top], **known}


def _spelled(token: Token) -> dict[str, Any]:
    text = token.spelled.decode(errors="replace")
    return {"token": text, "logprob": token.logprob, "bytes": list(token.spelled)}
