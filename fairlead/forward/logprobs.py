"""Per-token log-probs from hidden states in vocabulary tiles: a [tokens, vocabulary] tensor is never alive.

The forward keeps a running log-sum-exp; the backward makes each tile of logits again. The vocabulary is the outer
loop there, so every tile of the weight's gradient is written once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Head", "token_collisions", "token_logprobs"]

ROW_TILE = 512
VOCABULARY_TILE = 1024
"""512 x 1024 float32 logits are 2 MiB, which stays in a core's second-level cache."""


@dataclass(frozen=True)
class Head:
    """How a model turns hidden states into logits: z = scale * (h W' + b), cap * tanh(z / cap), over temperature."""

    weight: Tensor
    """[V, H]."""
    bias: Tensor | None = None
    """[V]."""
    scale: float = 1.0
    """Factor on the logits."""
    cap: float | None = None
    """Soft cap on the logits."""
    temperature: float = 1.0
    """What the finished logits are divided by."""

    def part(self, start: int, end: int, dtype: torch.dtype) -> Head:
        """Return the head of some of the vocabulary, its weight in `dtype`."""
        bias = None if self.bias is None else self.bias[start:end].float()
        return Head(self.weight[start:end].to(dtype), bias, self.scale, self.cap, self.temperature)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return float32 logits [M, V] of hidden states [M, H], which have the weight's dtype."""
        logits = (hidden @ self.weight.T).float()
        return self.finished(logits if self.bias is None else logits + self.bias)

    def finished(self, logits: Tensor) -> Tensor:
        """Return logits of h W' + b."""
        if self.scale != 1.0:
            logits = logits * self.scale
        if self.cap is not None:
            logits = self.cap * torch.tanh(logits / self.cap)
        return logits if self.temperature == 1.0 else logits / self.temperature

    def tile(self, hidden: Tensor, start: int, end: int) -> Tensor:
        """Return float32 logits [M, end - start] of hidden states [M, H], computed in their dtype."""
        return self.part(start, end, hidden.dtype).logits(hidden)

    def slope(self, logits: Tensor) -> Tensor | float:
        """Return d(logits) / d(h W' + b), from the logits themselves."""
        factor = self.scale / self.temperature
        return factor if self.cap is None else factor * (1.0 - (logits * self.temperature / self.cap) ** 2)


