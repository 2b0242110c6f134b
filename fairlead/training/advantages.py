"""What completions are worth beside others: baselines, scales, and generalised advantage estimation.

Pure functions of tensors. A NaN among rewards is a completion that nothing could value: it takes no part in any mean,
and its advantage is 0.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from fairlead.errors import UsageError

__all__ = [
    "Baseline",
    "Scale",
    "combined",
    "gae",
    "group_advantages",
    "group_mean",
    "group_std",
    "overlong_penalty",
    "token_rewards",
    "whitened",
]

Baseline = Literal["none", "group", "leave_one_out", "batch", "moving_average", "value", "best"]
Scale = Literal["none", "group", "batch", "whiten"]

EPSILON = 1e-4
"""Added to standard deviations before dividing by them."""


def group_mean(values: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of each row's group [N] and how many of the group count, [N]; NaN rows are left out."""
    number, index = _indices(group)
    known = ~values.isnan()
    totals = values.new_zeros(number).index_add_(0, index, torch.where(known, values, 0.0))
    counts = values.new_zeros(number).index_add_(0, index, known.to(values.dtype))
    return (totals / counts.clamp_min(1))[index], counts[index]


def group_std(values: Tensor, group: Tensor) -> Tensor:
    """Return the sample standard deviation (n - 1) of each row's group, [N]; 0 where fewer than two count."""
    mean, count = group_mean(values, group)
    squares, _ = group_mean((values - mean) ** 2, group)
    return (squares * count / (count - 1).clamp_min(1)).sqrt()


def group_advantages(rewards: Tensor, group: Tensor, *, baseline: Baseline = "group", scale: Scale = "group") -> Tensor:
    """Return how much more each completion is worth than its baseline, [N].

    Args:
        rewards: float [N], NaN where a completion could not be valued.
        group: int64 [N].
        baseline: `group` the mean of its prompt's completions (GRPO, arXiv 2402.03300), `leave_one_out` that of the
            others of its group (RLOO, 2402.14740), `batch` that of all rows, `none` zero. `best` is no baseline: the
            best completion of each group is worth 1, the others 0, and nothing is scaled (RAFT, 2304.06767).
        scale: `group` divides by the group's standard deviation + 1e-4 (sample, n - 1), `batch` by that of all rows,
            others by nothing.
    """
    mean, count = group_mean(rewards, group)
    one = torch.zeros_like(group)
    if baseline == "best":
        return _best(rewards, group)
    baselines = {
        "none": lambda: torch.zeros_like(rewards),
        "group": lambda: mean,
        "leave_one_out": lambda: (mean * count - rewards) / (count - 1).clamp_min(1),
        "batch": lambda: group_mean(rewards, one)[0],
    }
    found = rewards - baselines[baseline]()
    if baseline == "leave_one_out":
        found = torch.where(count > 1, found, 0.0)
    if scale == "group":
        found = found / (group_std(rewards, group) + EPSILON)
    elif scale == "batch":
        found = found / (group_std(rewards, one) + EPSILON)
    return found.nan_to_num(0.0)


def combined(rewards: Tensor, group: Tensor, weights: Tensor, *, normalise: bool = False) -> Tensor:
    """Join R rewards [N, R] into one [N]: their weighted sum.

    With `normalise` each is first put on the scale of its own group (z-score with n - 1 and + 1e-4), as GDPO does
    before it standardises the sum over the batch. A reward that abstains adds nothing; NaN where all abstain.
    """
    if normalise:
        columns = [
            torch.where(column.isnan(), column, group_advantages(column, group)) for column in rewards.unbind(-1)
        ]
        rewards = torch.stack(columns, dim=-1)
    known = ~rewards.isnan()
    total = (torch.where(known, rewards, 0.0) * weights).sum(-1)
    return torch.where(known.any(-1), total, torch.nan)


def token_rewards(score: Tensor, mask: Tensor, penalty: Tensor | None = None) -> Tensor:
    """Return per-token rewards [N, T]: minus a penalty at every token, and the score [N] at the last one.

    Args:
        score: [N]; a completion without one (NaN) gets none.
        mask: bool [N, T].
        penalty: [N, T], such as beta (logp_old - logp_ref); None for none.
    """
    rewards = torch.zeros(mask.shape, dtype=score.dtype, device=mask.device)
    if penalty is not None:
        rewards = torch.where(mask, rewards - penalty, 0.0)
    last = (mask * torch.arange(mask.shape[1], device=mask.device)).argmax(-1)
    rewards[torch.arange(len(score), device=mask.device), last] += score.nan_to_num(0.0)
    return rewards


def gae(
    rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float = 1.0, decay: float = 0.95
) -> tuple[Tensor, Tensor]:
    """Return generalised advantage estimates and returns, [N, T] each (arXiv 1506.02438, equation 16).

    Args:
        rewards: [N, T], per token.
        values: [N, T], expected before each token; behind a completion's last token it is 0.
        mask: bool [N, T].
        gamma: discount per token.
        decay: lambda, the weight of later differences.
    """
    found = torch.zeros_like(values)
    following = values.new_zeros(len(values))
    carried = values.new_zeros(len(values))
    for t in range(values.shape[1] - 1, -1, -1):
        here = mask[:, t]
        delta = rewards[:, t] + gamma * following - values[:, t]
        carried = torch.where(here, delta + gamma * decay * carried, carried)
        following = torch.where(here, values[:, t], following)
        found[:, t] = torch.where(here, carried, 0.0)
    return found, torch.where(mask, found + values, 0.0)


def whitened(values: Tensor, mask: Tensor) -> Tensor:
    """Return values [N, T] with mean 0 and variance 1 (n - 1, + 1e-8) over the masked tokens, 0 elsewhere."""
    known = values[mask]
    if len(known) < 2:
        return torch.zeros_like(values)
    spread = (known.var(unbiased=True) + 1e-8).sqrt()
    return torch.where(mask, (values - known.mean()) / spread, 0.0)


def overlong_penalty(lengths: Tensor, limit: int, cache: int) -> Tensor:
    """Return what is added to the reward of long completions (DAPO, arXiv 2503.14476, equation 13), float64 [N].

    0 up to `limit - cache` tokens, then down a line to -1 at `limit`, and -1 beyond.
    """
    if not 0 < cache <= limit:
        raise UsageError(f"overlong is {cache}, and completions have at most {limit} tokens", fix="use a smaller one")
    over = (limit - cache) - lengths.double()
    return torch.where(lengths > limit, -1.0, (over / cache).clamp(-1.0, 0.0))


def _best(rewards: Tensor, group: Tensor) -> Tensor:
    """Return 1 for the best completion of each group, the first of equals, and 0 for the others."""
    number, index = _indices(group)
    order = sorted(range(len(rewards)), key=lambda row: (-float(rewards[row].nan_to_num(-torch.inf)), row))
    found, taken = torch.zeros_like(rewards), [False] * number
    for row in order:
        if not taken[int(index[row])] and not rewards[row].isnan():
            taken[int(index[row])], found[row] = True, 1.0
    return found


def _indices(group: Tensor) -> tuple[int, Tensor]:
    known, index = torch.unique(group, return_inverse=True)
    return len(known), index
