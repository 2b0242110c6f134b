"""Whether a text keeps to a length in words, sentences or characters."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from fairlead.errors import UsageError
from fairlead.messages import Prompt, last_question
from fairlead.rewards.base import Rewards, check_lengths

__all__ = ["LengthLimit", "length_of"]

_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
_SENTENCES = re.compile(r"(?<=[.!?\u2026])\s+")
_UNSETTLED = re.compile(r"[^\W_]+$")


@dataclass(frozen=True)
class LengthLimit:
    """1 for a text within its limits, falling evenly to 0 at twice the upper one and at no length; hard, 1 or 0.

    "don't" and "well-known" are one word each. A sentence ends with . ! ? or an ellipsis before white space or the end;
    what is left behind the last one counts as a sentence too.
    """

    at_most: int | None = None
    """Most units; None for no limit, or the one in the prompt."""
    at_least: int = 0
    """Least units."""
    find: str | None = None
    """A regular expression whose first group, found in the prompt's last question, is the most units. Abstains where it
    is not found and `at_most` is None."""
    unit: Literal["words", "sentences", "characters"] = "words"
    """What is counted."""
    hard: bool = False
    """Whether a text beyond a limit counts nothing at all, however near."""

    adjustable: ClassVar[tuple[str, ...]] = ("at_most", "at_least", "unit", "hard")

    def __post_init__(self) -> None:
        if self.at_most is None and not self.at_least and self.find is None:
            raise UsageError("length_limit has no limit", fix="give at_most, at_least or find")
        if self.at_least < 0 or (self.at_most is not None and self.at_most < max(1, self.at_least)):
            what = f"length_limit: at least {self.at_least} and at most {self.at_most} leave nothing"
            raise UsageError(what, fix="use at_most >= at_least, and at_most >= 1")
        try:
            groups = re.compile(self.find or "()").groups
        except re.error as error:
            raise UsageError(f"length_limit.find: {error}", fix="give a regular expression") from error
        if not groups:
            raise UsageError("length_limit.find has no group", fix=r"put the number in parentheses: 'at most (\d+)'")

    def __call__(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> Rewards:
        """Value completion i as an answer to prompt i; returns N values from 0 to 1.

        Raises:
            UsageError: not one prompt per completion, or a prompt in which `find` finds no positive number.
        """
        check_lengths(prompts, completions)
        count = _COUNTS[self.unit][0]
        values = np.array([self._value(prompt, count(text)) for prompt, text in zip(prompts, completions)])
        return Rewards(values, np.isnan(values))

    def bounds(self, prompts: Sequence[Prompt], beginnings: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the least and greatest values: a text only gets longer, and can get too long."""
        settled = _COUNTS[self.unit][1]
        counts = [settled(text) for text in beginnings]
        high = np.array([self._best(prompt, count) for prompt, count in zip(prompts, counts)])
        if self.find is None and self.at_most is None:  # then longer is never worse
            return np.array([self._value(prompt, count) for prompt, count in zip(prompts, counts)]), high
        return np.where(np.isnan(high), np.nan, 0.0), high

    def _best(self, prompt: Prompt, count: int) -> float:
        """Return the best value of `count` units or more: the value bends at the limits alone."""
        bends = (count, self.at_least, self._most(prompt) or 0)
        return max(self._value(prompt, max(count, bend)) for bend in bends)

    def _value(self, prompt: Prompt, count: int) -> float:
        most = self._most(prompt)
        if most is None and not self.at_least:
            return float("nan")
        over = 0.0 if most is None else max(0, count - most) / most
        under = max(0, self.at_least - count) / max(1, self.at_least)
        return float(over + under == 0) if self.hard else max(0.0, 1.0 - over - under)

    def _most(self, prompt: Prompt) -> int | None:
        found = re.search(self.find, last_question(prompt)) if self.find else None
        if found is None:
            return self.at_most
        if not found[1].isdecimal() or int(found[1]) < 1:
            raise UsageError(f"length_limit.find finds {found[1]!r}", fix="let its first group be a positive number")
        return int(found[1])


def length_of(text: str, unit: str = "words") -> int:
    """Count the words, sentences or characters of a text as `LengthLimit` does."""
    return _COUNTS[unit][0](text)


def _words(text: str) -> int:
    return len(_WORD.findall(text))


def _sentences(text: str) -> int:
    return sum(bool(piece.strip()) for piece in _SENTENCES.split(text))


def _whole_sentences(text: str) -> int:
    return len(_SENTENCES.findall(text.lstrip()))


_COUNTS: dict[str, tuple[Callable[[str], int], Callable[[str], int]]] = {
    "words": (_words, lambda text: _words(_UNSETTLED.sub("", text))),
    "sentences": (_sentences, _whole_sentences),
    "characters": (len, len),
}
"""unit -> how many a text has, and how many it keeps however it goes on."""