def token_logprobs(hidden: Tensor, head: Head, targets: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
    """Return the log-prob of each target token, float32 [M], in nats.

    Args:
        hidden: [M, H], the states that predict the targets.
        head: the model's output head.
        targets: int64 [M].
        dtype: arithmetic of the matrix products; softmax and sums are always float32. Default: that of `hidden`.
    """
    shape = (head.scale, head.cap, head.temperature)
    return _TiledLogProbs.apply(hidden, head.weight, head.bias, targets, shape, dtype or hidden.dtype)


@torch.no_grad()
def token_collisions(hidden: Tensor, head: Head, *, dtype: torch.dtype | None = None) -> Tensor:
    """Return log sum_v p_v^2 of the distribution at each position, float32 [M]: how likely two draws agree.

    Arguments as in `token_logprobs`; there is no gradient.
    """
    with torch.autocast(hidden.device.type, enabled=False):
        states = hidden.to(dtype or hidden.dtype)
        total = torch.full((len(states),), -torch.inf, dtype=torch.float32, device=hidden.device)
        squares = total.clone()
        for start, end in _vocabulary_tiles(len(head.weight)):
            tile = head.part(start, end, states.dtype)
            for part in _row_tiles(len(states)):
                logits = tile.logits(states[part])
                total[part] = torch.logaddexp(total[part], torch.logsumexp(logits, -1))
                squares[part] = torch.logaddexp(squares[part], torch.logsumexp(2 * logits, -1))
    return squares - 2 * total


def _vocabulary_tiles(size: int) -> list[tuple[int, int]]:
    return [(start, min(start + VOCABULARY_TILE, size)) for start in range(0, size, VOCABULARY_TILE)]


def _row_tiles(size: int) -> list[slice]:
    return [slice(start, min(start + ROW_TILE, size)) for start in range(0, size, ROW_TILE)]


def _log_sum_exp(logits: Tensor) -> Tensor:
    """Return the log-sum-exp of every row; log_softmax is one pass over a row where logsumexp makes four."""
    return logits[:, 0] - torch.log_softmax(logits, -1)[:, 0]


def _in_tile(targets: Tensor, start: int, end: int) -> tuple[Tensor, Tensor]:
    """Return which rows have their target in the tile, and those targets' columns."""
    rows = ((targets >= start) & (targets < end)).nonzero().squeeze(-1)
    return rows, targets[rows] - start


class _TiledLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, bias, targets, shape, dtype):
        ctx.shape, ctx.dtype = shape, dtype
        head = Head(weight, bias, *shape)
        with torch.autocast(hidden.device.type, enabled=False):
            states = hidden.to(dtype)
            total = torch.full((len(states),), -torch.inf, dtype=torch.float32, device=hidden.device)
            picked = torch.zeros_like(total)
            for start, end in _vocabulary_tiles(len(weight)):
                tile = head.part(start, end, dtype)
                for part in _row_tiles(len(states)):
                    logits = tile.logits(states[part])
                    total[part] = torch.logaddexp(total[part], _log_sum_exp(logits))
                    rows, columns = _in_tile(targets[part], start, end)
                    picked[part][rows] = logits[rows, columns]
        ctx.save_for_backward(hidden, weight, bias, targets, total)
        return picked - total

    @staticmethod
    def backward(ctx, grad):
        hidden, weight, bias, targets, total = ctx.saved_tensors
        head = Head(weight, bias, *ctx.shape)
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        # A gradient that nobody wants has no rows.
        grad_hidden = hidden.new_zeros(hidden.shape if wants_hidden else (0,), dtype=torch.float32)
        grad_weight = torch.empty_like(weight) if wants_weight else weight.new_empty(0)
        grad_bias = torch.empty_like(bias) if wants_bias else weight.new_empty(0)
        with torch.autocast(hidden.device.type, enabled=False):
            states = hidden.to(ctx.dtype)
            # The rows' gradients go into the factors beside a tile, which are smaller than the tile.
            weighed = (-grad[:, None] * hidden).to(ctx.dtype)
            for start, end in _vocabulary_tiles(len(weight)):
                tile = head.part(start, end, ctx.dtype)
                tile_grad = torch.zeros(tile.weight.shape, dtype=torch.float32, device=hidden.device)
                bias_grad = torch.zeros(end - start, dtype=torch.float32, device=hidden.device)
                for part in _row_tiles(len(states)):
                    logits = tile.logits(states[part])
                    slope = head.slope(logits)
                    surplus = logits.sub_(total[part, None]).exp_()
                    rows, columns = _in_tile(targets[part], start, end)
                    surplus[rows, columns] -= 1.0
                    if not isinstance(slope, float) or slope != 1.0:
                        surplus *= slope
                    if wants_bias:
                        bias_grad -= grad[part] @ surplus
                    surplus = surplus.to(ctx.dtype)
                    if wants_hidden:
                        grad_hidden[part] += surplus @ tile.weight
                    if wants_weight:
                        tile_grad += surplus.T @ weighed[part]
                if wants_weight:
                    grad_weight[start:end] = tile_grad
                if wants_bias:
                    grad_bias[start:end] = bias_grad
        if wants_hidden:
            grad_hidden *= -grad[:, None]
        found = (grad_hidden.to(hidden.dtype), grad_weight, grad_bias)
        wanted = (wants_hidden, wants_weight, wants_bias)
        return *(g if w else None for g, w in zip(found, wanted)), None, None, None
