"""Tables of tokens for `token_shift`: what is known of every token of all answers, and the roles of tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fairlead.engines.distributions import TokenStats

__all__ = ["Answer", "Tokens", "roles_of", "truncated"]

END = "end"
CONTENT = "content"


@dataclass(frozen=True)
class Answer:
    """The T tokens of one answer."""

    prompt: int
    """Which prompt it answers."""
    sample: int
    """Which of the prompt's answers it is."""
    pieces: list[str]
    """[T]: what each token spells; nothing where it only ends the answer."""
    roles: list[str]
    """[T]."""
    numbers: Mapping[str, np.ndarray]
    """name -> float64 [T]; the same names in every answer."""


class Tokens:
    """All tokens of all answers, end to end.

    Args:
        answers: in any order.
        shape: prompts, and answers per prompt.
    """

    def __init__(self, answers: Sequence[Answer], shape: tuple[int, int]):
        self.answers, self.shape = answers, shape
        self.sizes = np.array([len(answer.pieces) for answer in answers], dtype=int)
        self.prompt = np.repeat([answer.prompt for answer in answers], self.sizes).astype(int)
        self.position = np.concatenate([np.arange(size) for size in (0, *self.sizes)])
        self.piece = np.array([piece for answer in answers for piece in answer.pieces], dtype=object)
        self.role = np.array([role for answer in answers for role in answer.roles], dtype=object)

    def __getitem__(self, name: str) -> np.ndarray:
        """Return a number of every token, float64 [tokens]."""
        return np.concatenate([np.empty(0), *(answer.numbers[name] for answer in self.answers)])

    @cached_property
    def rank(self) -> np.ndarray:
        """Ranks under the base, int64 [tokens]."""
        return self["rank"].astype(int)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of every answer, float64 [prompts, answers per prompt]; 0 where none is known."""
        found = np.zeros(self.shape)
        for answer, size in zip(self.answers, self.sizes):
            found[answer.prompt, answer.sample] = size
        return found

    def kinds(self, marginal: int) -> dict[str, np.ndarray]:
        """Return which tokens are unshifted, marginal (ranks up to `marginal`) and shifted, bool [tokens] each."""
        rank = self.rank
        return {
            "unshifted": rank == 1,
            "marginal": (rank > 1) & (rank <= marginal),
            "shifted": (rank > 1) & (rank > marginal),
        }

    def per_prompt(self, what: np.ndarray, among: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return every prompt's sum of a number and its count of tokens, over all or some of the tokens."""
        among = np.ones(len(self.prompt), dtype=bool) if among is None else among
        own, size = self.prompt[among], self.shape[0]
        sums = np.bincount(own, what[among].astype(float), size)
        return sums, np.bincount(own, minlength=size).astype(float)

    def by_position(self, what: np.ndarray, most: int) -> np.ndarray:
        """Return the mean of a number at each of the first `most` positions that a tenth of the answers reach."""
        counts = np.bincount(self.position, minlength=1)[:most]
        reached = int((counts * 10 >= max(1, len(self.answers))).sum())
        sums = np.bincount(self.position, what.astype(float), minlength=len(counts))
        return sums[:reached] / counts[:reached]


def roles_of(pieces: Sequence[str], phrases: Mapping[str, Sequence[str]], *, ended: bool) -> list[str]:
    """Return every token's role: that of the phrase it has a part of, else content; `end` for a last one that ends.

    Phrases are searched for in the text that the pieces spell, whatever the case; of several the first named counts.
    """
    text = "".join(pieces).lower()
    ends = np.cumsum([len(piece) for piece in pieces])
    starts = ends - np.array([len(piece.lstrip()) for piece in pieces], dtype=int)
    roles = [CONTENT] * len(pieces)
    for role, texts in reversed(list(phrases.items())):
        for phrase in texts:
            at = text.find(phrase.lower())
            while at >= 0:
                for k in np.flatnonzero((starts < at + len(phrase)) & (ends > at)):
                    roles[k] = role
                at = text.find(phrase.lower(), at + len(phrase))
    if ended:
        roles[-1] = END
    return roles


def truncated(base: TokenStats, aligned: TokenStats) -> tuple[np.ndarray, np.ndarray]:
    """Compare the likeliest tokens of both sides, the answer's T positions at once, float64 [T] each.

    Returns:
        The sum of w_b ln(w_b / w_a) over the tokens in both lists, each list's probabilities made to sum to 1, which
        may be negative; and the Jaccard index of the lists.
    """
    same = base.top_ids[:, :, None] == aligned.top_ids[:, None, :]
    ours, theirs = (_normalised(side.top_logprobs) for side in (base, aligned))
    with np.errstate(invalid="ignore"):
        terms = np.exp(ours)[:, :, None] * (ours[:, :, None] - theirs[:, None, :])
    shared = same.sum((1, 2))
    kl = np.where(same & np.isfinite(ours)[:, :, None], terms, 0.0).sum((1, 2))
    return kl, shared / (2 * same.shape[1] - shared)


def _normalised(logprobs: np.ndarray) -> np.ndarray:
    wide = logprobs.astype(float)
    most = wide.max(-1, keepdims=True)
    return wide - most - np.log(np.exp(wide - most).sum(-1, keepdims=True))
