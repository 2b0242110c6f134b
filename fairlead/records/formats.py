"""Rows of other people's shapes to Fairlead's columns; each is asked for by name, never guessed.

hh        `chosen` and `rejected` are whole dialogues, "\\n\\nHuman: ...\\n\\nAssistant: ...". The prompt is what both
          begin with, up to the last human turn that they share; if they part earlier than at the last answer, what
          follows stays in full, as messages. Two paragraphs in a row of one speaker are one turn, joined by a blank
          line, and the column `joined_turns` says how many were.
alpaca    `instruction`, `input` (may be missing or empty), `output`: the user's message is the instruction, a blank
          line and the input. Without `output`, rows are prompts.
sharegpt  `conversations`: a list of {from, value}; from is human, user, gpt, chatgpt, assistant or system.
bbq       `context`, `question`, `ans0` to `ans2` and `label`, as in BBQ: prompts of scene and question, with
          the columns `options` and `answer` (the number of the right one); other columns stay.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from fairlead.messages import Message
from fairlead.records.check import Problem, named

__all__ = ["FORMATS"]

_MARK = re.compile(r"\n\n(Human|Assistant):")
_HH_ROLES = {"Human": "user", "Assistant": "assistant"}
_SHAREGPT_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
}

Row = dict[str, Any]


def _hh(row: Row, place: str) -> Row | list[Problem]:
    problems = [
        Problem(place, name, 'a dialogue that begins with "\\n\\nHuman:"', named(row.get(name)), "check the format")
        for name in ("chosen", "rejected")
        if not isinstance(row.get(name), str) or not row[name].startswith("\n\nHuman:")
    ]
    if problems:
        return problems
    chosen, joined = _dialogue(row["chosen"])
    rejected, joined_too = _dialogue(row["rejected"])
    shared = 0
    while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
        shared += 1
    while shared and chosen[shared - 1]["role"] != "user":
        shared -= 1
    if not shared:
        fix = "leave the row out, or give prompt, chosen and rejected as columns"
        return [Problem(place, "rejected", "the first human turn of `chosen`", named(row["rejected"]), fix)]
    row |= {"prompt": chosen[:shared], "chosen": chosen[shared:], "rejected": rejected[shared:]}
    return row | ({"joined_turns": joined + joined_too} if joined + joined_too else {})


def _dialogue(text: str) -> tuple[list[Message], int]:
    """Return the turns of a dialogue, and how many paragraphs were joined to a turn of the same speaker."""
    _, *parts = _MARK.split(text)
    turns: list[Message] = []
    joined = 0
    for speaker, said in zip(parts[::2], parts[1::2]):
        role, content = _HH_ROLES[speaker], said.strip()
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += f"\n\n{content}"
            joined += 1
        else:
            turns.append({"role": role, "content": content})
    return turns, joined


def _alpaca(row: Row, place: str) -> Row | list[Problem]:
    if not isinstance(row.get("instruction"), str):
        return [Problem(place, "instruction", "text", named(row.get("instruction")), "check the format")]
    given = row.pop("input", None) or ""
    if not isinstance(given, str):
        return [Problem(place, "input", "text", named(given), "write it as a text")]
    question = row.pop("instruction")
    row["prompt"] = [{"role": "user", "content": f"{question}\n\n{given}" if given.strip() else question}]
    answer = row.pop("output", None)
    if answer is not None:
        row["completion"] = [{"role": "assistant", "content": answer}]
    return row


def _sharegpt(row: Row, place: str) -> Row | list[Problem]:
    turns = row.pop("conversations", None)
    if not isinstance(turns, list) or not all(isinstance(turn, Mapping) for turn in turns):
        return [Problem(place, "conversations", "a list of {from, value}", named(turns), "check the format")]
    unknown = [
        Problem(place, f"conversations[{i}].from", " or ".join(_SHAREGPT_ROLES), named(turn.get("from")), "rename it")
        for i, turn in enumerate(turns)
        if turn.get("from") not in _SHAREGPT_ROLES
    ]
    row["messages"] = [{"role": _SHAREGPT_ROLES.get(t.get("from", ""), ""), "content": t.get("value")} for t in turns]
    return unknown or row


def _bbq(row: Row, place: str) -> Row | list[Problem]:
    answers = ("ans0", "ans1", "ans2")
    problems = [
        Problem(place, name, "text", named(row.get(name)), "check the format")
        for name in ("context", "question", *answers)
        if not isinstance(row.get(name), str) or not row[name].strip()
    ]
    label = row.get("label")
    if isinstance(label, bool) or not isinstance(label, int) or label not in range(len(answers)):
        problems.append(Problem(place, "label", "0, 1 or 2", named(label), "give the number of the right answer"))
    if problems:
        return problems
    scene = f"{row.pop('context')} {row.pop('question')}"
    row |= {"options": [row.pop(name) for name in answers], "answer": row.pop("label")}
    if "id" not in row and {"category", "example_id"} <= set(row):
        # Example ids begin anew in every category's file.
        row["id"] = f"{row['category']}-{row['example_id']}"
    return row | {"prompt": [{"role": "user", "content": scene}]}


FORMATS: dict[str, Callable[[Row, str], Row | list[Problem]]] = {
    "hh": _hh,
    "alpaca": _alpaca,
    "sharegpt": _sharegpt,
    "bbq": _bbq,
}
"""name -> (row, its place) to a row with Fairlead's columns, or what is wrong with it."""
