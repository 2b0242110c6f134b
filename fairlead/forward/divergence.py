"""Per-token divergence between a teacher's and a student's next-token distributions, in vocabulary tiles.

Two passes over the vocabulary find the normalisers and the value, one more the gradient: no [tokens, vocabulary] tensor
is ever alive. With `top_k` the support differs from row to row, so rows are taken a few at a time instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from fairlead.errors import UnsupportedError, UsageError
from fairlead.forward.logprobs import ROW_TILE, VOCABULARY_TILE, Head

__all__ = ["Divergence", "token_divergence"]

DENSE_ELEMENTS = 1 << 22
"""Most logits alive per model with `top_k`: 16 MiB of float32."""


@dataclass(frozen=True)
class Divergence:
    """How far a student's next-token distribution is from its teacher's."""

    kind: Literal["forward", "reverse", "jsd"] = "forward"
    """forward: KL(teacher || student). reverse: KL(student || teacher). jsd: beta KL(teacher || m) + (1 - beta)
    KL(student || m) with m = beta teacher + (1 - beta) student (arXiv 2306.13649, section 2)."""
    beta: float = 0.5
    """Weight of the teacher in the mixture, in (0, 1); used by jsd."""
    temperature: float = 1.0
    """Both models' logits are divided by it; the divergence is not multiplied by anything to make up for that."""
    top_k: int | None = None
    """Compare only the teacher's k likeliest tokens; None: the whole vocabulary."""
    tail: Literal["renormalise", "bucket"] = "renormalise"
    """With `top_k`. renormalise: both models are made to sum to 1 over the k tokens (arXiv 2410.14940), and what the
    student gives to others is not seen. bucket: all other tokens are one more outcome, and the value is a lower bound
    of the whole divergence."""

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise UsageError(f"divergence kind {self.kind!r}", fix=f"use one of {', '.join(_KINDS)}")
        if not 0 < self.beta < 1:
            raise UsageError(f"divergence beta is {self.beta}", fix="use a weight in (0, 1); the ends are KL")
        if self.temperature <= 0:
            raise UsageError(f"divergence temperature is {self.temperature}", fix="use a positive number such as 1.0")
        if self.top_k is not None and self.top_k < 1:
            raise UsageError(f"divergence top_k is {self.top_k}", fix="use 2 or more tokens, or none for all")
        if self.top_k == 1 and self.tail == "renormalise":
            raise UsageError("divergence top_k 1 renormalised is always 0", fix="use 2 or more, or tail bucket")
        if self.tail not in ("renormalise", "bucket"):
            raise UsageError(f"divergence tail {self.tail!r}", fix="use renormalise or bucket")


