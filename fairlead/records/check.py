"""A row of columns to a record, or to the list of what is wrong with it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fairlead.messages import ROLES, Message
from fairlead.records.schema import CLASSES, Record, content_id

__all__ = ["COLUMNS", "Problem", "check_row", "kinds_of", "named"]

COLUMNS: dict[str, tuple[str, ...]] = {
    "preference": ("prompt", "chosen", "rejected"),
    "ranking": ("prompt", "completions", "scores"),
    "feedback": ("prompt", "completion", "label"),
    "conversation": ("prompt", "completion"),
    "prompt": ("prompt",),
    "text": ("text",),
}
"""kind -> its columns; a conversation may also be given as `messages`, a preference without `prompt`."""

_SIGNS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("preference", ("chosen",)),
    ("preference", ("rejected",)),
    ("ranking", ("completions",)),
    ("feedback", ("completion", "label")),
    ("conversation", ("messages",)),
    ("conversation", ("completion",)),
    ("prompt", ("prompt",)),
    ("text", ("text",)),
)
"""(kind, columns that only its rows have), the most telling first."""
_SHOWN = 60


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with one row."""

    place: str
    """Where the row is: a line or row number; with the file when there are several."""
    field: str
    """The column, with message number and key inside it; "row" for the row as a whole."""
    expected: str
    """What should be there."""
    found: str
    """What is there."""
    fix: str
    """What to do about it."""

    def __str__(self) -> str:
        return f"{self.place}, {self.field}: expected {self.expected}, found {self.found} (fix: {self.fix})"


def kinds_of(row: Mapping[str, Any]) -> list[str]:
    """Return the kinds that a row's columns speak for, the most telling first; empty when none does."""
    there = {column for column, value in row.items() if value is not None}
    return list(dict.fromkeys(kind for kind, columns in _SIGNS if there.issuperset(columns)))


def check_row(row: Mapping[str, Any], kind: str, place: str) -> Record | list[Problem]:
    """Return the record of `kind` that the row holds, or its problems."""
    checker = _Checker(place, kind)
    row, content = dict(row), {}
    given = row.pop("id", None)
    if given is not None and (isinstance(given, bool) or not isinstance(given, str | int) or given == ""):
        checker.wrong("id", "a text or whole number", given, "give each row an id of its own, or none")
    if kind == "conversation" and row.get("messages") is not None:
        content = {"prompt": (), "completion": checker.messages(row.pop("messages"), "messages")}
    else:
        if kind == "preference" and row.get("prompt") is None:
            row |= _split_shared(row)
        for column in COLUMNS[kind]:
            content[column] = checker.column(column, row.pop(column, None))
        checker.together(content)
    if checker.problems:
        return checker.problems
    return CLASSES[kind](id=content_id(kind, content) if given is None else str(given), **content, extra=row)


