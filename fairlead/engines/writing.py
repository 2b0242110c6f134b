"""One answer as a program, token by token: of a local model, or of several that read it and choose each token together.

With one model it draws what `Local.generate` draws: the same numbers, the same ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fairlead.engines.base import Completion, FinishReason, Sampling
from fairlead.engines.draw import choose, row_generator, token_logprob
from fairlead.engines.edits import Past
from fairlead.engines.endings import Endings
from fairlead.engines.programs import Program
from fairlead.engines.rows import Row, Rows, Seen
from fairlead.engines.streaming import Listener, TextStream, Token

if TYPE_CHECKING:
    from fairlead.engines.local import Local
    from fairlead.messages import Prompt

__all__ = ["Drawn", "Line", "Teller", "write"]


@dataclass(frozen=True)
class Line:
    """A model that reads the answer as it is written."""

    local: Local
    """The model."""
    rows: Rows
    """Its rows."""
    row: Row
    """A fresh one of them, which is dropped at the end."""
    prompt: Prompt
    """What it is asked."""


@dataclass(frozen=True)
class Drawn:
    """A token and what is told of it."""

    token: int
    """Its id."""
    logprob: float
    """Nats, of the untempered distribution that it was drawn from."""
    entropy: float | None = None
    """Nats, of that distribution."""
    best: tuple[tuple[int, float], ...] = ()
    """The likeliest tokens at its place and their log-probs."""

    @classmethod
    def of(cls, logits: Tensor, token: int, top: int) -> Drawn:
        """Return what is told of a token drawn from the distribution of `logits` [V], with the `top` likeliest ones."""
        logprobs = torch.log_softmax(logits.float(), -1)
        best = [int(one) for one in logprobs.topk(top).indices] if top else []
        entropy = float(torch.special.entr(logprobs.exp()).sum())
        return cls(token, float(logprobs[token]), entropy, tuple((one, float(logprobs[one])) for one in best))

    def told(self, spelled: Callable[[int], bytes], source: str | None = None) -> Token:
        """Return it as it is told; `spelled` gives the bytes of a token at its place."""
        best = tuple(Token(spelled(token), logprob) for token, logprob in self.best)
        return Token(spelled(self.token), self.logprob, best, self.entropy, source)


class Teller:
    """Tells an answer token by token.

    Args:
        listener: whom.
        local: whose tokens they are.
        endings: what ends the answer.
    """

    def __init__(self, listener: Listener, local: Local, endings: Endings):
        self.listener, self.renderer, self.endings = listener, local.renderer, endings
        self.stream = TextStream(endings.decode, endings.texts, least=endings.least)
        self.told = 0
        """Tokens told."""
        self._waiting: list[Token] = []

    def tell(self, token: int, drawn: Callable[[int], Drawn]) -> None:
        """Tell a token, unless it is one that ends the answer; `drawn` knows it given how many likeliest to tell."""
        self.told += 1
        if token in self.endings.tokens:
            return
        if self.listener.top is not None:
            self._waiting.append(drawn(self.listener.top).told(self._spelled))
        text = self.stream.feed(token)
        if text:
            self._hear(text)

    def end(self) -> None:
        """Tell the tokens whose text is not said yet; the text itself comes with the whole answer."""
        if self._waiting:
            self._hear("")

    def _hear(self, text: str) -> None:
        self.listener.hear(text, tuple(self._waiting))
        self._waiting.clear()

    def _spelled(self, token: int) -> bytes:
        return self.renderer.spelling.spelled([token], self.stream.ids)


def write(
    lines: Sequence[Line],
    index: int,
    sampling: Sampling,
    *,
    combine: Callable[[Sequence[Seen]], Tensor] | None = None,
    stopping: Local | None = None,
    tell: Listener | None = None,
) -> Program[Completion]:
    """Write answer number `index` to the prompts of the models that read it.

    Args:
        lines: the models; the first one's prompt keys the random numbers, and is the one whose tokens are penalised.
        index: the answer's number.
        sampling: how to draw.
        combine: what the models see after the same tokens -> logits [1, V] that are drawn from, after biases
            and penalties; by default the first one's.
        stopping: whose end-of-turn tokens end the answer, and whose decoding is its text; by default the first one.
        tell: is told the answer as it is written; its log-probs are those of the distribution drawn from.

    Raises:
        RenderError, EngineError: a prompt that cannot be rendered, or that leaves no room for an answer.
        UsageError: a setting that names a token which the model does not have.
    """
    first, ends = lines[0], stopping or lines[0].local
    said: list[int] = []
    logprobs: list[float] = []
    try:
        prompts = [one.local.prompt_ids(one.prompt) for one in lines]
        room = min(one.local.room(ids, sampling.max_tokens) for one, ids in zip(lines, prompts))
        endings = ends.endings(sampling, raw=isinstance(first.prompt, str))
        teller = Teller(tell, ends, endings) if tell else None
        past = Past.of(sampling, prompts[0], endings.held_back, endings.choices)
        draws = row_generator(sampling.seed, prompts[0], index)
        fed: Sequence[Sequence[int]] = prompts
        while not said or not (endings.reached(said) or len(said) >= room):
            seen: list[Seen] = yield [one.rows.feed(one.row, new) for one, new in zip(lines, fed)]
            logits = seen[0].logits if combine is None else combine(seen)
            uniforms = [draws.random()] if sampling.temperature else []
            token = choose(logits, sampling, uniforms, () if past is None else (past,))
            said.append(int(token[0]))
            if past is not None:
                past.add(said[-1])
            if sampling.logprobs:
                logprobs.append(float(token_logprob(logits, token)[0]))
            if teller is not None:
                teller.tell(said[-1], partial(Drawn.of, logits[0], said[-1]))
            fed = [said[-1:]] * len(lines)
    finally:
        for one in lines:
            one.rows.drop(one.row)
    if teller is not None:
        teller.end()
    said, text, ended = endings.cut(said)
    kept = np.array(logprobs[: len(said)], dtype=np.float32) if sampling.logprobs else None
    return Completion(text, said, kept, FinishReason.STOP if ended else FinishReason.LENGTH)
