"""ROUGE-L against references as a reward (Lin 2004, W04-1013): how much of two texts comes in the same order."""

from __future__ import annotations

from dataclasses import dataclass

from fairlead.rewards.inflections import words_of
from fairlead.rewards.overlap import lcs_f
from fairlead.rewards.references import Referenced

__all__ = ["RougeLReward"]


@dataclass(frozen=True)
class RougeLReward(Referenced[tuple[list[str], ...]]):
    """ROUGE-L F of a completion and the reference to its prompt that is most like it, in [0, 1].

    Words are compared in lower case and without marks; nothing is stemmed. A blank completion is worth 0.
    """

    def prepare(self, references: tuple[str, ...]) -> tuple[list[str], ...]:
        """Part the references to one prompt into words."""
        return tuple(map(words_of, references))

    def _compare(self, text: str, prepared: tuple[list[str], ...]) -> float:
        said = words_of(text)
        return max(lcs_f(said, words) for words in prepared)
