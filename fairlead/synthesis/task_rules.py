"""Tasks that a model wrote for itself: read from its list, and rules for which of them and of their answers to use."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["INSTRUCTION_RULES", "OUTPUT_RULES", "Task", "first_broken", "read_score", "read_tasks"]

_NO_INPUT = "<noinput>"
_UNDOABLE = ("image", "graph", "picture", "file", "map", "draw", "plot", "go to", "video", "audio", "music",
             "flowchart", "diagram")  # fmt: skip
_CANNOT = re.compile(rf"\b(?:{'|'.join(_UNDOABLE)})s?\b", re.IGNORECASE)
_LABELS = re.compile(r"\b(?:instruction|input|output):", re.IGNORECASE)
_LINK = re.compile(r"https?://|\bwww\.", re.IGNORECASE)
_NOTHING = re.compile(r"no\s?input|<[^<>\n]{1,20}>|\bnone\b", re.IGNORECASE)
_SPEAKER = re.compile(r"^\s*(?:assistant|system|human|question|output|user)\s*(?::|$)", re.IGNORECASE | re.MULTILINE)
_ASKS = re.compile(r"answer choices:|noinput|\n\s*can you\b|\bdo you [^.\n]*\?|\?\s*(?:\n|$)", re.IGNORECASE)
_OPTION = re.compile(r"^\s*\(?[A-Ha-h][.)]\s", re.MULTILINE)
_CHINESE = re.compile(r"[\u3400-\u9fff]")
_SCORE = re.compile(r"\W*(\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class Task:
    """An instruction and its answer."""

    instruction: str
    """What is to be done."""
    input: str = ""
    """What it is to be done with; empty for nothing."""
    output: str = ""
    """The answer."""


def read_tasks(continuation: str, begun: int) -> list[Task]:
    """Return the tasks of a list whose item `begun` was opened ("6. Instruction:") and continued by a model.

    Items lie between "###"; the last piece, which nothing closes, is left out, and so is one that has not exactly its
    own instruction and input. Numbers count on over pieces that are left out.
    """
    pieces = f"{begun}. Instruction:{continuation}".split("###")[:-1]
    found = []
    for number, piece in enumerate(pieces, begun):
        parts = re.split(rf"(?:^|\s){number}\.\s+(Instruction|Input):", piece)
        if len(parts) == 5 and parts[1::2] == ["Instruction", "Input"]:
            instruction, given = parts[2].strip(), parts[4].strip()
            found.append(Task(instruction, "" if given.lower() == _NO_INPUT else given))
    return found


def read_score(reply: str) -> int | None:
    """Return the score from 1 to 10 with which a reply begins, rounded half to even; None where there is none.

    White space and marks before the number do not count (a minus is one of them); words do.
    """
    found = _SCORE.match(reply)
    score = round(float(found[1])) if found else 0
    return score if 1 <= score <= 10 else None


def _words(task: Task) -> bool:
    return not 3 < len(task.instruction.split()) <= 150


def _begins_badly(task: Task) -> bool:
    first = task.instruction[:1]
    return not (first.isascii() and first.isalnum())


def _repeats_input(task: Task) -> bool:
    return bool(task.input.strip()) and task.input.strip() in task.instruction


INSTRUCTION_RULES: dict[str, Callable[[Task], bool]] = {
    "length": _words,
    "undoable": lambda task: bool(_CANNOT.search(f"{task.instruction}\n{task.input}")),
    "beginning": _begins_badly,
    "labels": lambda task: bool(_LABELS.search(f"{task.instruction}\n{task.input}")),
    "link": lambda task: bool(_LINK.search(f"{task.instruction}\n{task.input}")),
    "no_input": lambda task: bool(_NOTHING.search(f"{task.instruction}\n{task.input}")),
    "repeated_input": _repeats_input,
}
"""Name -> whether an instruction is of no use: at most 3 or more than 150 words; asks for what text cannot do; begins
with a mark or a letter that is not ASCII; has labels or links left in it; says that there is no input; repeats it."""

OUTPUT_RULES: dict[str, Callable[[Task], bool]] = {
    "empty": lambda task: not task.output.strip(),
    "speaker": lambda task: bool(_SPEAKER.search(task.output)),
    "asks_back": lambda task: bool(_ASKS.search(task.output)),
    "options": lambda task: bool(_OPTION.search(task.output)),
    "chinese": lambda task: bool(_CHINESE.search(task.output)),
}
"""Name -> whether an answer is of no use: empty; goes on with somebody's turn; asks back or sets an exercise; lists
lettered options; has Chinese characters."""


def first_broken(task: Task, rules: dict[str, Callable[[Task], bool]], names: Sequence[str]) -> str | None:
    """Return the first of the named rules that a task breaks; None where it keeps them all."""
    return next((name for name in rules if name in names and rules[name](task)), None)
