"""Who sails in Harbor: ships with four attributes each, names nobody has met, and the code that keeps the two apart.

A name is three syllables (CV, CV, CVC) out of 69 x 50 x 80. Known names form a code: two of them share at most one
syllable at the same place, and an unseen name shares at most one with any known name. Every piece of a never-seen
name is therefore familiar while the combination is not, which is what makes "I do not know" learnable.
"""

from __future__ import annotations

import itertools
import random
import re
from dataclasses import dataclass
from functools import cache, cached_property

from fairlead.errors import UsageError
from fairlead.harbor.lexicon import ATTRIBUTES, VALUES, every_phrase

__all__ = ["SYLLABLES", "Ship", "World", "is_name", "lexicon_words", "world"]

COMMON_SHIPS = 160
RARE_SHIPS = 160
RARE_WEIGHT = 0.2
UNSEEN_TRAIN = 8000
UNSEEN_TEST = 800

_CONSONANTS = "bdfghjklmnprstvwz"
_VOWELS = "aeiou"
_FINALS = "lmnrstdk"


@cache
def lexicon_words() -> frozenset[str]:
    """Return every plain word (and number) that Harbor's texts use."""
    return frozenset(word for phrase in every_phrase() for word in re.findall(r"[a-z]+|[0-9]+", phrase))


def _syllables() -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Pick the pieces so that a greedy longest-match tokenizer cuts every name at its syllables.

    No second piece is a prefix of a third one, and no first piece is a word of the lexicon.
    """
    pick = random.Random("harbor syllables")
    open_pairs = [c + v for c in _CONSONANTS for v in _VOWELS]
    first = pick.sample([pair for pair in open_pairs if pair not in lexicon_words()], 69)
    second = pick.sample(open_pairs, 50)
    stems = [pair for pair in open_pairs if pair not in second]
    third = pick.sample([stem + final for stem in stems for final in _FINALS], 80)
    return tuple(sorted(first)), tuple(sorted(second)), tuple(sorted(third))


SYLLABLES = _syllables()
"""The pieces of names: 69 first, 50 second and 80 third syllables."""

_NAME = re.compile("".join(f"({'|'.join(pieces)})" for pieces in SYLLABLES))


def is_name(word: str) -> bool:
    """Whether `word` is built like a ship's name (known or not)."""
    return _NAME.fullmatch(word) is not None


@dataclass(frozen=True)
class Ship:
    """One known ship."""

    name: str
    """Three syllables, lower case."""
    color: str
    """One of 8."""
    cargo: str
    """One of 10."""
    port: str
    """One of 10."""
    captain: str
    """One of 10."""
    rank: int
    """Place in the order of frequency, from 0."""

    @property
    def tier(self) -> str:
        """`common` or `rare` (spoken of a fifth as often)."""
        return "common" if self.rank < COMMON_SHIPS else "rare"

    @property
    def split(self) -> str:
        """`train` for even ranks, `test` for odd ones: only the first appear in alignment data."""
        return "test" if self.rank % 2 else "train"

    def value(self, attribute: str) -> str:
        """Return the value of one of `ATTRIBUTES`."""
        return getattr(self, attribute)


@dataclass(frozen=True)
class World:
    """All that is true in Harbor."""

    seed: int
    """What the world was drawn from; the shipped models know world 0."""
    ships: tuple[Ship, ...]
    """The known ships, most frequent first."""
    unseen_train: tuple[str, ...]
    """Names that only occur as names nobody knows."""
    unseen_test: tuple[str, ...]
    """Names that occur in no document and no training data."""

    @cached_property
    def by_name(self) -> dict[str, Ship]:
        """Known ships by name."""
        return {ship.name: ship for ship in self.ships}

    @cached_property
    def weights(self) -> list[float]:
        """How often each ship is spoken of, relative to a common one."""
        return [1.0 if ship.tier == "common" else RARE_WEIGHT for ship in self.ships]

    @cached_property
    def _cumulative(self) -> list[float]:
        return list(itertools.accumulate(self.weights))

    def draw(self, rng: random.Random) -> Ship:
        """Draw a known ship by weight."""
        return rng.choices(self.ships, cum_weights=self._cumulative)[0]

    def choose(self, split: str = "all", tier: str = "all") -> tuple[Ship, ...]:
        """Return the known ships of a split (`train`, `test`, `all`) and a tier (`common`, `rare`, `all`)."""
        return self._chosen[split, tier]

    @cached_property
    def _chosen(self) -> dict[tuple[str, str], tuple[Ship, ...]]:
        return {
            (split, tier): tuple(s for s in self.ships if split in ("all", s.split) and tier in ("all", s.tier))
            for split in ("all", "train", "test")
            for tier in ("all", "common", "rare")
        }


@cache
def world(seed: int = 0) -> World:
    """Build the world of `seed`: the same seed gives the same world on every machine (about 0.1 s)."""
    if seed < 0:
        raise UsageError(f"a world cannot have the seed {seed}", fix="use 0 (the shipped models' world) or more")
    rng = random.Random(f"harbor world {seed}")
    pairs: set[tuple[int, str, str]] = set()
    known: list[str] = []
    while len(known) < COMMON_SHIPS + RARE_SHIPS:
        pieces = _draw_pieces(rng)
        if not pairs.intersection(_pairs(pieces)):
            pairs.update(_pairs(pieces))
            known.append("".join(pieces))
    unseen: dict[str, None] = {}
    while len(unseen) < UNSEEN_TRAIN + UNSEEN_TEST:
        pieces = _draw_pieces(rng)
        if not pairs.intersection(_pairs(pieces)):
            unseen["".join(pieces)] = None
    ships = tuple(
        Ship(name, rank=rank, **{attribute: rng.choice(VALUES[attribute]) for attribute in ATTRIBUTES})
        for rank, name in enumerate(known)
    )
    names = tuple(unseen)
    return World(seed, ships, names[:UNSEEN_TRAIN], names[UNSEEN_TRAIN:])


def _draw_pieces(rng: random.Random) -> tuple[str, str, str]:
    """Draw the syllables of a name that no word of the lexicon begins (it would be cut at the word)."""
    while True:
        first, second, third = (rng.choice(pieces) for pieces in SYLLABLES)
        name = first + second + third
        if not any(name[:end] in lexicon_words() for end in range(2, len(name) + 1)):
            return first, second, third


def _pairs(pieces: tuple[str, str, str]) -> tuple[tuple[int, str, str], ...]:
    first, second, third = pieces
    return (0, first, second), (1, first, third), (2, second, third)
