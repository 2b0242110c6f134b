"""What a scorer of complexity or quality is shown: one user turn of a record, in the text that it was trained with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from fairlead import prompts
from fairlead.messages import Prompt

__all__ = ["DIGITS", "Axis", "Form", "Shown", "turns_of"]

Axis: TypeAlias = Literal["complexity", "quality"]
"""How demanding an instruction is, or how good its answer."""
Form: TypeAlias = Literal["chat", "raw"]
"""The text as a user's message, or as it is with a blank behind it."""

DIGITS = tuple("123456")
"""What a scorer replies, the worst first."""


@dataclass(frozen=True)
class Shown:
    """How turns are shown to the scorer of an axis."""

    axis: Axis
    """What is scored."""
    own: str | None
    """A user's text in the shipped one's place: a path, or the text itself."""
    form: Form
    """As what the text is handed over."""

    def check(self) -> None:
        """Refuse a text that cannot be read or asks for what it is not given.

        Raises:
            UsageError: saying what.
        """
        self.prompt(("instruction", "answer"))

    def prompt(self, turn: tuple[str, str]) -> Prompt:
        """Return what the scorer of a turn (instruction, answer) reads; complexity is scored without the answer."""
        values = {"instruction": turn[0]} | ({"answer": turn[1]} if self.axis == "quality" else {})
        text = prompts.load("deita", self.axis, self.own).render(**values)
        return text + " " if self.form == "raw" else [{"role": "user", "content": text}]


def turns_of(record: Any) -> list[tuple[str, str]]:
    """Return (instruction, answer) of every user turn of a conversation; an answer that is missing is empty."""
    if isinstance(record.completion, str):
        return [(str(record.prompt), record.completion)]
    turns: list[tuple[str, str]] = []
    asked = () if isinstance(record.prompt, str) else record.prompt
    for message in (*asked, *record.completion):
        if message["role"] == "user":
            turns.append((message["content"], ""))
        elif message["role"] == "assistant" and turns:
            before, said = turns[-1]
            turns[-1] = (before, f"{said}\n{message['content']}" if said else message["content"])
    return turns
