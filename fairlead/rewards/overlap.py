"""How much of two texts is the same: ROUGE-L (Lin 2004), exact."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from rapidfuzz.distance import Indel

from fairlead.rewards.inflections import words_of

__all__ = ["lcs_f", "rouge_l"]


def rouge_l(one: str, other: str) -> float:
    """Return ROUGE-L F of two texts over their words, in lower case and without marks: 0 to 1."""
    return lcs_f(words_of(one), words_of(other))


def lcs_f(one: Sequence[Hashable], other: Sequence[Hashable]) -> float:
    """Return twice the longest common subsequence by both lengths: F of recall and precision, 0 where both are empty."""
    return Indel.normalized_similarity(one, other) if len(one) and len(other) else 0.0
