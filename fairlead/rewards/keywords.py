"""Whether a text has the words that it must have, in any of their forms."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from fairlead.errors import UsageError
from fairlead.messages import Prompt, last_question
from fairlead.rewards.base import Rewards, check_lengths
from fairlead.rewards.inflections import bases, words_of

__all__ = ["KeywordReward"]

_PARTS = re.compile(r"\s*[,;]\s*(?:and\s+)?|\s+and\s+")
_UNSETTLED = re.compile(r"[^\W_]+$")


@dataclass(frozen=True)
class KeywordReward:
    """The share of wanted words that a completion has, from 0 to 1 (coverage as in CommonGen, Lin et al. 2020).

    Words match whole, without regard to capitals: "cat" is not in "category". Abstains where no word is wanted.
    """

    words: tuple[str, ...] = ()
    """Words or phrases wanted of every completion."""
    find: str | None = None
    """A regular expression whose first group, found in the prompt's last question, lists further words: parted by
    commas, semicolons or "and"."""
    hard: bool = False
    """Whether only all of them count: 1 or 0."""
    inflections: bool = True
    """Whether other forms of an English noun or verb will do ("threw" for "throw")."""

    adjustable: ClassVar[tuple[str, ...]] = ("words", "hard", "inflections")

    def __post_init__(self) -> None:
        if not self.words and self.find is None:
            raise UsageError("keywords wants no words", fix="give words, or find to read them from the prompt")
        for word in self.words:
            if not words_of(word):
                raise UsageError(f"keywords.words has {word!r}, which holds no word", fix="leave it out")
        try:
            groups = re.compile(self.find or "()").groups
        except re.error as error:
            raise UsageError(f"keywords.find: {error}", fix="give a regular expression") from error
        if not groups:
            raise UsageError("keywords.find has no group", fix=r"put the list in parentheses: 'the words ([\w, ]+)'")

    def __call__(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> Rewards:
        """Value completion i as an answer to prompt i; returns N shares.

        Raises:
            UsageError: not one prompt per completion.
        """
        check_lengths(prompts, completions)
        values = np.array([self._value(prompt, words_of(text)) for prompt, text in zip(prompts, completions)])
        return Rewards(values, np.isnan(values))

    def bounds(self, prompts: Sequence[Prompt], beginnings: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the least and greatest values: a word that is there stays, and all others can still come."""
        settled = [words_of(_UNSETTLED.sub("", text)) for text in beginnings]
        low = np.array([self._value(prompt, words) for prompt, words in zip(prompts, settled)])
        return low, np.where(np.isnan(low), np.nan, 1.0)

    def wanted(self, prompt: Prompt) -> tuple[str, ...]:
        """Return the words and phrases wanted of an answer to a prompt."""
        found = re.search(self.find, last_question(prompt)) if self.find else None
        listed = _PARTS.split(found[1]) if found and found[1] else []
        return (*self.words, *(word for word in listed if words_of(word)))

    def _value(self, prompt: Prompt, said: Sequence[str]) -> float:
        wanted = self.wanted(prompt)
        if not wanted:
            return float("nan")
        read = [bases(word) if self.inflections else frozenset((word,)) for word in said]
        every = frozenset().union(*read)
        met = sum(_has(read, every, phrase) for phrase in (_phrase(text, self.inflections) for text in wanted))
        return float(met == len(wanted)) if self.hard else met / len(wanted)


@lru_cache(maxsize=4096)
def _phrase(text: str, inflections: bool) -> tuple[frozenset[str], ...]:
    return tuple(bases(word) if inflections else frozenset((word,)) for word in words_of(text))


def _has(read: Sequence[frozenset[str]], every: frozenset[str], phrase: tuple[frozenset[str], ...]) -> bool:
    """Tell whether the words of a phrase stand one after the other; `every` holds all forms read."""
    if any(every.isdisjoint(word) for word in phrase):
        return False
    starts = range(len(read) - len(phrase) + 1)
    return any(all(not a.isdisjoint(b) for a, b in zip(read[k:], phrase)) for k in starts)
