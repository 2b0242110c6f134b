"""What CodecLM's replies say, and what follows from the scores: metadata, lists, rubrics, points, routes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from fairlead.verdicts import Reading

__all__ = [
    "Entry",
    "Route",
    "even_split",
    "gap_of",
    "normalised",
    "read_actions",
    "read_metadata",
    "read_numbered",
    "read_points",
    "route_of",
]

Route = str
"""`keep_strong`, `keep_target`, `rewrite` or `exhausted`; and `unscored`, `unimproved`."""

_USE = re.compile(r"^\s*(?:use case|task)\s*:\s*(.+?)\s*$", re.IGNORECASE | re.MULTILINE)
_SKILLS = re.compile(r"^\s*skills\s*:\s*(.+?)\s*$", re.IGNORECASE | re.MULTILINE)
_NUMBERED = re.compile(r"^[ \t]*(\d+)[.)][ \t]+", re.MULTILINE)
_ACTIONS = re.compile(r"^\W*actions?\W*$", re.IGNORECASE | re.MULTILINE)
_POINTS = re.compile(r"(?:[a-z][a-z ]*:)?\s*(\d+(?:\.\d+)?)\s*(?:,|\s)\s*(\d+(?:\.\d+)?)\s*\.?", re.IGNORECASE)


@dataclass(frozen=True)
class Entry:
    """What an instruction is for."""

    use_case: str
    """The use case."""
    skills: tuple[str, ...] = ()
    """What an answer needs."""


def read_metadata(reply: str, most: int = 3) -> Entry | None:
    """Read "Use case: ..." (or "Task: ...") and "Skills: a, b" in small letters; None where either is missing."""
    use, skills = _USE.search(reply), _SKILLS.search(reply)
    if use is None or skills is None:
        return None
    found = [" ".join(skill.split()).rstrip(".").strip().lower() for skill in skills[1].split(",")]
    kept = tuple(dict.fromkeys(skill for skill in found if skill))[:most]
    return Entry(use[1].lower(), kept) if kept else None


def read_numbered(reply: str) -> list[str]:
    """Return the items of a list whose numbers rise, each with all of its lines."""
    marks, last = [], None
    for mark in _NUMBERED.finditer(reply):
        if last is None or int(mark[1]) == last + 1:
            marks.append(mark)
            last = int(mark[1])
    ends = [*(mark.start() for mark in marks[1:]), len(reply)][: len(marks)]
    items = [reply[mark.end() : end].strip() for mark, end in zip(marks, ends, strict=True)]
    return [item for item in items if item]


def read_actions(reply: str) -> list[str]:
    """Return the actions of a reply of two lists, rubrics and actions; of a single list its second half."""
    head = _ACTIONS.search(reply)
    if head is not None:
        return read_numbered(reply[head.end() :])
    items, again = read_numbered(reply), [mark for mark in _NUMBERED.finditer(reply) if mark[1] == "1"]
    if len(again) > 1:
        return read_numbered(reply[again[1].start() :])
    return items[len(items) // 2 :] if len(items) % 2 == 0 else []


def read_points(reply: str, scale: tuple[float, float] = (1, 10)) -> Reading:
    """Read two numbers on the first line that is not blank; a label before and "/10" behind them are no matter."""
    line = next((line for line in reply.splitlines() if line.strip()), "")
    if not line:
        return Reading(problem="empty")
    found = _POINTS.fullmatch(re.sub(rf"\s*/\s*{scale[1]:g}\b", "", line).strip())
    if found is None:
        return Reading(problem="no verdict")
    points = (float(found[1]), float(found[2]))
    if not all(scale[0] <= one <= scale[1] for one in points):
        return Reading(problem="off the scale")
    return Reading(points)


def gap_of(first: Sequence[float], second: Sequence[float]) -> tuple[float, float, float]:
    """Return the strong answer's score, the target's, and their gap.

    Args:
        first: points of the call that shows the strong answer first.
        second: points of the call that shows the target's answer first.
    """
    strong, target = (first[0] + second[1]) / 2, (first[1] + second[0]) / 2
    return strong, target, strong - target


def route_of(gap: float, theta: float, iteration: int, most: int) -> Route:
    """Say what becomes of an instruction: only a gap beyond theta, in either direction, lets it into the pool."""
    if abs(gap) > theta:
        return "keep_strong" if gap >= 0 else "keep_target"
    return "rewrite" if iteration < most else "exhausted"


def even_split(total: int, parts: int) -> list[int]:
    """Divide a number as evenly as can be, the larger parts first."""
    return [total // parts + (i < total % parts) for i in range(parts)]


def normalised(text: str) -> str:
    """Return a text in small letters with single spaces, by which equal instructions are told."""
    return " ".join(text.lower().split())
