"""What a prompt is, for everything above: raw text, or the messages of a conversation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, TypedDict, cast

__all__ = ["ROLES", "Message", "Prompt", "instruct", "last_question"]

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


def instruct(prompt: Prompt, instruction: str, role: str = "system") -> Prompt:
    """Return `prompt` with an instruction before it; an empty one changes nothing.

    Args:
        prompt: what is asked.
        instruction: what to bear in mind.
        role: "system" puts it into the system message, before what that says already; "user" before the first words of
            the user. Raw text has no roles: there it stands before the text in either case.
    """
    if not instruction:
        return prompt
    if isinstance(prompt, str):
        return f"{instruction}\n{prompt}"
    turns = [dict(turn) for turn in prompt]
    at = next((i for i, turn in enumerate(turns) if turn["role"] == role), None)
    if at is None:
        turns.insert(0, {"role": role, "content": instruction})
    else:
        turns[at]["content"] = f"{instruction}\n{turns[at]['content']}"
    return cast(Prompt, turns)


def last_question(prompt: Prompt) -> str:
    """Return the last user turn of a prompt, or the whole of a raw text; "" where no user speaks."""
    if isinstance(prompt, str):
        return prompt
    return next((turn["content"] for turn in reversed(prompt) if turn["role"] == "user"), "")
