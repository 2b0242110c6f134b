"""Ranked answers that a judge is shown before it ranks others: some always, some from the round before."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from fairlead.errors import DataError
from fairlead.messages import Prompt
from fairlead.synthesis.orders import Order, order_of

__all__ = ["Demonstration", "Pool", "clipped", "plain_answer", "read_demonstrations", "shipped"]

_MARK = " [...]"
_END = re.compile(r"[.!?](?=\s)|\n")


@dataclass(frozen=True)
class Demonstration:
    """A request with answers in a known order."""

    id: str
    """What it is called."""
    prompt: Prompt
    """The request."""
    answers: tuple[str, ...]
    """The answers."""
    order: Order
    """Their order, the best first."""

    @property
    def size(self) -> int:
        """Characters of its texts."""
        asked = self.prompt if isinstance(self.prompt, str) else "".join(turn["content"] for turn in self.prompt)
        return len(asked) + sum(map(len, self.answers))


@dataclass
class Pool:
    """Demonstrations that are always shown, and the most recent of those that come and go."""

    most: int
    """How many of the latter are kept; the oldest one goes first."""
    static: tuple[Demonstration, ...] = ()
    """Those always shown."""
    dynamic: deque[Demonstration] = field(default_factory=deque)
    """The others, the oldest first."""

    def push(self, one: Demonstration) -> None:
        """Take one in; where there are too many the oldest goes."""
        self.dynamic.append(one)
        while len(self.dynamic) > self.most:
            self.dynamic.popleft()

    def shown(self, characters: int) -> list[Demonstration]:
        """Return the static ones, then the most recent others in their order that fit into `characters` with them."""
        room = characters - sum(one.size for one in self.static)
        fitting: list[Demonstration] = []
        for one in reversed(self.dynamic):
            room -= one.size
            if room < 0:
                break
            fitting.append(one)
        return [*self.static, *fitting[::-1]]


def shipped() -> str:
    """Return the path of the demonstrations that come with the package: one request to refuse, one to answer."""
    return str(resources.files("fairlead.prompts").joinpath("cyclealign", "demonstrations.jsonl"))


def read_demonstrations(source: str, axis: str | None, least: int = 2) -> Iterable[Demonstration]:
    """Yield the demonstrations that ranking records hold, in their order.

    Where a record has the column `agreement`, a list of the numbers of answers, these alone are shown, the best first;
    records with fewer than `least` of them are passed over. Answers of a record without it are ordered by `scores`.

    Args:
        source: what `fairlead.records.read` takes.
        axis: what the column `axis` must say, where a record has it; None asks for nothing.
        least: answers that a demonstration needs.

    Raises:
        DataError: a record that was ranked for another axis, or whose `agreement` names no answers.
    """
    from fairlead import records

    for record in records.read(source, kind="ranking"):
        place = f"{source}, record {record.id}"
        found: Any = record
        own = found.extra.get("axis", axis)
        if axis is not None and own != axis:
            fix = "show a judge only what was ranked for the same axis"
            raise DataError(f"was ranked for {own!r}, not for {axis!r}", place=place, fix=fix)
        answers = [plain_answer(answer, place) for answer in found.completions]
        agreed = found.extra.get("agreement")
        if agreed is None:
            agreed, order = list(range(len(answers))), order_of(found.scores)
        elif isinstance(agreed, list) and all(isinstance(i, int) and 0 <= i < len(answers) for i in agreed):
            order = [[place] for place in range(len(agreed))]
        else:
            fix = "list the numbers of answers from 0, the best first"
            raise DataError(f"agreement is {agreed!r}", place=place, fix=fix)
        if len(agreed) >= least:
            yield Demonstration(record.id, found.prompt, tuple(answers[i] for i in agreed), order)


def plain_answer(answer: Any, place: str) -> str:
    """Return the text of an answer of one turn.

    Raises:
        DataError: several turns.
    """
    if isinstance(answer, str):
        return answer
    if [turn["role"] for turn in answer] == ["assistant"]:
        return answer[0]["content"]
    raise DataError("an answer is several turns", place=place, fix="give each answer as one turn")


def clipped(text: str, most: int) -> str:
    """Return at most `most` characters of a text, to the end of a sentence or else of a word, and a mark."""
    if len(text) <= most:
        return text
    kept = text[: most + 1]
    ends = [match.end() for match in _END.finditer(kept) if match.end() <= most]
    cut = kept[: ends[-1]] if ends else kept[:most].rpartition(" ")[0] or kept[:most]
    return cut.rstrip() + _MARK