def _split_shared(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return prompt, chosen and rejected of two conversations that begin alike up to a user message."""
    chosen, rejected = row.get("chosen"), row.get("rejected")
    if not (isinstance(chosen, list) and isinstance(rejected, list)):
        return {}
    shared = 0
    while shared < min(len(chosen), len(rejected)) and chosen[shared] == rejected[shared]:
        shared += 1
    while shared and not (isinstance(chosen[shared - 1], dict) and chosen[shared - 1].get("role") == "user"):
        shared -= 1
    return {"prompt": chosen[:shared], "chosen": chosen[shared:], "rejected": rejected[shared:]} if shared else {}


class _Checker:
    """Checks the values of one row and collects what is wrong with them."""

    def __init__(self, place: str, kind: str):
        self.place, self.kind = place, kind
        self.problems: list[Problem] = []

    def wrong(self, field: str, expected: str, found: Any, fix: str) -> None:
        self.problems.append(Problem(self.place, field, expected, named(found), fix))

    def column(self, name: str, value: Any) -> Any:
        if value is None:
            self.wrong(name, f"a value in a {self.kind} row", None, f"add the column {name!r}")
            return None
        return _CHECKS[name](self, value, name)

    def text(self, value: Any, field: str) -> str:
        if not isinstance(value, str):
            self.wrong(field, "text", value, "write it as a text")
        elif not value.strip():
            self.wrong(field, "some text", value, "fill it in, or leave the row out")
        return value

    def prompt(self, value: Any, field: str) -> str | tuple[Message, ...]:
        if isinstance(value, str):
            return self.text(value, field)
        messages = self.messages(value, field, ends_with_user=True)
        return messages

    def answer(self, value: Any, field: str) -> str | tuple[Message, ...]:
        if isinstance(value, str):
            return self.text(value, field)
        return self.messages(value, field, starts_with="assistant")

    def answers(self, value: Any, field: str) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple) or len(value) < 2:
            self.wrong(field, "a list of two answers or more", value, "list every answer to the prompt")
            return ()
        return tuple(self.answer(part, f"{field}[{i}]") for i, part in enumerate(value))

    def label(self, value: Any, field: str) -> bool:
        if not isinstance(value, bool):
            self.wrong(field, "true or false", value, "write true for a thumb up, false for a thumb down")
        return value

    def scores(self, value: Any, field: str) -> tuple[float, ...]:
        if not isinstance(value, list | tuple) or not all(_is_number(part) for part in value):
            self.wrong(field, "a list of finite numbers", value, "give one number per answer")
            return ()
        return tuple(float(part) for part in value)

    def messages(
        self, value: Any, field: str, *, starts_with: str = "user", ends_with_user: bool = False
    ) -> tuple[Message, ...]:
        if not isinstance(value, list | tuple) or not value:
            self.wrong(field, "text or a list of messages", value, 'write [{"role": "user", "content": "..."}]')
            return ()
        before = len(self.problems)
        messages = tuple(self._message(part, f"{field}[{i}]") for i, part in enumerate(value))
        if len(self.problems) == before:
            self._order(messages, field, starts_with, ends_with_user)
        return messages

    def _message(self, value: Any, field: str) -> Message:
        if not isinstance(value, Mapping):
            self.wrong(field, "a message {role, content}", value, "write every message as an object")
            return {"role": "", "content": ""}
        for key, part in value.items():
            if key not in ("role", "content") and part is not None:
                self.wrong(f"{field}.{key}", "only role and content", part, "remove the key, or write it into content")
        if value.get("role") not in ROLES:
            self.wrong(f"{field}.role", " or ".join(ROLES), value.get("role"), "rename the role")
        self.text(value.get("content"), f"{field}.content")
        return {"role": value.get("role", ""), "content": value.get("content", "")}

    def _order(self, messages: Sequence[Message], field: str, starts_with: str, ends_with_user: bool) -> None:
        roles = [message["role"] for message in messages]
        turns = roles[1:] if roles[0] == "system" and starts_with == "user" else roles
        rest = {"user": "assistant", "assistant": "user"}
        wanted, role = [], starts_with
        for _ in turns:
            wanted.append(role)
            role = rest[role]
        if turns != wanted:
            first = "an optional system message, then user" if starts_with == "user" else "assistant"
            self.wrong(field, f"{first} and {rest[starts_with]} in turn", _Words(", ".join(roles)), "reorder or merge")
        elif ends_with_user and (not turns or turns[-1] != "user"):
            self.wrong(field, "a user message at the end", _Words(", ".join(roles)), "move the answer to its column")
        elif not ends_with_user and "assistant" not in turns:
            self.wrong(field, "an assistant message", _Words(", ".join(roles)), "add the answer, or read it as prompts")

    def together(self, content: Mapping[str, Any]) -> None:
        """Check what must fit between columns."""
        if self.problems:
            return
        answers = [(k, v) for k, v in content.items() if k in ("completion", "chosen", "rejected")]
        answers += [(f"completions[{i}]", v) for i, v in enumerate(content.get("completions", ()))]
        for field, value in answers:
            if isinstance(content["prompt"], str) and not isinstance(value, str):
                self.wrong(field, "text, as the prompt is", value, "give prompt and answers in one form")
        if "scores" in content and len(content["scores"]) != len(content["completions"]):
            found = _Words(f"{len(content['scores'])} scores for {len(content['completions'])} answers")
            self.wrong("scores", "a score per answer", found, "give one number per answer")


class _Words(str):
    """A finding that is already worded."""


_CHECKS: dict[str, Callable[[_Checker, Any, str], Any]] = {
    "prompt": _Checker.prompt,
    "completion": _Checker.answer,
    "chosen": _Checker.answer,
    "rejected": _Checker.answer,
    "completions": _Checker.answers,
    "scores": _Checker.scores,
    "label": _Checker.label,
    "text": _Checker.text,
}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def named(value: Any) -> str:
    """Say what a value is, with the start of it."""
    if isinstance(value, _Words):
        return str(value)
    if value is None:
        return "nothing"
    if isinstance(value, str):
        if not value.strip():
            return "an empty text"
        return f"the text {value[:_SHOWN]!r}" + ("..." if len(value) > _SHOWN else "")
    name = {
        bool: "",
        int: "the number ",
        float: "the number ",
        list: "a list: ",
        tuple: "a list: ",
        dict: "an object: ",
    }
    shown = json.dumps(value, default=str, ensure_ascii=False)
    return name.get(type(value), "") + (shown[:_SHOWN] + "..." if len(shown) > _SHOWN else shown)
