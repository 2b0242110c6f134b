"""Constraints on the shape of a whole answer, and on its language: those that only IFEval's own prompts ask for.

Source: Zhou et al. 2023, "Instruction-Following Evaluation for Large Language Models" (arXiv 2311.07911).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from fairlead.errors import MissingExtraError, UnknownNameError, UsageError

__all__ = ["Answers", "FirstWord", "Language", "OneOf", "Postscript", "Sections"]

_LETTERS = re.compile(r"[^\W\d_]+")
_EDGES = re.compile(r"^\W+|\W+$")


@dataclass(frozen=True)
class Language:
    """The answer is in a language, as a detector by character trigrams sees it; of no letters there is none."""

    code: str
    """ISO 639-1 code, such as `en`; Chinese is `zh-cn` or `zh-tw`."""

    def __post_init__(self) -> None:
        known = _detector().get_lang_list()
        if self.code not in known:
            raise UnknownNameError("language", self.code, sorted(known), place="language.code")

    def __call__(self, answer: str) -> bool:
        """Detect it."""
        if not _LETTERS.search(answer):
            return False
        detector = _detector().create()
        detector.seed = 0
        detector.append(answer)
        return detector.detect() == self.code


@dataclass(frozen=True)
class FirstWord:
    """A paragraph begins with a word, in any case of letters, and there are so many paragraphs, between blank lines."""

    word: str
    """The word."""
    paragraph: int = 1
    """Which paragraph, from 1."""
    paragraphs: int | None = None
    """How many there are in all; None for any number."""

    def __post_init__(self) -> None:
        if not self.word.strip():
            raise UsageError("there is no word", place="first_word.word", fix="give one")
        if not 1 <= self.paragraph <= (self.paragraphs or self.paragraph):
            what = f"paragraph {self.paragraph} of {self.paragraphs}"
            raise UsageError(what, place="first_word.paragraph", fix="count from 1 to all of them")

    def __call__(self, answer: str) -> bool:
        """Look at the paragraph; punctuation around its first word does not matter."""
        parts = [part.split() for part in re.split(r"\n\s*\n", answer) if part.strip()]
        if len(parts) < self.paragraph or self.paragraphs not in (None, len(parts)):
            return False
        return _bare(parts[self.paragraph - 1][0]) == _bare(self.word)


@dataclass(frozen=True)
class Postscript:
    """A line begins with the mark of a postscript and text follows; capitals and blanks in the mark do not matter."""

    mark: str = "P.S."
    """The mark, such as `P.S.` or `P.P.S`."""

    def __post_init__(self) -> None:
        if not self.mark.strip():
            raise UsageError("there is no mark", place="postscript.mark", fix='e.g. "P.S."')

    def __call__(self, answer: str) -> bool:
        """Search for it."""
        mark = r"\s?".join(re.escape(sign) for sign in "".join(self.mark.split()))
        return re.search(rf"^\s*{mark}(?!\w)\W*\w", answer, re.IGNORECASE | re.MULTILINE) is not None


@dataclass(frozen=True)
class OneOf:
    """One of some sentences is there, word for word."""

    texts: tuple[str, ...]
    """The sentences."""

    def __post_init__(self) -> None:
        if not self.texts or not all(self.texts):
            raise UsageError("nothing is given to choose from", place="one_of.texts", fix="give at least one text")

    def __call__(self, answer: str) -> bool:
        """Search for each."""
        return any(text in answer for text in self.texts)


@dataclass(frozen=True)
class Sections:
    """There are so many sections, each opened by a word and a number: `Section 1`."""

    word: str = "Section"
    """The word."""
    at_least: int = 1
    """Least number of them."""

    def __post_init__(self) -> None:
        if not self.word.strip() or self.at_least < 1:
            raise UsageError("sections have a word, and are 1 or more", place="sections", fix="give both")

    def __call__(self, answer: str) -> bool:
        """Count them."""
        return len(re.findall(rf"{re.escape(self.word.strip())}\s?\d+", answer)) >= self.at_least


@dataclass(frozen=True)
class Answers:
    """There are so many answers, no two alike, with a line of signs between them and nowhere else."""

    count: int = 2
    """How many."""
    separator: str = "******"
    """What stands between them."""

    def __post_init__(self) -> None:
        if self.count < 2 or not self.separator.strip():
            raise UsageError("there is nothing to tell apart", place="answers", fix="use count >= 2 and a separator")

    def __call__(self, answer: str) -> bool:
        """Split them; a separator before the first or behind the last does not matter."""
        parts = [part.strip() for part in answer.split(self.separator)]
        parts = parts[not parts[0] : len(parts) - (len(parts) > 1 and not parts[-1])]
        return len(parts) == self.count == len(set(parts)) and all(parts)


def _bare(word: str) -> str:
    return _EDGES.sub("", word).casefold()


@cache
def _detector() -> Any:
    try:
        from langdetect import detector_factory
    except ImportError as error:
        raise MissingExtraError("langdetect", "languages", "telling the language of an answer") from error
    detector_factory.init_factory()
    return detector_factory._factory
