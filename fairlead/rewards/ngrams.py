"""BLEU of one text against references: its words, its clipped n-gram counts, and the score in the variants in use.

Sources: Papineni et al. 2002 (ACL, P02-1040) for BLEU; Lin & Och 2004 (COLING, C04-1072) for one added to the counts of
every order; the tokenisation of NIST's scorer mteval-v13a.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, TypeAlias

__all__ = ["TOKENISERS", "NgramTable", "Parts", "characters", "is_unspaced", "ngrams", "tokens_13a"]

Tokenisation: TypeAlias = Literal["13a", "characters", "none"]
"""How a text is parted: a name of `TOKENISERS`."""
RefLength: TypeAlias = Literal["min", "closest"]
"""Which reference's length counts: the shortest one's, or that nearest to the text's (the shorter of two)."""
Parts: TypeAlias = Literal["all", "brevity", "precision"]
"""What of BLEU is wanted: all of it, its brevity penalty alone, or its precision alone."""

_MARKS = str.maketrans({mark: f" {mark} " for mark in '!"#$%&()*+/:;<=>?@[\\]^_`{|}~'})
_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
_MARK_BEHIND = re.compile(r"([^0-9])([.,])")
_MARK_BEFORE = re.compile(r"([.,])([^0-9])")
_HYPHEN_BEHIND_DIGIT = re.compile(r"([0-9])(-)")
_UNSPACED = re.compile("([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002ffff])")
_LETTER = re.compile(r"[^\W\d_]")
_KEPT = 1 << 16
"""Runs of text without white space whose words are kept: most of a text consists of few of them."""


class _Parted(dict[str, tuple[str, ...]]):
    """A run of text without white space -> its words; what stands beyond white space never matters to them."""

    def __missing__(self, run: str) -> tuple[str, ...]:
        if len(self) >= _KEPT:
            self.clear()
        self[run] = words = (run,) if run.isalnum() else tuple(_parted(run))
        return words


def _parted(run: str) -> list[str]:
    run = f" {run} ".translate(_MARKS)
    if "." in run or "," in run:
        run = _MARK_BEFORE.sub(r" \1 \2", _MARK_BEHIND.sub(r"\1 \2 ", run))
    if "-" in run:
        run = _HYPHEN_BEHIND_DIGIT.sub(r"\1 \2 ", run)
    return run.split()


_WORDS = _Parted()


def tokens_13a(text: str) -> list[str]:
    """Return the words and marks of a text of a Western language, as mteval-v13a parts them; case is kept."""
    text = text.replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    if "&" in text:
        for entity, mark in _ENTITIES:
            text = text.replace(entity, mark)
    return list(chain.from_iterable(map(_WORDS.__getitem__, text.split())))


def characters(text: str) -> list[str]:
    """Return the words and marks of a text, every Chinese and Japanese character alone."""
    return tokens_13a(_UNSPACED.sub(r" \1 ", text))


TOKENISERS: dict[Tokenisation, Callable[[str], list[str]]] = {
    "13a": tokens_13a,
    "characters": characters,
    "none": str.split,
}
"""name -> how it parts a text; "none" parts at white space alone."""


def is_unspaced(text: str) -> bool:
    """Tell whether most letters of a text are of writing without spaces: Chinese characters and kana."""
    found = len(_UNSPACED.findall(text))
    return 2 * found > len(_LETTER.findall(text))


def ngrams(words: Sequence[str], n: int) -> Counter:
    """Count the runs of n words, as tuples."""
    return Counter(zip(*(words[i:] for i in range(n))))


@dataclass(frozen=True, eq=False)
class NgramTable:
    """What BLEU has to know of the references to one prompt, counted once for all texts that are compared with them."""

    most: tuple[Counter, ...]
    """Per order, from 1 on: run of words -> how often the reference has it that has it most often."""
    lengths: tuple[int, ...]
    """Words of every reference."""

    @classmethod
    def of(cls, references: Iterable[Sequence[str]], order: int = 4) -> NgramTable:
        """Count the words [words] of one reference or more, up to runs of `order`."""
        parted = list(references)
        most = []
        for n in range(1, order + 1):
            merged = Counter(_each(parted[0], n))
            for words in parted[1:]:
                merged |= Counter(_each(words, n))
            most.append(merged)
        return cls(tuple(most), tuple(map(len, parted)))

    def precisions(self, words: Sequence[str]) -> list[tuple[int, int]]:
        """Return per order how many runs of a text the references have too, clipped to their counts, and how many it
        has in all."""
        found = []
        for n, most in enumerate(self.most, start=1):
            matched = 0
            for run, count in Counter(filter(most.__contains__, _each(words, n))).items():
                bound = most[run]
                matched += count if count < bound else bound
            found.append((matched, max(len(words) - n + 1, 0)))
        return found

    def length_for(self, words: Sequence[str], reflen: RefLength) -> int:
        """Return the reference length that a text has to reach."""
        if reflen == "min":
            return min(self.lengths)
        return min(self.lengths, key=lambda length: (abs(length - len(words)), length))

    def bleu(
        self,
        words: Sequence[str],
        *,
        smooth: bool = True,
        reflen: RefLength = "min",
        effective_order: bool = False,
        parts: Parts = "all",
    ) -> float:
        """Return BLEU of a text in [0, 1].

        Args:
            words: the text's words; without any BLEU is 0.
            smooth: whether 1 is added to the matches and to the total of every order, single words included; without,
                an order without a match makes the precision 0.
            reflen: which reference length the brevity penalty compares with.
            effective_order: whether orders longer than the text are left out.
            parts: the product, or one factor alone.
        """
        shortest = self.length_for(words, reflen)
        if not words or not shortest:
            return 0.0
        brevity = min(0.0, 1 - shortest / len(words)) if parts != "precision" else 0.0
        if parts == "brevity":
            return math.exp(brevity)
        found = self.precisions(words)
        kept = found[: len(words)] if effective_order else found
        if smooth:
            logs = [math.log((matched + 1) / (total + 1)) for matched, total in kept]
        elif all(matched for matched, _ in kept):
            logs = [math.log(matched / total) for matched, total in kept]
        else:
            return 0.0
        return math.exp(brevity + sum(logs) / len(logs))


def _each(words: Sequence[str], n: int) -> Iterable[Any]:
    """Return the runs of n words, single ones as they are."""
    return words if n == 1 else zip(*(words[i:] for i in range(n)))
