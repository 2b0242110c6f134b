"""What a search over next tokens is about: hypotheses, how they begin, end and compare.

Shared by the search that does as little as it can and the one that does everything (`lookahead`, `lookahead_naive`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor

from fairlead.decoding.heuristics import Scorer
from fairlead.engines.endings import Endings
from fairlead.engines.programs import Ask
from fairlead.engines.rows import Row, Rows
from fairlead.engines.writing import Drawn, Teller
from fairlead.messages import Prompt

__all__ = ["Hypothesis", "Problem", "Stats", "Tops", "Winner", "likeliest", "rank"]

Top: TypeAlias = list[tuple[int, float]]
"""Next tokens and their log-probs, the likeliest first, of equals the smallest id."""


@dataclass(frozen=True)
class Hypothesis:
    """The tokens of an answer so far."""

    ids: list[int]
    """Its tokens, the one that ended it included."""
    logprobs: list[float]
    """Their log-probs, nats."""
    final: bool = False
    """Whether it ended, or has as many tokens as it may."""

    @property
    def total(self) -> float:
        """The log-prob of all its tokens."""
        return sum(self.logprobs)


@dataclass
class Stats:
    """What an answer cost."""

    tokens: int = 0
    """Tokens that the model read for it, those that it shared with other answers included."""
    forwards: int = 0
    """Forward passes one after the other."""
    scored: int = 0
    """Texts that the heuristics valued."""
    steps: int = 0
    """Choices made."""
    contested: int = 0
    """Choices that took a look at more than the next token's probabilities."""


@dataclass(frozen=True)
class Winner:
    """What a search found."""

    best: Hypothesis
    """The best hypothesis."""
    stats: Stats
    """What it cost."""
    steps: list[dict[str, Any]] = field(default_factory=list)
    """Every choice, if asked for."""


@dataclass(frozen=True)
class Problem:
    """One prompt and what is looked for: log P of the tokens so far + strength * heuristics of the text ahead."""

    prompt: Prompt
    """As the heuristics see it."""
    prompt_ids: list[int]
    """As the model sees it."""
    rows: Rows
    """The model's rows."""
    tops: Tops
    """Tells the likeliest next tokens."""
    scorer: Scorer
    """Values texts."""
    endings: Endings
    """What ends an answer."""
    room: int
    """Most tokens of the answer."""
    k: int
    """Tokens tried after each hypothesis."""
    lookahead: int
    """Greedy tokens that the heuristics see beyond the token tried."""
    beams: int
    """Hypotheses kept."""
    commit: int
    """Tokens taken at each choice."""
    strength: float
    """Weight of the heuristics."""
    min_tokens: int
    """Tokens before which no end token is taken."""
    per_token: bool
    """Whether log P is divided by the number of tokens."""
    trace: bool
    """Whether choices are told."""
    wide: int
    """Most rows in use with which rows are opened for choices to come."""
    teller: Teller | None = None
    """Is told the tokens that are chosen for good."""

    def base(self, hypothesis: Hypothesis) -> float:
        """Return the part of the score that is known without the heuristics."""
        return hypothesis.total / len(hypothesis.ids) if self.per_token else hypothesis.total

    def score(self, hypothesis: Hypothesis, value: float) -> float:
        """Return the score of a hypothesis whose text ahead has a value."""
        return self.base(hypothesis) + self.strength * value if self.strength else self.base(hypothesis)

    def allowed(self, top: Top, count: int) -> Top:
        """Leave out end tokens where an answer of `count` tokens is too short to end."""
        if count < self.min_tokens:
            top = [(token, logprob) for token, logprob in top if token not in self.endings.held_back]
        return top

    def followed(self, hypothesis: Hypothesis, tokens: Sequence[tuple[int, float]]) -> Hypothesis:
        """Return a hypothesis with more tokens."""
        ids = [*hypothesis.ids, *(token for token, _ in tokens)]
        return Hypothesis(ids, [*hypothesis.logprobs, *(logprob for _, logprob in tokens)], self.is_final(ids))

    def is_final(self, ids: Sequence[int]) -> bool:
        """Whether the last of an answer's tokens is its last (asked after every token)."""
        return len(ids) >= self.room or self.endings.reached(ids)

    def tell(self, hypotheses: Sequence[Hypothesis]) -> None:
        """Tell the tokens that all hypotheses kept have in common."""
        if self.teller is None:
            return
        shared = [len(set(ids)) == 1 for ids in zip(*(one.ids for one in hypotheses))]
        count = shared.index(False) if False in shared else len(shared)
        for token, logprob in list(zip(hypotheses[0].ids, hypotheses[0].logprobs))[self.teller.told : count]:
            self.teller.tell(token, lambda _, token=token, logprob=logprob: Drawn(token, logprob))

    def text(self, ids: list[int]) -> str:
        """Return the text of an answer's tokens, without what ended it."""
        return self.endings.cut(ids)[1]

    def settled(self, ids: list[int]) -> str:
        """Return the part of the text that stays whatever follows, but for its last word."""
        text = self.endings.decode(ids).rstrip("\ufffd")  # half a character reads so
        return text[: max(0, len(text) - max(map(len, self.endings.texts), default=0))]


