"""What a prompt is, for everything above: raw text, or the messages of a conversation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, TypedDict

__all__ = ["Message", "Prompt"]


class Message(TypedDict):
    """One turn of a conversation."""

    role: str
    """system, user or assistant."""
    content: str
    """Its text."""


Prompt: TypeAlias = str | Sequence[Message]
"""Raw text (no template is applied) or a list of messages (rendered by the model's chat template)."""
