"""BLEU against references as a reward, in the variant of BLEUBERI (Chang et al. 2025, arXiv 2505.11080).

One is added to the matches and to the total of all four orders (Lin & Och 2004), and the brevity penalty compares with
the shortest reference.
"""

from __future__ import annotations

from dataclasses import dataclass

from fairlead.errors import DataError, UsageError
from fairlead.rewards.ngrams import TOKENISERS, NgramTable, Parts, RefLength, Tokenisation, is_unspaced
from fairlead.rewards.references import Referenced

__all__ = ["BleuReward"]


@dataclass(frozen=True)
class BleuReward(Referenced[NgramTable]):
    """BLEU of a completion against the references to its prompt, in [0, 1]; a blank completion is worth 0."""

    tokenise: Tokenisation = "13a"
    """How texts are parted: 13a as for Western languages; characters, the same with every Chinese or Japanese character
    alone; none, at white space. Case is kept."""
    order: int = 4
    """Longest runs of words that are counted."""
    effective_order: bool = False
    """Whether a text shorter than `order` is judged by as many orders as it has words. Without, the orders that it
    lacks count as matched, so that tiny answers are overrated."""
    smooth: bool = True
    """Whether one is added to matches and totals of every order; without, a text is worth 0 when any order has no
    match."""
    reflen: RefLength = "min"
    """Length that the brevity penalty asks for: min, the shortest reference's; closest, that nearest to the text's."""
    parts: Parts = "all"
    """all of BLEU, its brevity penalty alone (brevity) or without it (precision): what a comparison must beat."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.order < 1:
            raise UsageError(f"bleu.order is {self.order}", fix="use 1 or more, such as 4")

    def prepare(self, references: tuple[str, ...]) -> NgramTable:
        """Count the n-grams of the references to one prompt.

        Raises:
            DataError: a reference in writing without spaces, which 13a would read as one word.
        """
        for text in references if self.tokenise == "13a" else ():
            if is_unspaced(text):
                what = f"13a does not part writing without spaces: {text[:40]!r}"
                raise DataError(what, place="bleu.references", fix="set tokenise: characters")
        return NgramTable.of(map(TOKENISERS[self.tokenise], references), self.order)

    def _compare(self, text: str, prepared: NgramTable) -> float:
        return prepared.bleu(
            TOKENISERS[self.tokenise](text),
            smooth=self.smooth,
            reflen=self.reflen,
            effective_order=self.effective_order,
            parts=self.parts,
        )