class Tops:
    """Feeds rows and tells the likeliest tokens after them, for all rows of a round at once."""

    def __init__(self, count: int):
        self.count = count

    def feed(self, rows: Rows, row: Row, ids: Sequence[int]) -> Ask:
        """Ask to append tokens to a row; the answer is the `Top` that follows."""
        return Ask(self, rows.feed(row, ids))

    def serve(self, asked: Sequence[Ask]) -> list[Top]:
        """Feed all rows."""
        seen = asked[0].door.serve([ask.what for ask in asked])
        return likeliest(torch.cat([one.logits for one in seen]), self.count)


@torch.inference_mode()
def likeliest(logits: Tensor, count: int) -> list[Top]:
    """Return the `count` likeliest tokens of each row of `logits` [N, V] with their log-probs."""
    # One more than wanted shows whether the last one wanted has an equal.
    values, tokens = logits.topk(min(count + 1, logits.shape[-1]))
    totals = logits.logsumexp(-1)
    logprobs = (values - totals[:, None]).tolist()
    tops = []
    for row, (ids, those, own) in enumerate(zip(tokens.tolist(), logprobs, values.tolist())):
        if len(ids) > count and own[count - 1] == own[count]:
            equal = logits[row] >= values[row, count]
            ids, own = equal.nonzero()[:, 0].tolist(), logits[row][equal].tolist()
            those = (logits[row][equal] - totals[row]).tolist()
        order = sorted(range(len(ids)), key=lambda one, own=own, ids=ids: (-own[one], ids[one]))[:count]
        tops.append([(ids[one], those[one]) for one in order])
    return tops


def rank(bounds: Sequence[tuple[float, float]], keep: int) -> tuple[list[int], list[int]]:
    """Return which of several scores known to bounds may be among the `keep` best, and which must be known better.

    Args:
        bounds: (least, greatest) of each score; of equal scores the earlier is the better one.
        keep: how many are wanted.

    Returns:
        The numbers of those that less than `keep` others are sure to beat, the best first as far as that is known; and
        the numbers of those among them whose place is not sure. When there are none, the first list has at most `keep`.
    """
    every = range(len(bounds))

    def beats(one: int, other: int) -> bool:
        low, high = bounds[one][0], bounds[other][1]
        return low > high or (low == high and one < other)

    alive = [i for i in every if sum(beats(j, i) for j in every if j != i) < keep]
    unsure = [i for i in alive if any(not beats(i, j) and not beats(j, i) for j in alive if j != i)]
    return sorted(alive, key=lambda i: (-bounds[i][0], i)), unsure
