"""What the server answers, as schemas: published for clients; tests hold every answer against them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

__all__ = ["ChatChunk", "ChatReply", "Health", "ModelList", "Refusal", "ServedModel", "TextChunk", "TextReply"]

Reason = Literal["stop", "length"]


class _Reply(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class _Wrong(_Reply):
    message: str
    """What was wrong, and what to do about it."""
    type: Literal["invalid_request_error", "authentication_error", "rate_limit_error", "server_error"]
    """Whose fault it is."""
    param: str | None
    """The field at fault; parts of nested fields are joined by dots."""
    code: str | None
    """A word for programs."""


class Refusal(_Reply):
    """The body of every answer that is no success, and of the last event of a stream that fails."""

    error: _Wrong
    """What was wrong."""


class Health(_Reply):
    """Whether the server is there."""

    status: Literal["ok"]
    """Always ok."""
    pending: int
    """Requests that wait or run."""


class _Setting(_Reply):
    type: str
    """Kind of value."""
    value: int | float | bool | str | None
    """What it is where a request does not change it."""
    about: str
    """What it does."""


class _Method(_Reply):
    method: str | None
    """Catalog name of the decoding method; null for a plain model."""
    params: dict[str, _Setting]
    """Settings that a request can change."""


class ServedModel(_Reply):
    """A model or method that can be named in `model`."""

    id: str
    """Its name."""
    object: Literal["model"]
    """Kind of object."""
    created: int
    """When the server started, in seconds since 1970."""
    owned_by: Literal["fairlead"]
    """Who serves it."""
    fairlead: _Method
    """How it answers."""


class ModelList(_Reply):
    """All that is served."""

    object: Literal["list"]
    """Kind of object."""
    data: list[ServedModel]
    """One entry each."""


class _Spelled(_Reply):
    token: str
    """Its text."""
    logprob: float
    """Nats, of the untempered distribution."""
    bytes: list[int]
    """Its bytes."""


class _Token(_Spelled):
    top_logprobs: list[_Spelled]
    """The likeliest tokens at its place."""
    entropy: float | None = None
    """Nats, of the distribution at its place."""
    source: str | None = None
    """Which of several models wrote it."""


class _Logprobs(_Reply):
    content: list[_Token]
    """One entry per token."""
    refusal: None
    """Always null."""


class _Usage(_Reply):
    prompt_tokens: int
    """Tokens of the prompt."""
    completion_tokens: int
    """Tokens of all answers."""
    total_tokens: int
    """Their sum."""


class _Choice(_Reply):
    index: int
    """Number of the answer."""
    logprobs: _Logprobs | None
    """Where they were asked for."""
    steering: dict[str, Any] | None = None
    """Which decoding method answered, and what it did."""


class _Message(_Reply):
    role: Literal["assistant"]
    """Who speaks."""
    content: str
    """The answer."""
    refusal: None
    """Always null."""


class _Head(_Reply):
    id: str
    """Of the answer; the same in all its events."""
    created: int
    """Seconds since 1970."""
    model: str
    """Name of the served model."""
    system_fingerprint: str
    """Changes with the weights and the settings."""
    steering: dict[str, Any] | None = None
    """That of the choice."""


class _ChatChoice(_Choice):
    message: _Message
    """The answer."""
    finish_reason: Reason
    """Why it ends: by itself or a stop text; or for its length."""


class ChatReply(_Head):
    """A whole answer to a conversation."""

    object: Literal["chat.completion"]
    """Kind of object."""
    choices: list[_ChatChoice]
    """The answers."""
    usage: _Usage | None
    """Tokens counted; null where no tokenizer is at hand."""


class _Delta(_Reply):
    role: Literal["assistant"] | None = None
    """In the first event of an answer."""
    content: str | None = None
    """More text."""


class _ChatPart(_Choice):
    delta: _Delta
    """What is new."""
    finish_reason: Reason | None
    """In the last event of an answer."""


class ChatChunk(_Head):
    """An event of a streamed answer to a conversation."""

    object: Literal["chat.completion.chunk"]
    """Kind of object."""
    choices: list[_ChatPart]
    """One; none in the event that counts tokens."""
    usage: _Usage | None = None
    """In the last event, where it was asked for."""


class _TextChoice(_Choice):
    text: str
    """The answer."""
    finish_reason: Reason
    """Why it ends: by itself or a stop text; or for its length."""


class TextReply(_Head):
    """A whole continuation of a text."""

    object: Literal["text_completion"]
    """Kind of object."""
    choices: list[_TextChoice]
    """The continuations."""
    usage: _Usage | None
    """Tokens counted; null where no tokenizer is at hand."""


class _TextPart(_Choice):
    text: str
    """More text."""
    finish_reason: Reason | None
    """In the last event of an answer."""


class TextChunk(_Head):
    """An event of a streamed continuation."""

    object: Literal["text_completion"]
    """Kind of object."""
    choices: list[_TextPart]
    """One; none in the event that counts tokens."""
    usage: _Usage | None = None
    """In the last event, where it was asked for."""
