"""What a prompt is, for everything above: raw text, or the messages of a conversation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, TypedDict

__all__ = ["ROLES", "Message", "Prompt"]

ROLES = ("system", "user", "assistant")
"""The roles that messages can have."""


class Message(TypedDict):
    """One turn of a conversation."""

    role: str
    """One of `ROLES`."""
    content: str
    """Its text."""


Prompt: TypeAlias = str | Sequence[Message]
"""Raw text (no template is applied) or a list of messages (rendered by the model's chat template)."""
