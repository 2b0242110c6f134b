"""Constraints on an answer that a program can check, after IFEval (Zhou et al. 2023, arXiv 2311.07911).

A constraint is a frozen dataclass that is called with an answer; in data it is a mapping of `check` and its fields:
`{check: words, at_most: 50}`. Those here need not know the language of the answer; see `fairlead.evaluation.forms`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from fairlead import fields
from fairlead.errors import DataError, UnknownNameError, UsageError
from fairlead.evaluation.forms import Answers, FirstWord, Language, OneOf, Postscript, Sections
from fairlead.rewards.length_limit import length_of

__all__ = [
    "CHECKS",
    "Bullets",
    "CapitalWords",
    "Case",
    "Characters",
    "Constraint",
    "Ends",
    "Forbidden",
    "Frequency",
    "Highlights",
    "Json",
    "Keywords",
    "Letter",
    "Paragraphs",
    "Placeholders",
    "Quoted",
    "Sentences",
    "Starts",
    "Title",
    "Without",
    "Words",
    "follows",
    "follows_loosely",
    "parse",
]

_WORD = re.compile(r"[^\W_]+")
_BULLET = re.compile(r"^[ \t]*(?:\*(?!\*)|-(?!-))[ \t]*\S", re.MULTILINE)
_HIGHLIGHT = re.compile(r"(?<!\*)(\*{1,2})(?![\s*])[^\n*]*(?<!\s)\1(?!\*)")
_PLACEHOLDER = re.compile(r"\[[^\[\]\n]+\]")
_FENCE = re.compile(r"^```(?:json)?\s*\n(.*?)\n?```$", re.DOTALL | re.IGNORECASE)


class Constraint(Protocol):
    """Says whether an answer that is not blank keeps to it."""

    def __call__(self, answer: str) -> bool:
        """Tell whether the answer follows."""
        ...


@dataclass(frozen=True)
class _Counted:
    """An amount between two bounds, both included."""

    at_least: int = 0
    """Least amount."""
    at_most: int | None = None
    """Most; None for no limit."""

    def __post_init__(self) -> None:
        if self.at_least < 0 or (self.at_most is not None and self.at_most < self.at_least):
            what = f"at least {self.at_least} and at most {self.at_most} leave nothing"
            raise UsageError(what, fix="use 0 <= at_least <= at_most")
        if not self.at_least and self.at_most is None:
            raise UsageError("there is no bound", fix="give at_least, at_most, or both")

    def within(self, amount: int) -> bool:
        """Tell whether an amount is within the bounds."""
        return self.at_least <= amount and (self.at_most is None or amount <= self.at_most)


@dataclass(frozen=True)
class Words(_Counted):
    """How many words an answer has; "don't" is one."""

    def __call__(self, answer: str) -> bool:
        """Count them."""
        return self.within(length_of(answer, "words"))


@dataclass(frozen=True)
class Sentences(_Counted):
    """How many sentences an answer has, what stands behind the last full stop included."""

    def __call__(self, answer: str) -> bool:
        """Count them."""
        return self.within(length_of(answer, "sentences"))


@dataclass(frozen=True)
class Characters(_Counted):
    """How many characters an answer has, white space included."""

    def __call__(self, answer: str) -> bool:
        """Count them."""
        return self.within(len(answer))


@dataclass(frozen=True)
class CapitalWords(_Counted):
    """How many words are all in capitals."""

    def __call__(self, answer: str) -> bool:
        """Count them."""
        return self.within(sum(word.isupper() for word in _WORD.findall(answer)))


@dataclass(frozen=True)
class Bullets(_Counted):
    """How many lines are bullet points: they begin with * or -."""

    def __call__(self, answer: str) -> bool:
        """Count them."""
        return self.within(len(_BULLET.findall(answer)))


@dataclass(frozen=True)
class Highlights(_Counted):
    """How many parts of lines stand between single or double asterisks."""

    def __call__(self, answer: str) -> bool:
        """Count them."""
        return self.within(len(_HIGHLIGHT.findall(answer)))


@dataclass(frozen=True)
class Placeholders(_Counted):
    """How many names stand in square brackets, such as [address]."""

    def __call__(self, answer: str) -> bool:
        """Count them."""
        return self.within(len(_PLACEHOLDER.findall(answer)))


@dataclass(frozen=True)
class Paragraphs(_Counted):
    """How many paragraphs an answer has; empty ones do not count."""

    separator: str = "\n\n"
    """What stands between them; the default is any blank line."""

    def __call__(self, answer: str) -> bool:
        """Count what stands between separators."""
        blank = self.separator == "\n\n"
        parts = re.split(r"\n\s*\n", answer) if blank else answer.split(self.separator)
        return self.within(sum(bool(part.strip()) for part in parts))


@dataclass(frozen=True)
class Keywords:
    """Every one of some words or phrases is there, in any case of letters."""

    words: tuple[str, ...]
    """Words or phrases."""

    def __post_init__(self) -> None:
        _some(self.words)

    def __call__(self, answer: str) -> bool:
        """Search for each."""
        return all(_occurrences(word, answer) for word in self.words)


@dataclass(frozen=True)
class Forbidden:
    """None of some words or phrases is there, in any case of letters."""

    words: tuple[str, ...]
    """Words or phrases."""

    def __post_init__(self) -> None:
        _some(self.words)

    def __call__(self, answer: str) -> bool:
        """Search for each."""
        return not any(_occurrences(word, answer) for word in self.words)


@dataclass(frozen=True)
class Frequency(_Counted):
    """How often a word or phrase is there, in any case of letters."""

    word: str = ""
    """A word or phrase; must be given."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _some([self.word])

    def __call__(self, answer: str) -> bool:
        """Count it."""
        return self.within(_occurrences(self.word, answer))


