"""Log-odds of a probability that is given by its logarithm, without loss of precision at either end."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["log1mexp", "log_odds"]


def log1mexp(logprob: Tensor, clamp: float = 0.0) -> Tensor:
    """Return log(1 - exp(x)) for x <= 0, of the same shape.

    Args:
        logprob: x, logarithms of probabilities.
        clamp: x is taken to be at most minus this; beyond it there is no gradient. With 0, x = 0 gives -inf.
    """
    x = logprob.clamp_max(-clamp)
    near = x > -math.log(2)
    # Each branch gets values of its own half only: the other half's would put NaN into the gradient of `where`.
    close = torch.where(near, x, -1.0)
    far = torch.where(near, -1.0, x)
    return torch.where(near, torch.log(-torch.expm1(close)), torch.log1p(-torch.exp(far)))


def log_odds(logprob: Tensor, clamp: float = 0.0) -> Tensor:
    """Return log(p / (1 - p)) for logarithms of p, of the same shape; `clamp` as in `log1mexp`."""
    return logprob - log1mexp(logprob, clamp)
