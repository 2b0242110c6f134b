"""One answer as a program, token by token: of a local model, or of several that read it and choose each token together.

With one model it draws what `Local.generate` draws: the same numbers, the same ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from fairlead.engines.base import Completion, FinishReason, Sampling
from fairlead.engines.draw import choose, row_generator, token_logprob
from fairlead.engines.endings import Endings
from fairlead.engines.programs import Program
from fairlead.engines.rows import Row, Rows, Seen

if TYPE_CHECKING:
    from fairlead.engines.local import Local
    from fairlead.messages import Prompt

__all__ = ["Line", "Told", "write"]

Told = Callable[[int, Seen], Any]
"""Is told each token and what the first model said where it was drawn."""


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


def write(
    lines: Sequence[Line],
    index: int,
    sampling: Sampling,
    *,
    combine: Callable[[Sequence[Seen]], Tensor] | None = None,
    stopping: Local | None = None,
    tell: Told | None = None,
) -> Program[Completion]:
    """Write answer number `index` to the prompts of the models that read it.

    Args:
        lines: the models; the first one's prompt keys the random numbers.
        index: the answer's number.
        sampling: how to draw.
        combine: what the models see after the same tokens -> logits [1, V] that are drawn from; by default the first
            one's.
        stopping: whose end-of-turn tokens end the answer, and whose decoding is its text; by default the first one.
        tell: is told every token.

    Raises:
        RenderError, EngineError: a prompt that cannot be rendered, or that leaves no room for an answer.
    """
    first, ends = lines[0], stopping or lines[0].local
    said: list[int] = []
    logprobs: list[float] = []
    try:
        prompts = [one.local.prompt_ids(one.prompt) for one in lines]
        room = min(one.local.room(ids, sampling.max_tokens) for one, ids in zip(lines, prompts))
        decode = partial(ends.renderer.decode, raw=isinstance(first.prompt, str))
        endings = Endings(decode, ends.renderer.stops, sampling.stop)
        draws = row_generator(sampling.seed, prompts[0], index)
        fed: Sequence[Sequence[int]] = prompts
        while not said or not (endings.reached(said) or len(said) >= room):
            seen: list[Seen] = yield [one.rows.feed(one.row, new) for one, new in zip(lines, fed)]
            logits = seen[0].logits if combine is None else combine(seen)
            token = choose(logits, sampling, [draws.random()] if sampling.temperature else [])
            said.append(int(token[0]))
            if sampling.logprobs:
                logprobs.append(float(token_logprob(logits, token)[0]))
            if tell is not None:
                tell(said[-1], seen[0])
            fed = [said[-1:]] * len(lines)
    finally:
        for one in lines:
            one.rows.drop(one.row)
    said, text, ended = endings.cut(said)
    kept = np.array(logprobs[: len(said)], dtype=np.float32) if sampling.logprobs else None
    return Completion(text, said, kept, FinishReason.STOP if ended else FinishReason.LENGTH)
