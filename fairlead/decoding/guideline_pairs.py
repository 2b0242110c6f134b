"""What a retriever learns from: questions with the guidelines that are their own, and which others are no negatives.

Guide-Align (Luo et al. 2024, arXiv 2403.11838), stage 1d. General guidelines repeat in other words; taken for negatives
they teach the opposite of what is wanted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from rapidfuzz import fuzz, process

from fairlead.decoding.guideline_library import Library, words_of
from fairlead.decoding.guideline_retrieval import Lexical
from fairlead.errors import DataError

__all__ = ["Batch", "Pairs", "hold_out", "misleading", "questions_of", "recognised"]

_AT_ONCE = 256


def questions_of(library: Library) -> dict[str, frozenset[int]]:
    """Return the questions that a library's guidelines were written for, each with the places of its own."""
    own: dict[str, set[int]] = {}
    for place, item in enumerate(library.items):
        for question in item.sources:
            own.setdefault(question, set()).add(place)
    return {question: frozenset(places) for question, places in own.items()}


def hold_out(questions: Sequence[str], share: float, seed: int) -> list[str]:
    """Return the `share` of questions that is kept for evaluation, at random, in their order; at least one is left."""
    number = min(round(share * len(questions)), len(questions) - 1)
    drawn = set(np.random.default_rng([seed, 0]).permutation(len(questions))[:number].tolist())
    return [question for k, question in enumerate(questions) if k in drawn]


def recognised(library: Library, other: Library, near: float) -> tuple[dict[str, frozenset[int]], int]:
    """Return another library's questions with the places in this one of their guidelines, or of their duplicates.

    Also how many questions were left out because this library has none of their guidelines.
    """
    mine, theirs = _said(library), _said(other)
    same = process.cdist(theirs, mine, scorer=fuzz.ratio, score_cutoff=100 * near) > 0
    asked = questions_of(other)
    found = {question: frozenset(np.flatnonzero(same[sorted(own)].any(0)).tolist()) for question, own in asked.items()}
    known = {question: own for question, own in found.items() if own}
    return known, len(asked) - len(known)


@dataclass(frozen=True)
class Batch:
    """Some questions and the guidelines that they are compared with, all with all."""

    questions: tuple[str, ...]
    """n texts."""
    items: tuple[int, ...]
    """Places in the library of m guidelines: the n positives in the order of the questions, then negatives."""
    masked: np.ndarray
    """bool [n, m]: guidelines that are no negative of the question, because they are its own or nearly so."""


@dataclass(frozen=True)
class Pairs:
    """Questions to learn from.

    Raises:
        DataError: no question, or a library of which every guideline is every question's own.
    """

    library: Library
    """The guidelines."""
    own: dict[str, frozenset[int]]
    """Each question's own."""
    near: float
    """Guidelines whose words are this alike are duplicates."""
    mask: bool = True
    """Whether duplicates of a question's own guidelines are kept from being its negatives."""
    hard: tuple[tuple[int, ...], ...] = ()
    """Per question the guidelines of others that its words would find first; empty where none are wanted."""

    def __post_init__(self) -> None:
        if not self.own:
            fix = "give a library whose guidelines have `sources`"
            raise DataError("no guideline says for which requests it was written", place=self.library.place, fix=fix)
        everything = frozenset(range(len(self.library)))
        if all(mine == everything for mine in self.own.values()):
            what = "every guideline was written for every request: there is nothing to tell apart"
            raise DataError(what, place=self.library.place, fix="give a library with guidelines for different requests")

    def epoch(self, number: int, *, batch_size: int, hard: int, other: int, seed: int) -> Iterator[Batch]:
        """Yield the batches of one epoch: every question once, with one of its own guidelines drawn at random.

        Args:
            number: which epoch; it decides what is drawn.
            batch_size: questions at a time; the last batch may be smaller.
            hard: for each question so many of its `hard` guidelines are added.
            other: for each question so many random guidelines of others are added.
            seed: decides the rest of what is drawn.
        """
        rng = np.random.default_rng([seed, 1, number])
        asked = list(self.own)
        order = rng.permutation(len(asked)).tolist()
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            positives = [int(rng.choice(sorted(self.own[asked[row]]))) for row in rows]
            negatives = [place for row in rows for place in (self.hard[row][:hard] if hard else ())]
            negatives += [place for row in rows for place in self._others(rng, self.own[asked[row]], other)]
            items = (*positives, *negatives)
            questions = tuple(asked[row] for row in rows)
            yield Batch(questions, items, self._masked(questions, items))

    def _others(self, rng: np.random.Generator, mine: frozenset[int], number: int) -> list[int]:
        found: list[int] = []
        while len(found) < min(number, len(self.library) - len(mine)):
            place = int(rng.integers(len(self.library)))
            if place not in mine and place not in found:
                found.append(place)
        return found

    @cached_property
    def _said(self) -> list[str]:
        return _said(self.library)

    def _masked(self, questions: Sequence[str], items: Sequence[int]) -> np.ndarray:
        masked = np.zeros((len(questions), len(items)), dtype=bool)
        if self.mask:
            places = sorted(set().union(*(self.own[question] for question in questions)))
            cutoff = 100 * self.near
            alike = (
                process.cdist(*([self._said[i] for i in some] for some in (places, items)), scorer=fuzz.ratio) >= cutoff
            )
            row_of = {place: row for row, place in enumerate(places)}
            for k, question in enumerate(questions):
                masked[k] = alike[[row_of[place] for place in sorted(self.own[question])]].any(0)
        masked[np.arange(len(questions)), np.arange(len(questions))] = False
        return masked


def misleading(library: Library, own: Mapping[str, frozenset[int]], number: int) -> tuple[tuple[int, ...], ...]:
    """Return per question the first `number` guidelines of others that the words in common would find."""
    asked, scored, found = list(own), Lexical(library), []
    for start in range(0, len(asked) if number else 0, _AT_ONCE):
        some = asked[start : start + _AT_ONCE]
        for question, scores in zip(some, scored(some), strict=True):
            order = np.argsort(-scores, kind="stable")[: number + len(own[question])].tolist()
            found.append(tuple(place for place in order if place not in own[question])[:number])
    return tuple(found)


def _said(library: Library) -> list[str]:
    """Return the guidelines' words, by which duplicates are known."""
    return [" ".join(words_of(item.line)) for item in library.items]
