"""Messages to text by a tokenizer's chat template, and where in that text each message and turn stands.

Positions come from rendering again (a prefix of the chat, or the chat with one content replaced) and comparing the
texts. Nothing is searched for, so no text inside a message can move a border.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fairlead.errors import RenderError
from fairlead.messages import ROLES, Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["ChatTemplate", "ChatText", "Turn"]

_TEMPLATE_DATE = "26 Jul 2024"
"""Given to templates that print today's date, so that a row has the same tokens tomorrow."""
_FILLINGS = ("\ue000\ue001", "\ue002\ue003", "\ue004\ue005")
"""Contents from Unicode's private area that stand in for a message's own to see where it is written."""


@dataclass(frozen=True)
class Turn:
    """An assistant turn that is trained."""

    before: str
    """The chat's text up to where the assistant begins to write: what generation would be given."""
    answered: int
    """Character where its content ends."""
    end: int
    """Character where everything that the template writes for this turn ends."""


@dataclass(frozen=True)
class ChatText:
    """A conversation as text."""

    text: str
    """What the template writes."""
    contents: list[tuple[int, int]]
    """First character of each message's content, and the character after its last."""
    turns: list[Turn]
    """The trained turns."""


class ChatTemplate:
    """The chat template of one tokenizer.

    Args:
        tokenizer: its chat template may be missing; then every rendering is an error.
        place: what errors call it.
        specials: texts of the tokenizer's special tokens, which no message may contain.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, place: str, specials: Sequence[str]):
        self._tokenizer, self._place = tokenizer, place
        longest_first = sorted(filter(None, specials), key=len, reverse=True)
        self._specials = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def prompt(self, messages: Sequence[Message]) -> str:
        """Return the text after which the assistant writes.

        Raises:
            RenderError: no message, an assistant's at the end, or one that the template refuses or drops.
        """
        messages = self._checked(messages)
        if not messages or messages[-1]["role"] == "assistant":
            raise self._error(
                "a prompt must end with a message of the user or system",
                "put the last assistant message into the completion" if messages else "add a user message",
            )
        text = self._render(messages, generation=True)
        for k in range(len(messages)):
            self._content(messages, k, text, generation=True)
        return text

    def conversation(self, messages: Sequence[Message], given: int, *, trained: bool = True) -> ChatText:
        """Return a conversation's text, with the assistant turns among `messages[given:]` as its turns.

        Turns that are not to be `trained`, only looked at, need not begin with the generation prompt.

        Raises:
            RenderError: no such turn; a message refused or dropped; a turn that is written differently once others
                follow it, or that does not begin with the generation prompt.
        """
        messages = self._checked(messages)
        turns = [k for k in range(given, len(messages)) if messages[k]["role"] == "assistant"]
        if not turns:
            raise self._error("nothing to train: no assistant turn", "add a message with role assistant")
        text = self._render(messages)
        contents = [self._content(messages, k, text) for k in range(len(messages))]
        return ChatText(text, contents, [self._turn(messages, k, text, contents[k][1], trained) for k in turns])

    def opening(self, messages: Sequence[Message]) -> str:
        """Return what the template writes before the content of the last message."""
        messages = self._checked(messages)
        text = self._render(messages)
        return text[: self._content(messages, len(messages) - 1, text)[0]]

    def closing(self, messages: Sequence[Message]) -> str:
        """Return what the template writes between the content of the last message and the assistant's answer to it."""
        messages = self._checked(messages)
        text = self._render(messages, generation=True)
        return text[self._content(messages, len(messages) - 1, text, generation=True)[1] :]

    def between(self, messages: Sequence[Message], k: int) -> str:
        """Return what the template writes between the contents k and k + 1."""
        messages = self._checked(messages)
        text = self._render(messages)
        return text[self._content(messages, k, text)[1] : self._content(messages, k + 1, text)[0]]

    def parted(self, text: str) -> list[str]:
        """Return the stretches of a text between its special tokens."""
        return self._specials.split(text)

    def _turn(self, messages: list[Message], k: int, text: str, answered: int, trained: bool) -> Turn:
        upto = self._render(messages[: k + 1]) if k + 1 < len(messages) else text
        if not text.startswith(upto):
            raise self._error(
                f"the chat template writes message {k + 1} differently once others follow it",
                "give one row per assistant turn: the messages before it as prompt, that turn as completion",
            )
        before = self._render(messages[:k], generation=trained)
        if not upto.startswith(before):
            raise self._error(
                f"the chat template's generation prompt is not how assistant message {k + 1} begins",
                "use a template whose assistant turns begin with its generation prompt; if it only rewrites earlier "
                "turns, give one row per assistant turn",
            )
        return Turn(before, answered, len(upto))

    def _content(self, messages: list[Message], k: int, text: str, *, generation: bool = False) -> tuple[int, int]:
        """Return where content k stands in `text`: what stays the same around it when it is replaced."""
        content = messages[k]["content"].strip()
        filling = next(f for f in _FILLINGS if content[:1] != f[0] and content[-1:] != f[-1])
        replaced: list[Message] = [*messages[:k], {"role": messages[k]["role"], "content": filling}, *messages[k + 1 :]]
        other = self._render(replaced, generation=generation)
        if other == text:
            raise self._error(
                f"the chat template drops the {messages[k]['role']} message {k + 1}",
                "use a template that writes it, or leave the message out",
            )
        start = _shared(text, other)
        return start, len(text) - _shared(text[start:][::-1], other[start:][::-1])

    def _render(self, messages: Sequence[Message], *, generation: bool = False) -> str:
        import jinja2

        if not self._tokenizer.chat_template:
            raise self._error(
                "the tokenizer has no chat template, which messages need",
                "set tokenizer.chat_template, or give prompts and completions as plain texts",
            )
        try:
            text = self._tokenizer.apply_chat_template(
                [{"role": m["role"], "content": m["content"]} for m in messages],
                tokenize=False,
                add_generation_prompt=generation,
                date_string=_TEMPLATE_DATE,
            )
        except (jinja2.TemplateError, TypeError, ValueError, KeyError) as error:
            roles = ", ".join(m["role"] for m in messages) or "none"
            raise self._error(
                f"the chat template refuses messages with the roles ({roles}): {error}",
                "arrange the messages as the template wants them",
            ) from error
        return str(text)

    def _checked(self, messages: Sequence[Message]) -> list[Message]:
        for k, message in enumerate(messages, start=1):
            if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
                raise self._error(f"message {k} is not a mapping of role and content", "write {role, content}")
            if message["role"] not in ROLES:
                raise self._error(f"message {k} has role {message['role']!r}", f"use one of {', '.join(ROLES)}")
            if not isinstance(message["content"], str):
                kind = type(message["content"]).__name__
                raise self._error(f"the content of message {k} is {kind}, not text", "give its text")
            if found := self._specials.search(message["content"]):
                raise self._error(
                    f"message {k} ({message['role']}) contains the special token {found.group()!r}, which would be "
                    "read as structure, not as text",
                    "remove it, or break it up with a space",
                )
        return list(messages)

    def _error(self, what: str, fix: str) -> RenderError:
        return RenderError(what, place=self._place, fix=fix)


def _shared(first: str, second: str) -> int:
    """Return the length of the longest common prefix."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first.startswith(second[:middle]):
            low = middle
        else:
            high = middle - 1
    return low
