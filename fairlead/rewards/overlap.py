"""How much of two texts is the same: ROUGE-L (Lin 2004), exact."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

from rapidfuzz.distance import Indel

from fairlead.rewards.inflections import words_of

__all__ = ["first_alike", "lcs_f", "rouge_l"]


def rouge_l(one: str, other: str) -> float:
    """Return ROUGE-L F of two texts over their words, in lower case and without marks: 0 to 1."""
    return lcs_f(words_of(one), words_of(other))


def lcs_f(one: Sequence[Hashable], other: Sequence[Hashable]) -> float:
    """Return twice the longest common subsequence by both lengths: F of recall and precision; 0 for nothing."""
    return Indel.normalized_similarity(one, other) if len(one) and len(other) else 0.0


def first_alike(words: Sequence[Hashable], others: Iterable[Sequence[Hashable]], above: float) -> float:
    """Return the first `lcs_f` of a text's words with others' that is above `above`, 0 where none is.

    Most others are passed over by their length alone: F is at most twice the shorter length by both lengths.
    """
    for other in others:
        if len(words) and 2 * min(len(words), len(other)) > above * (len(words) + len(other)):
            found = lcs_f(words, other)
            if found > above:
                return found
    return 0.0
