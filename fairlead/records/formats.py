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
arena     two answers and people's verdict, as rankings of two: `winner` is model_a, model_b, "tie" or "tie (bothbad)",
          and gives the scores 1 and 0, 0 and 1, or .5 each; it stays as a column. The answers are `response_a` and
          `response_b` to a `prompt`, or what follows the turns that `conversation_a` and `conversation_b` share.
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
    shared = _shared(chosen, rejected)
    if not shared:
        fix = "leave the row out, or give prompt, chosen and rejected as columns"
        return [Problem(place, "rejected", "the first human turn of `chosen`", named(row["rejected"]), fix)]
    row |= {"prompt": chosen[:shared], "chosen": chosen[shared:], "rejected": rejected[shared:]}
    return row | ({"joined_turns": joined + joined_too} if joined + joined_too else {})


def _shared(one: list[Message], other: list[Message]) -> int:
    """Return how many turns two dialogues share, up to a user's, the last turn of either left out."""
    shared = 0
    while shared < min(len(one), len(other)) - 1 and one[shared] == other[shared]:
        shared += 1
    while shared and one[shared - 1]["role"] != "user":
        shared -= 1
    return shared


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


_VERDICTS = {"model_a": [1.0, 0.0], "model_b": [0.0, 1.0], "tie": [0.5, 0.5], "tie (bothbad)": [0.5, 0.5]}


def _arena(row: Row, place: str) -> Row | list[Problem]:
    scores = _VERDICTS.get(row["winner"]) if isinstance(row.get("winner"), str) else None
    if scores is None:
        return [Problem(place, "winner", " or ".join(_VERDICTS), named(row.get("winner")), "check the format")]
    if "id" not in row and "question_id" in row:
        row["id"] = str(row.pop("question_id"))
    if "conversation_a" not in row:
        answers = [row.pop(name, None) for name in ("response_a", "response_b")]
        problems = [
            Problem(place, f"response_{side}", "text", named(text), "check the format")
            for side, text in zip("ab", answers)
            if not isinstance(text, str)
        ]
        if not isinstance(row.get("prompt"), str):
            return problems or row | {"completions": answers, "scores": scores}
        asked = [{"role": "user", "content": row["prompt"]}]
        turns = [[{"role": "assistant", "content": text}] for text in answers]
        return problems or row | {"prompt": asked, "completions": turns, "scores": scores}
    told = {name: row.pop(name, None) for name in ("conversation_a", "conversation_b")}
    for name, turns in told.items():
        if not isinstance(turns, list) or not all(isinstance(turn, Mapping) and "role" in turn for turn in turns):
            return [Problem(place, name, "a list of {role, content}", named(turns), "check the format")]
    one, other = ([Message(role=t["role"], content=t.get("content")) for t in turns] for turns in told.values())
    shared = _shared(one, other)
    if not shared:
        fix = "leave the row out: the two answer different prompts"
        return [Problem(place, "conversation_b", "the first user turn of conversation_a", named(other), fix)]
    return row | {"prompt": one[:shared], "completions": [one[shared:], other[shared:]], "scores": scores}


FORMATS: dict[str, Callable[[Row, str], Row | list[Problem]]] = {
    "hh": _hh,
    "alpaca": _alpaca,
    "sharegpt": _sharegpt,
    "bbq": _bbq,
    "arena": _arena,
}
"""name -> (row, its place) to a row with Fairlead's columns, or what is wrong with it."""
