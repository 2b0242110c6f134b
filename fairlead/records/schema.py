"""The six kinds of record, with the column names of TRL, so that its data sets load unchanged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeAlias

from fairlead.messages import Message, Prompt

__all__ = [
    "CLASSES",
    "Conversation",
    "Feedback",
    "Preference",
    "PromptOnly",
    "Ranking",
    "Record",
    "Text",
    "content_id",
    "texts",
    "to_row",
]

Answer: TypeAlias = str | tuple[Message, ...]
"""An assistant's answer (or the continuation of a raw prompt), or messages that follow the prompt."""


@dataclass(frozen=True)
class Conversation:
    """A prompt and how it was answered, or a whole conversation."""

    kind: ClassVar[str] = "conversation"
    id: str
    """Unique in its file; a hash of the content where the file gives none."""
    prompt: Prompt
    """What was asked; empty for rows of `messages`."""
    completion: Answer
    """The answer; all messages for rows of `messages`."""
    extra: dict[str, Any] = field(default_factory=dict)
    """All other columns, as they are."""


@dataclass(frozen=True)
class Preference:
    """Two answers to one prompt, one preferred."""

    kind: ClassVar[str] = "preference"
    id: str
    """Unique in its file; a hash of the content where the file gives none."""
    prompt: Prompt
    """What was asked."""
    chosen: Answer
    """The better answer."""
    rejected: Answer
    """The worse answer."""
    extra: dict[str, Any] = field(default_factory=dict)
    """All other columns, as they are."""


@dataclass(frozen=True)
class Feedback:
    """One answer with a thumb up or down."""

    kind: ClassVar[str] = "feedback"
    id: str
    """Unique in its file; a hash of the content where the file gives none."""
    prompt: Prompt
    """What was asked."""
    completion: Answer
    """The answer."""
    label: bool
    """True for a thumb up."""
    extra: dict[str, Any] = field(default_factory=dict)
    """All other columns, as they are."""


@dataclass(frozen=True)
class Ranking:
    """Several answers to one prompt, each with a score."""

    kind: ClassVar[str] = "ranking"
    id: str
    """Unique in its file; a hash of the content where the file gives none."""
    prompt: Prompt
    """What was asked."""
    completions: tuple[Answer, ...]
    """Two answers or more."""
    scores: tuple[float, ...]
    """A score per answer, higher is better."""
    extra: dict[str, Any] = field(default_factory=dict)
    """All other columns, as they are."""


@dataclass(frozen=True)
class PromptOnly:
    """A prompt without an answer."""

    kind: ClassVar[str] = "prompt"
    id: str
    """Unique in its file; a hash of the content where the file gives none."""
    prompt: Prompt
    """What is asked."""
    extra: dict[str, Any] = field(default_factory=dict)
    """All other columns, as they are."""


@dataclass(frozen=True)
class Text:
    """A document, for pre-training."""

    kind: ClassVar[str] = "text"
    id: str
    """Unique in its file; a hash of the content where the file gives none."""
    text: str
    """The document."""
    extra: dict[str, Any] = field(default_factory=dict)
    """All other columns, as they are."""


Record: TypeAlias = Conversation | Preference | Feedback | Ranking | PromptOnly | Text
"""One row of data."""

CLASSES: dict[str, type] = {cls.kind: cls for cls in (Conversation, Preference, Feedback, Ranking, PromptOnly, Text)}
"""kind -> its class."""


def to_row(record: Record) -> dict[str, Any]:
    """Return the record as plain columns, as `read` takes them."""
    row = {f.name: _plain(getattr(record, f.name)) for f in fields(record) if f.name != "extra"}
    if record.kind == "conversation" and not row["prompt"]:
        del row["prompt"]
        row["messages"] = row.pop("completion")
    return row | record.extra


def texts(record: Record) -> Iterator[str]:
    """Yield every text in a record: contents of its messages, raw prompts and answers, in the order of its fields."""
    for f in fields(record):
        if f.name in ("id", "extra", "label", "scores"):
            continue
        value = getattr(record, f.name)
        for part in value if f.name == "completions" else (value,):
            yield from (part,) if isinstance(part, str) else (message["content"] for message in part)


def content_id(kind: str, content: dict[str, Any]) -> str:
    """Return 16 hex digits that change with the content of a record (not with its extra columns)."""
    plain = json.dumps([kind, {k: _plain(v) for k, v in content.items()}], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return dict(value) if isinstance(value, dict) else value