def token_divergence(
    hidden: Tensor,
    head: Head,
    teacher_hidden: Tensor,
    teacher_head: Head,
    spec: Divergence,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Return the divergence at each position, float32 [M], in nats; the gradient is the student's alone.

    Args:
        hidden: [M, H], the student's states.
        head: the student's output head.
        teacher_hidden: [M, H'], the teacher's states at the same positions.
        teacher_head: the teacher's output head, over the same vocabulary.
        spec: which divergence.
        dtype: arithmetic of the matrix products; softmax and sums are always float32. Default: each model's own.

    Raises:
        UnsupportedError: heads of different vocabulary sizes.
    """
    sizes = len(head.weight), len(teacher_head.weight)
    if sizes[0] != sizes[1]:
        raise UnsupportedError(
            f"the teacher's output has {sizes[1]} columns, the model's {sizes[0]}",
            fix="take a teacher with the same tokenizer and embedding size",
        )
    teacher_hidden = teacher_hidden.detach()
    if spec.top_k is None or spec.top_k >= sizes[0]:
        given = (hidden, head.weight, head.bias, teacher_hidden, teacher_head, spec, head.scale, head.cap, dtype)
        return _TiledDivergence.apply(*given)
    return _supported(hidden, head, teacher_hidden, teacher_head, spec, dtype)


def _forward_kl(teacher: Tensor, student: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    weight = teacher.exp()
    return weight * (teacher - student), -weight


def _reverse_kl(teacher: Tensor, student: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    weight = student.exp()
    value = weight * (student - teacher)
    return value, value + weight


def _jsd(teacher: Tensor, student: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    mixture = torch.logaddexp(teacher + math.log(beta), student + math.log1p(-beta))
    slope = (1 - beta) * student.exp() * (student - mixture)
    return beta * teacher.exp() * (teacher - mixture) + slope, slope


_KINDS: dict[str, Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]] = {
    "forward": _forward_kl,
    "reverse": _reverse_kl,
    "jsd": _jsd,
}
"""Log-probs of both -> the value's terms, and their slopes in the student's log-probs."""


def _tiles(size: int, step: int) -> list[tuple[int, int]]:
    return [(start, min(start + step, size)) for start in range(0, size, step)]


class _TiledDivergence(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, bias, teacher_hidden, teacher_head, spec, scale, cap, dtype):
        ctx.teacher_head, ctx.spec, ctx.scale, ctx.cap, ctx.dtype = teacher_head, spec, scale, cap, dtype
        head, terms = Head(weight, bias, scale, cap), _KINDS[spec.kind]
        with torch.autocast(hidden.device.type, enabled=False):
            own, other = hidden.to(dtype or hidden.dtype), teacher_hidden.to(dtype or teacher_hidden.dtype)
            total = torch.full((len(own),), -torch.inf, dtype=torch.float32, device=hidden.device)
            teacher_total = total.clone()
            value, drift = torch.zeros_like(total), torch.zeros_like(total)
            for states, norm, one in ((own, total, head), (other, teacher_total, teacher_head)):
                for start, end in _tiles(len(weight), VOCABULARY_TILE):
                    for part in (slice(*rows) for rows in _tiles(len(own), ROW_TILE)):
                        logits = one.tile(states[part], start, end) / spec.temperature
                        norm[part] = torch.logaddexp(norm[part], torch.logsumexp(logits, -1))
            for start, end in _tiles(len(weight), VOCABULARY_TILE):
                for part in (slice(*rows) for rows in _tiles(len(own), ROW_TILE)):
                    student = head.tile(own[part], start, end) / spec.temperature - total[part, None]
                    teacher = teacher_head.tile(other[part], start, end) / spec.temperature - teacher_total[part, None]
                    found, slope = terms(teacher, student, spec.beta)
                    value[part] += found.sum(-1)
                    drift[part] += slope.sum(-1)
        ctx.save_for_backward(hidden, weight, bias, teacher_hidden, total, teacher_total, drift)
        return value

    @staticmethod
    def backward(ctx, grad):
        hidden, weight, bias, teacher_hidden, total, teacher_total, drift = ctx.saved_tensors
        spec, head, terms = ctx.spec, Head(weight, bias, ctx.scale, ctx.cap), _KINDS[ctx.spec.kind]
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        # A gradient that nobody wants has no rows.
        grad_hidden = hidden.new_zeros(hidden.shape if wants_hidden else (0,), dtype=torch.float32)
        grad_weight = torch.empty_like(weight) if wants_weight else weight.new_empty(0)
        grad_bias = torch.empty_like(bias) if wants_bias else weight.new_empty(0)
        with torch.autocast(hidden.device.type, enabled=False):
            own, other = hidden.to(ctx.dtype or hidden.dtype), teacher_hidden.to(ctx.dtype or teacher_hidden.dtype)
            for start, end in _tiles(len(weight), VOCABULARY_TILE):
                tile = weight[start:end].to(own.dtype)
                tile_grad = torch.zeros(tile.shape, dtype=torch.float32, device=hidden.device)
                bias_grad = torch.zeros(end - start, dtype=torch.float32, device=hidden.device)
                for part in (slice(*rows) for rows in _tiles(len(own), ROW_TILE)):
                    logits = head.tile(own[part], start, end)
                    student = logits / spec.temperature - total[part, None]
                    teacher = ctx.teacher_head.tile(other[part], start, end) / spec.temperature
                    _, slope = terms(teacher - teacher_total[part, None], student, spec.beta)
                    wanted = (slope - student.exp() * drift[part, None]) * (grad[part, None] / spec.temperature)
                    wanted = wanted * head.slope(logits)
                    if wants_bias:
                        bias_grad += wanted.sum(0)
                    wanted = wanted.to(own.dtype)
                    if wants_hidden:
                        grad_hidden[part] += wanted @ tile
                    if wants_weight:
                        tile_grad += wanted.T @ own[part]
                if wants_weight:
                    grad_weight[start:end] = tile_grad
                if wants_bias:
                    grad_bias[start:end] = bias_grad
        found = (grad_hidden.to(hidden.dtype), grad_weight, grad_bias)
        wanted = (wants_hidden, wants_weight, wants_bias)
        return *(g if w else None for g, w in zip(found, wanted)), *([None] * 6)


def _supported(
    hidden: Tensor,
    head: Head,
    teacher_hidden: Tensor,
    teacher_head: Head,
    spec: Divergence,
    dtype: torch.dtype | None,
) -> Tensor:
    """Compare the teacher's `top_k` tokens, a few rows at a time; a chunk's logits are made again in the backward."""

    def chunk(own: Tensor, weight: Tensor, bias: Tensor | None, other: Tensor) -> Tensor:
        size = len(weight)
        with torch.autocast(own.device.type, enabled=False):
            student = Head(weight, bias, head.scale, head.cap).tile(own.to(dtype or own.dtype), 0, size)
            with torch.no_grad():
                teacher = teacher_head.tile(other.to(dtype or other.dtype), 0, size) / spec.temperature
                kept = teacher.topk(spec.top_k or size, dim=-1).indices
            outcomes = _TAILS[spec.tail]
            pair = outcomes(teacher, kept), outcomes(student / spec.temperature, kept)
            return _KINDS[spec.kind](*pair, spec.beta)[0].sum(-1)

    step = max(1, DENSE_ELEMENTS // len(head.weight))
    parts = [slice(*rows) for rows in _tiles(len(hidden), step)]
    values = [
        checkpoint(chunk, hidden[part], head.weight, head.bias, teacher_hidden[part], use_reentrant=False)
        for part in parts
    ]
    return torch.cat(values) if values else hidden.new_zeros(0, dtype=torch.float32)  # pyright: ignore[reportArgumentType, reportCallIssue]


def _renormalised(logits: Tensor, kept: Tensor) -> Tensor:
    return logits.gather(-1, kept).log_softmax(-1)


def _bucketed(logits: Tensor, kept: Tensor) -> Tensor:
    rest = logits.scatter(-1, kept, -torch.inf).logsumexp(-1, keepdim=True)
    return torch.cat([logits.gather(-1, kept), rest], -1).log_softmax(-1)


_TAILS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"renormalise": _renormalised, "bucket": _bucketed}
"""Logits [M, V] and the kept tokens [M, k] -> log-probs of the outcomes that are compared."""
