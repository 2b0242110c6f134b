"""How long an answer was asked to be, how long it is, and how near the two are.

Sources: Bai et al. 2024, LongWriter (arXiv 2408.07055) for the score; "Minimum Tuning to Unlock Long Output" 2024
(arXiv 2410.10210) for the word count and the requests that its filter reads.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from fairlead.errors import DataError
from fairlead.rewards.length_limit import length_of

__all__ = ["Request", "count_words", "extended_request", "given_request", "length_score", "strict_request"]

_HAN = re.compile(r"[\u4e00-\u9fff]")
_LATIN = re.compile(r"\b[a-zA-Z]+\b")
_DIGITS = dict(zip("零一二三四五六七八九", range(10))) | {"\u3007": 0, "两": 2, "俩": 2}
_UNITS = {"十": 10, "百": 100, "千": 1000, "万": 10000}

_STRICT_DIGITS = (re.compile(r"(\d+)字"), re.compile(r"(\d+) words"))
_STRICT_NUMERALS = re.compile(r"(?=(.)([百千万])字)", re.DOTALL)
_NUMBER = r"\d{1,3}(?:,\d{3})+|\d+(?:\.\d+)?"
_ENGLISH = re.compile(
    rf"(?<![\w.,])(?:({_NUMBER})\s*(k?)\s*(?:-|\u2013|to|and|or)\s*)?(?<![\d.,])({_NUMBER})\s*(k?)[\s-]*words?(?![a-z])",
    re.IGNORECASE,
)
_CHINESE_DIGITS = re.compile(r"(?<![\d.,])(\d+(?:\.\d+)?)([百千万]?)字")
_CHINESE_NUMERALS = re.compile(r"(?<![几数\d十百千万])([零〇一二三四五六七八九两俩十百千万]*[百千万])字")


@dataclass(frozen=True)
class Request:
    """What a prompt says about length."""

    length: int | None
    """Words asked for; None where the prompt does not give exactly one length above 0."""
    reason: str | None = None
    """Why there is none: `none`, `several` or `zero`."""


def count_words(text: str) -> int:
    """Count Chinese characters, and runs of ASCII letters that touch no other letter or digit.

    "don't" counts as two, "2024" as none, and "GPT" as none where a Chinese character follows it at once.
    """
    return len(_HAN.findall(text)) + len(_LATIN.findall(text))


def length_score(required: float, actual: float) -> float:
    """Return 100 for the length asked for, falling to 0 at four times as much and at a third of it; 0 for nothing."""
    if actual <= 0:
        return 0.0
    if actual > required:
        return 100.0 * max(0.0, 1.0 - (actual / required - 1.0) / 3.0)
    return 100.0 * max(0.0, 1.0 - (required / actual - 1.0) / 2.0)


def strict_request(text: str) -> Request:
    """Read a length as the published filter does: "500 words", "500字", and one numeral before 百字, 千字 or 万字.

    Digits are told apart as they are written, so "500" and "0500" are several lengths, and so are one length in digits
    and in numerals. "2,000 words" reads as 0.
    """
    found: set[str | int] = {digits for pattern in _STRICT_DIGITS for digits in pattern.findall(text)}
    for numeral, unit in _STRICT_NUMERALS.findall(text):
        if numeral in _DIGITS and numeral != "\u3007":
            found.add(_DIGITS[numeral] * _UNITS[unit])
    return _only({value if isinstance(value, int) else (value, int(value)) for value in found})


def extended_request(text: str) -> Request:
    """Read a length however it is written: "2,000 words", "2000-word", "2k words", "3千字", "二十万字".

    Equal lengths written in several ways are one. A range ("500 to 600 words") is several lengths.
    """
    found: set[int | float] = set()
    for low, low_k, high, high_k in _ENGLISH.findall(text):
        thousands = bool(low_k or high_k)
        found |= {
            _number(n, 1000 if k or (thousands and n == low) else 1) for n, k in ((low, low_k), (high, high_k)) if n
        }
    found |= {_number(digits, _UNITS.get(unit, 1)) for digits, unit in _CHINESE_DIGITS.findall(text)}
    found |= {_numeral(numeral) for numeral in _CHINESE_NUMERALS.findall(text)}
    return _only({int(value) for value in found if value == int(value)})


def given_request(length: Any, place: str) -> Request:
    """Take a length from a column.

    Args:
        length: what stands there.
        place: where, for the error.

    Raises:
        DataError: it is no whole number of words, from 1.
    """
    if isinstance(length, bool) or not isinstance(length, int | float) or length != length // 1 or length < 1:
        raise DataError(f"{length!r} is no length in words", place=place, fix="give a whole number from 1, or nothing")
    return Request(int(length))


COUNTS: dict[str, Callable[[str], int]] = {"published": count_words, "words": partial(length_of, unit="words")}
"""count -> how it counts the words of a text."""
REQUESTS: dict[str, Callable[[str], Request]] = {"strict": strict_request, "extended": extended_request}
"""parser -> how it reads a prompt."""


def _only(found: set) -> Request:
    if len(found) != 1:
        return Request(None, "several" if found else "none")
    (value,) = found
    length = value[1] if isinstance(value, tuple) else value
    return Request(length) if length > 0 else Request(None, "zero")


def _number(digits: str, times: int) -> float:
    return float(digits.replace(",", "")) * times


def _numeral(text: str) -> int:
    """Read a Chinese numeral below a hundred million."""
    whole = section = digit = 0
    for sign in text:
        if sign in _DIGITS:
            digit = _DIGITS[sign]
        elif sign == "万":
            whole, section, digit = whole + (section + digit or 1) * _UNITS[sign], 0, 0
        else:
            section, digit = section + (digit or 1) * _UNITS[sign], 0
    return whole + section + digit
