"""Several models that read the same answer token by token and choose each token together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from torch import Tensor

from fairlead.engines.base import Completion, FinishReason, Sampling
from fairlead.engines.draw import choose, row_generator, token_logprob
from fairlead.engines.endings import Endings
from fairlead.engines.local import Local
from fairlead.engines.programs import Program
from fairlead.engines.rows import Rows, Seen
from fairlead.errors import ModelError
from fairlead.messages import Prompt

__all__ = ["check_one_tokenizer", "in_lockstep"]


def check_one_tokenizer(locals_by_field: Mapping[str, Local], owner: str) -> None:
    """Refuse models whose token ids do not mean the same.

    Raises:
        ModelError: two vocabularies that differ, by field.
    """
    (first, one), *others = locals_by_field.items()
    known = one.renderer.tokenizer.get_vocab()
    for field, other in others:
        if other.renderer.tokenizer.get_vocab() != known:
            raise ModelError(
                f"{owner} mixes distributions over one vocabulary, but {first} ({one.name}) and {field} "
                f"({other.name}) have different ones",
                fix="use models of one family; nudging takes any two tokenizers",
            )


def in_lockstep(
    parts: Sequence[tuple[Local, Rows, Prompt]],
    combine: Callable[[Sequence[Seen]], Tensor],
    stopping: Local,
    index: int,
    sampling: Sampling,
) -> Program[Completion]:
    """Make answer number `index` of several models to prompts of their own.

    Args:
        parts: each model, its rows and what it is asked. The first one's prompt keys the random numbers.
        combine: what the models see after the same tokens -> logits [1, V] that are drawn from.
        stopping: whose end-of-turn tokens end the answer.
        index: the answer's number.
        sampling: how to draw from the combined logits.

    Raises:
        EngineError: a prompt that is empty or leaves no room for an answer.
    """
    prompts = [local.prompt_ids(prompt) for local, _, prompt in parts]
    limits = [rows.positions - len(ids) for (_, rows, _), ids in zip(parts, prompts) if rows.positions is not None]
    room = min([sampling.max_tokens, *limits])
    raw = isinstance(parts[0][2], str)
    endings = Endings(partial(stopping.renderer.decode, raw=raw), stopping.renderer.stops, sampling.stop)
    generator = row_generator(sampling.seed, prompts[0], index)
    own = [rows.open() for _, rows, _ in parts]
    ids: list[int] = []
    logprobs: list[float] = []
    try:
        fed = prompts
        while True:
            seen = yield [rows.feed(row, new) for (_, rows, _), row, new in zip(parts, own, fed)]
            logits = combine(seen)
            token = choose(logits, sampling, [generator.random()] if sampling.temperature else [])
            ids.append(int(token[0]))
            if sampling.logprobs:
                logprobs.append(float(token_logprob(logits, token)[0]))
            if endings.reached(ids) or len(ids) >= room:
                break
            fed = [ids[-1:]] * len(parts)
    finally:
        for (_, rows, _), row in zip(parts, own):
            rows.drop(row)
    ids, text, ended = endings.cut(ids)
    told = np.array(logprobs[: len(ids)], dtype=np.float32) if sampling.logprobs else None
    return Completion(text, ids, told, FinishReason.STOP if ended else FinishReason.LENGTH)
