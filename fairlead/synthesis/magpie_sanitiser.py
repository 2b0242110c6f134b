"""What models write around an instruction and do not mean: numbers, labels, the answer behind the question.

    sanitised("**Question 3:** Why is the sea salty?\nAnswer: ...", "llama-3")      # ("Why is the sea salty?", 4.0)

Gemma 2 and Llama 3.x write such things; the rules are those of Magpie's own code (arXiv 2406.08464), the first one that
applies decides. Its "Answer:" never fires there, for want of a second colon; here one colon is enough.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal, TypeAlias

__all__ = ["Family", "sanitised"]

Family: TypeAlias = Literal["llama-3", "gemma-2"]
"""Whose habits the rules know."""

_NOUNS = (
    r"(?:(?:Task|Prompt|Question|Problem|Scenario|Situation|Context|Challenge|Query|Request|Instructions?|Descriptions?)"
    r"(?:\s+\d+)?|Q\d+|Part\s+\d+)"
)
_ENUMERATION = re.compile(r"^\s*(?:\d{1,3}|[A-Za-z])[.)]\s+")
_LABEL = re.compile(
    rf"^\s*(?:#{{1,6}}\s*(?:\*\*)?{_NOUNS}\s*(?:[:.]?\s*\*\*\s*:?|:|\.?\s*(?:\n|$))"
    rf"|\*\*\s*{_NOUNS}\s*[:.]?\s*\*\*\s*:?"
    rf"|{_NOUNS}\s*:|Q\d+\.)\s*"
)
_ANSWER = re.compile(
    r"(?:#{1,6}\s*)?(?:\*\*)?\s*(?:Answer|Solution|Explanation|Response|Correct answer|Sample answer|The answer is"
    r"|The correct answer is|The solution is)\s*(?:\*\*)?\s*:"
)
_STEP = re.compile(r"#{1,3}\s*Step 1\b")

_Rule: TypeAlias = Callable[[str], tuple[str, str] | None]
"""What becomes of a text and the number of the case, or None where the rule does not apply."""


def sanitised(text: str, family: Family, *, first_line: bool = False) -> tuple[str, float]:
    """Return an instruction without what stands around it, and the number of the rule that decided.

    Args:
        text: as the model wrote it.
        family: whose habits.
        first_line: whether a text without a question is cut to its first line by the last rule (99.2, or 6.2 for Gemma
            2), which cuts tasks of several lines; without, it stays whole and has the number 0.
    """
    text = _LABEL.sub("", _ENUMERATION.sub("", text.strip(), count=1), count=1).strip()
    found = _starred(text)
    if found is None:
        text = _LABEL.sub("", text, count=1).strip()
        found = next(made for rule in _rules(family, first_line) if (made := rule(text)) is not None)
    kept, number = found
    return _LABEL.sub("", kept.strip(), count=1).strip(), float(number)


def _rules(family: Family, first_line: bool) -> list[_Rule]:
    """Return the rules behind the first; their numbers are the family's."""
    heading, other = ("6", "99") if family == "llama-3" else ("5", "6")
    steps: list[_Rule] = [lambda text: _before(_STEP, text, "5")] if family == "llama-3" else []
    return [
        _quoted,
        lambda text: (text.replace("*", ""), "3") if text.startswith("<b>") else None,
        lambda text: _before(_ANSWER, text, "4"),
        *steps,
        lambda text: _headed(text, heading),
        lambda text: _rest(text, other, first_line),
    ]


def _starred(text: str) -> tuple[str, str] | None:
    if not (text.startswith("*") and "?" in text):
        return None
    return _to_question(text).replace("*", ""), "1"


def _quoted(text: str) -> tuple[str, str] | None:
    if not text.startswith('"'):
        return None
    cut, number = (_to_question(text), "2.1") if "?" in text else (_line(text), "2.2")
    return cut.replace('"', ""), number


def _before(pattern: re.Pattern[str], text: str, number: str) -> tuple[str, str] | None:
    found = pattern.search(text)
    return None if found is None else (text[: found.start()], number)


def _headed(text: str, number: str) -> tuple[str, str] | None:
    if not _line(text).rstrip().endswith(":"):
        return None
    if "#" in text:
        return text[: text.index("#")], f"{number}.1"
    return (_to_question(text), f"{number}.2") if "?" in text else (_line(text), f"{number}.3")


def _rest(text: str, number: str, first_line: bool) -> tuple[str, str]:
    if "?" in text:
        return _to_question(text), f"{number}.1"
    return (_line(text), f"{number}.2") if first_line else (text, "0")


def _to_question(text: str) -> str:
    return text[: text.index("?") + 1]


def _line(text: str) -> str:
    return text.partition("\n")[0]
