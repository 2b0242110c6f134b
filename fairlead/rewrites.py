"""Rewriting what a user asks: where the message stands, what a rewriter's reply holds, what must survive."""

from __future__ import annotations

import re
from typing import cast

from fairlead.messages import Prompt

__all__ = ["between", "last_user", "losses", "message_at", "with_message"]

_MUST_STAY = re.compile(r"```.*?```|https?://[^\s<>\"')\]]*[^\s<>\"')\].,;:!?]|\d+(?:[.,:]\d+)*", re.DOTALL)
"""Code blocks, addresses and numbers."""


def between(reply: str, start: str, end: str) -> str | None:
    """Return the text after the last `start`, up to the next `end` if there is one; None when there is no `start`."""
    _, found, after = reply.rpartition(start)
    return after.partition(end)[0] if found else None


def losses(original: str, rewrite: str) -> list[str]:
    """Return the numbers, addresses and code blocks of `original` that `rewrite` does not have, in order."""
    kept = set(_MUST_STAY.findall(rewrite))
    return [part for part in dict.fromkeys(_MUST_STAY.findall(original)) if part not in kept]


def last_user(prompt: Prompt) -> int:
    """Return the place of the last user message; 0 for raw text, -1 when there is none."""
    if isinstance(prompt, str):
        return 0
    return max((k for k, turn in enumerate(prompt) if turn["role"] == "user"), default=-1)


def message_at(prompt: Prompt, place: int) -> str:
    """Return the message at a place of `last_user`: raw text as a whole, "" where there is none."""
    if isinstance(prompt, str):
        return prompt
    return "" if place < 0 else prompt[place]["content"]


def with_message(prompt: Prompt, place: int, message: str) -> Prompt:
    """Return a prompt with another message at a place of `last_user`."""
    if isinstance(prompt, str):
        return message
    turns = [dict(turn) for turn in prompt]
    turns[place]["content"] = message
    return cast(Prompt, turns)
