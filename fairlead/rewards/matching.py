"""Whether an answer holds one of the true ones: texts are normalised and compared word by word.

Follows the usual normalisation of open question answering (Joshi et al. 2017, TriviaQA), but with word boundaries: "7"
is not in "1970", and a true answer of which nothing is left ("The") is in no answer at all.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

__all__ = ["contains", "normalise"]

_APOSTROPHES = re.compile("['\u2018\u2019\u02bc\u00b4`]")
_ARTICLES = frozenset(("a", "an", "the"))


def normalise(text: str) -> str:
    """Return the words of `text` in lower case, parted by single spaces, without articles and punctuation.

    Apostrophes close up ("don't" is "dont"); all other marks, and underscores, part words.
    """
    closed = _APOSTROPHES.sub("", unicodedata.normalize("NFKC", text).casefold())
    plain = "".join(" " if unicodedata.category(mark)[0] in "PS" else mark for mark in closed)
    return " ".join(word for word in plain.split() if word not in _ARTICLES)


def contains(answer: str, truths: Iterable[str]) -> bool:
    """Tell whether the words of one of `truths` stand in `answer` one after the other."""
    within = f" {normalise(answer)} "
    return any(f" {words} " in within for words in map(normalise, truths) if words)