@dataclass(frozen=True)
class Letter(_Counted):
    """How often a letter is there, in either case."""

    letter: str = ""
    """One character; must be given."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.letter) != 1:
            raise UsageError(f"{self.letter!r} is not one letter", fix="give one character")

    def __call__(self, answer: str) -> bool:
        """Count it."""
        return self.within(answer.casefold().count(self.letter.casefold()))


@dataclass(frozen=True)
class Case:
    """All letters are of one case; an answer without letters that have a case does not follow."""

    letters: Literal["upper", "lower"]
    """Which case."""

    def __call__(self, answer: str) -> bool:
        """Look at the letters."""
        return answer.isupper() if self.letters == "upper" else answer.islower()


@dataclass(frozen=True)
class Without:
    """None of some characters is there: no comma, say."""

    characters: str
    """The characters."""

    def __post_init__(self) -> None:
        _some([self.characters])

    def __call__(self, answer: str) -> bool:
        """Search for each."""
        return not set(self.characters) & set(answer)


@dataclass(frozen=True)
class Starts:
    """The answer starts with a phrase, in any case of letters."""

    phrase: str
    """The phrase."""

    def __post_init__(self) -> None:
        _some([self.phrase])

    def __call__(self, answer: str) -> bool:
        """Compare, white space at the ends aside."""
        return answer.strip().casefold().startswith(self.phrase.strip().casefold())


@dataclass(frozen=True)
class Ends:
    """The answer ends with a phrase, in any case of letters."""

    phrase: str
    """The phrase."""

    def __post_init__(self) -> None:
        _some([self.phrase])

    def __call__(self, answer: str) -> bool:
        """Compare, white space and quotation marks at the ends aside."""
        return answer.strip().strip('"').strip().casefold().endswith(self.phrase.strip().casefold())


@dataclass(frozen=True)
class Quoted:
    """The whole answer stands in double quotation marks."""

    def __call__(self, answer: str) -> bool:
        """Look at the ends."""
        text = answer.strip()
        return len(text) > 1 and text[0] == text[-1] == '"'


@dataclass(frozen=True)
class Title:
    """There is a title in double angle brackets, <<like this>>."""

    def __call__(self, answer: str) -> bool:
        """Search for one with something in it."""
        return any(found.strip() for found in re.findall(r"<<([^\n<>]+)>>", answer))


@dataclass(frozen=True)
class Json:
    """The whole answer is one JSON value; a code fence around it does not matter."""

    def __call__(self, answer: str) -> bool:
        """Read it."""
        text = answer.strip()
        fenced = _FENCE.match(text)
        try:
            json.loads(fenced[1] if fenced else text)
        except (ValueError, RecursionError):
            return False
        return True


def follows(constraint: Constraint, answer: str) -> bool:
    """Tell whether an answer as it stands follows; a blank one follows nothing."""
    return bool(answer.strip()) and constraint(answer)


def follows_loosely(constraint: Constraint, answer: str) -> bool:
    """Tell whether an answer follows once its first line, last line or asterisks (or several of them) are left out."""
    lines = answer.split("\n")
    cuts = ["\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1])]
    return any(follows(constraint, text) for cut in (answer, *cuts) for text in (cut, cut.replace("*", "")))


def parse(given: Any, *, place: str | None = None) -> tuple[tuple[str, Constraint], ...]:
    """Build constraints from plain values: a list of mappings of `check` and its fields -> (check, constraint) each.

    Raises:
        DataError: not a list of mappings.
        UnknownNameError: a check that does not exist.
        UnknownFieldError, UsageError: fields that a check refuses.
    """
    if not isinstance(given, Sequence) or isinstance(given, str):
        fix = "write a list such as [{check: words, at_most: 50}]"
        raise DataError(f"constraints are a list, not {type(given).__name__}", place=place, fix=fix)
    return tuple(_parse_one(one, place) for one in given)


def _parse_one(one: Any, place: str | None) -> tuple[str, Constraint]:
    if isinstance(one, str):
        one = {"check": one}
    if not isinstance(one, Mapping) or "check" not in one:
        fix = "write {check: words, at_most: 50}"
        raise DataError(f"{one!r} is no constraint", place=place, fix=fix)
    # Columns of tables hold every field of every row, empty where it is not a row's own.
    values = {key: value for key, value in one.items() if value is not None}
    check = values.pop("check")
    if check not in CHECKS:
        raise UnknownNameError("check", str(check), CHECKS, place=place)
    return check, fields.build(CHECKS[check], values, owner=check, place=place)


def _occurrences(phrase: str, text: str) -> int:
    """Count whole words; a phrase that begins or ends with a sign may touch a word there."""
    before = r"(?<!\w)" if re.match(r"\w", phrase) else ""
    after = r"(?!\w)" if re.search(r"\w$", phrase) else ""
    return len(re.findall(before + re.escape(phrase) + after, text, re.IGNORECASE))


def _some(texts: Sequence[str]) -> None:
    if not texts or not all(texts):
        raise UsageError("nothing is given to look for", fix="give at least one, none of them empty")


CHECKS: dict[str, type] = {
    "words": Words,
    "sentences": Sentences,
    "characters": Characters,
    "capital_words": CapitalWords,
    "bullets": Bullets,
    "highlights": Highlights,
    "placeholders": Placeholders,
    "paragraphs": Paragraphs,
    "keywords": Keywords,
    "forbidden": Forbidden,
    "frequency": Frequency,
    "letter": Letter,
    "case": Case,
    "without": Without,
    "starts": Starts,
    "ends": Ends,
    "quoted": Quoted,
    "title": Title,
    "json": Json,
    "language": Language,
    "first_word": FirstWord,
    "postscript": Postscript,
    "one_of": OneOf,
    "sections": Sections,
    "answers": Answers,
}
"""check -> its class."""
