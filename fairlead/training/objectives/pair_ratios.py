"""What a preference loss may do to log-ratios before it compares them: other divergences, token and pair weights."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from fairlead.training.objectives.base import token_means

__all__ = ["DIVERGENCES", "alpha", "forward_kl", "js", "own_likelihood", "reverse_kl", "shared_length_weights"]

_MOST = 80.0
"""Largest exponent: exp of it, squared or not, is still a float32 or an honest infinity, never 0 * inf."""


def reverse_kl(x: Tensor, coefficient: float) -> Tensor:
    """Return the log-ratio as it is: DPO."""
    return x


def forward_kl(x: Tensor, coefficient: float) -> Tensor:
    """Return 1 - 1 / ratio."""
    return 1 - torch.exp((-x).clamp_max(_MOST))


def js(x: Tensor, coefficient: float) -> Tensor:
    """Return log 2 + log sigmoid(x), Jensen-Shannon's."""
    return math.log(2) + F.logsigmoid(x)


def alpha(x: Tensor, coefficient: float) -> Tensor:
    """Return (ratio ** (c - 1) - 1) / (c - 1), whose limit at c = 1 is the log-ratio itself."""
    if coefficient == 1:
        return x
    return torch.expm1(((coefficient - 1) * x).clamp_max(_MOST)) / (coefficient - 1)


DIVERGENCES: dict[str, Callable[[Tensor, float], Tensor]] = {f.__name__: f for f in (reverse_kl, forward_kl, js, alpha)}
"""name -> f'(ratio) of the divergence f as a function of the log-ratio [P] and a coefficient (arXiv 2309.16240)."""


def shared_length_weights(mask: Tensor, chosen: Tensor, rejected: Tensor, beyond: float) -> Tensor:
    """Weigh tokens by whether both completions of their pair are as long (arXiv 2409.06411).

    Args:
        mask: bool [N, T], the trained tokens.
        chosen, rejected: row numbers [P].
        beyond: weight of the trained tokens that the longer one has more.

    Returns:
        float32 [N, T]
    """
    length = mask.sum(-1)
    shared = torch.empty_like(length)
    shared[chosen] = shared[rejected] = torch.minimum(length[chosen], length[rejected])
    position = mask.cumsum(-1)  # the first trained token has position 1
    return torch.where(position <= shared[:, None], 1.0, beyond)


def own_likelihood(policy: Tensor, collision: Tensor, mask: Tensor) -> Tensor:
    """Return how likely the policy finds each completion, against what it would say itself (arXiv 2406.11827).

    The mean over tokens of log p_t - log sum_v p_v^2, without gradient: float32 [N], to be exponentiated.
    """
    return token_means(policy.detach() - collision, mask)
