"""The next token of every row: greedy, or drawn by inverse transform from one uniform number per row and token.

The numbers of a row come from a counter-based generator (Philox: Salmon et al. 2011, "Parallel random numbers: as easy
as 1, 2, 3") keyed by seed, prompt tokens and sample index, so they do not depend on which rows share a batch or when.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fairlead.engines.base import Sampling
from fairlead.engines.edits import Past, edited

__all__ = ["choose", "first_best", "row_generator", "token_logprob"]

_BLOCK = 256
"""Tokens per block: a draw finds its block first, so no running sum over the whole vocabulary is made."""
_HEAD = 1024
"""Tokens sorted at first for nucleus sampling; all are where these do not reach `top_p`."""
_COLDEST = 1e-30
"""Lower temperatures draw as this one does: what is divided by it stays a float32."""


def row_generator(seed: int, prompt_ids: Sequence[int], index: int) -> np.random.Generator:
    """Return the source of uniform numbers of sample `index` of a prompt."""
    key = hashlib.blake2b(f"{seed}:{index}:".encode(), digest_size=16)
    key.update(np.asarray(prompt_ids, dtype=np.int64).tobytes())
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key.digest(), "little")))


def choose(logits: Tensor, sampling: Sampling, uniforms: Sequence[float], pasts: Sequence[Past] = ()) -> Tensor:
    """Return the next token of each row, int64 [R].

    Args:
        logits: [R, V], untempered.
        sampling: biases and penalties (see `edited`), then temperature (0: the most likely token, the first of equals),
            then `top_k`, then `top_p`, then `min_p`. Tokens as likely as the last one kept are kept too.
        uniforms: R numbers in [0, 1); not used when greedy.
        pasts: what each row has seen, where it is looked at (see `Past.of`).
    """
    if pasts:
        logits = edited(logits, sampling, pasts)
    if sampling.temperature == 0:
        return first_best(logits)
    logits = logits.float() / max(sampling.temperature, _COLDEST)
    if 0 < sampling.top_k < logits.shape[-1]:
        floor = logits.topk(sampling.top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < floor, -torch.inf)
    probs = torch.softmax(logits, -1)
    if sampling.top_p < 1:
        probs = probs.masked_fill(probs < _nucleus_floor(probs, sampling.top_p), 0.0)
    if sampling.min_p > 0:
        probs = probs.masked_fill(probs < sampling.min_p * probs.amax(-1, keepdim=True), 0.0)
    return _invert(probs, torch.tensor(uniforms, dtype=torch.float64, device=probs.device)[:, None])


def first_best(logits: Tensor) -> Tensor:
    """Return the likeliest token of each row of `logits` [R, V], the first of equals, int64 [R]."""
    if logits.device.type == "cpu" and logits.dtype == torch.float32 and not logits.requires_grad:
        return torch.from_numpy(logits.numpy().argmax(-1))  # ten times as fast as torch's
    return logits.argmax(-1)


def token_logprob(logits: Tensor, tokens: Tensor) -> Tensor:
    """Return log-probs of tokens [R] under logits [R, V], float32 [R]."""
    logits = logits.float()
    return logits.gather(-1, tokens[:, None])[:, 0] - logits.logsumexp(-1)


def _nucleus_floor(probs: Tensor, top_p: float) -> Tensor:
    """Return the least probability in the smallest set that reaches `top_p`, [R, 1]."""
    for size in (min(_HEAD, probs.shape[-1]), probs.shape[-1]):
        top = probs.topk(size, dim=-1).values.double()
        before = top.cumsum(-1) - top
        if (before[:, -1] >= top_p).all():
            break
    count = (before < top_p).sum(-1, keepdim=True)
    return top.gather(-1, count - 1).to(probs.dtype)


def _invert(probs: Tensor, uniforms: Tensor) -> Tensor:
    """Return the tokens at which the running sums of `probs` [R, V] pass `uniforms` [R, 1] of their totals."""
    spare = -probs.shape[-1] % _BLOCK
    if spare:
        probs = torch.nn.functional.pad(probs, (0, spare))
    blocks = probs.unflatten(-1, (-1, _BLOCK))
    ends = blocks.sum(-1).double().cumsum(-1)
    target = uniforms * ends[:, -1:]
    block = _first_above(ends, target)
    before = torch.nn.functional.pad(ends, (1, 0)).gather(-1, block)
    inner = blocks[torch.arange(len(probs), device=probs.device), block[:, 0]].double().cumsum(-1)
    return (block * _BLOCK + _first_above(inner, target - before))[:, 0]


def _first_above(sums: Tensor, target: Tensor) -> Tensor:
    """Return the first index whose running sum exceeds the target, at most the last one with a share of its own."""
    last = (sums < sums[:, -1:]).sum(-1, keepdim=True)
    return torch.minimum(torch.searchsorted(sums, target, right=True), last)
