"""One answer of a local model as a program, token by token, for callers that want each piece of it when it is there.

It draws what `Local.generate` draws: the same numbers, the same ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fairlead.engines.base import Completion, FinishReason, Sampling
from fairlead.engines.draw import choose, row_generator, token_logprob
from fairlead.engines.endings import Endings
from fairlead.engines.programs import Program
from fairlead.engines.rows import Row, Rows, Seen

if TYPE_CHECKING:
    from fairlead.engines.local import Local
    from fairlead.messages import Prompt

__all__ = ["Told", "write"]

Told = Callable[[int, Seen], Any]
"""Is told each token and what the model said where it was drawn."""


def write(
    local: Local,
    rows: Rows,
    row: Row,
    prompt: Prompt,
    index: int,
    sampling: Sampling,
    *,
    tell: Told | None = None,
) -> Program[Completion]:
    """Write answer number `index` to a prompt on a fresh row of the model, which is dropped at the end.

    Raises:
        RenderError, EngineError: a prompt that cannot be rendered, or that leaves no room for an answer.
    """
    ids = local.prompt_ids(prompt)
    endings = Endings(partial(local.renderer.decode, raw=isinstance(prompt, str)), local.renderer.stops, sampling.stop)
    draws = row_generator(sampling.seed, ids, index)
    said: list[int] = []
    logprobs: list[float] = []
    fed: Sequence[int] = ids
    room = local.room(ids, sampling.max_tokens)
    try:
        while not said or not (endings.reached(said) or len(said) >= room):
            (seen,) = yield [rows.feed(row, fed)]
            token = seen.best[0]
            if sampling.temperature > 0:
                token = int(choose(seen.logits, sampling, [draws.random()])[0])
            said.append(token)
            if sampling.logprobs:
                chosen = torch.tensor([token], device=seen.logits.device)
                logprobs.append(float(token_logprob(seen.logits, chosen)[0]))
            if tell is not None:
                tell(token, seen)
            fed = [token]
    finally:
        rows.drop(row)
    said, text, ended = endings.cut(said)
    kept = np.array(logprobs[: len(said)], dtype=np.float32) if sampling.logprobs else None
    return Completion(text, said, kept, FinishReason.STOP if ended else FinishReason.LENGTH)
