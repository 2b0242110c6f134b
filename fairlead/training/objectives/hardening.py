"""Soft class probabilities of a whole step made hard: by a threshold that keeps the class balance, or by argmax.

Items lie in flat tensors, one entry per (item, class): `row` numbers the items, `label` their classes from 0.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fairlead.errors import UsageError

__all__ = ["balanced", "harden", "highest", "item_log_softmax", "threshold_two"]

_ROUNDS = 500
_TOLERANCE = 1e-6


def item_log_softmax(logits: Tensor, item: Tensor) -> Tensor:
    """Normalise flat logits [N] over the entries of each item, where `item` [N] numbers items from 0: log-probs [N]."""
    count = int(item.max()) + 1
    top = torch.full((count,), -torch.inf, device=logits.device).scatter_reduce(0, item, logits.detach(), "amax")
    shifted = logits - top[item]
    total = torch.zeros(count, device=logits.device).index_add(0, item, shifted.exp())
    return shifted - total.log()[item]


def threshold_two(first: Tensor, level: Tensor) -> Tensor:
    """Give every item of two classes one of them, so that class 1 has a share `level` of the items.

    An item is class 0 where its probability of class 0 reaches the `level` quantile (linear between order statistics)
    of all of them. Several items that lie exactly on the threshold are told apart by their order: the first of them
    become class 1 until that has `round(level * B)` items.

    Args:
        first: float32 [B], probability of class 0.
        level: scalar in [0, 1], the share of class 1 to keep.

    Returns:
        int64 [B]: 0 or 1.
    """
    threshold = torch.quantile(first, level)
    one = first < threshold
    tied = (first == threshold).nonzero()[:, 0]
    if len(tied) > 1:
        missing = round(float(level) * len(first)) - int(one.sum())
        one[tied[: max(missing, 0)]] = True
    return one.long()


def balanced(probabilities: Tensor, soft: Tensor) -> Tensor:
    """Give every item a class so that the classes keep the balance of the soft labels.

    Two classes: `threshold_two`. More: argmax after one weight per class is fitted so that the mean of the reweighted
    and renormalised probabilities is the mean of the soft labels (iterative proportional fitting).

    Args:
        probabilities: float32 [B, K], the student's.
        soft: float32 [B, K], the labels'.

    Returns:
        int64 [B].
    """
    wanted = soft.mean(0)
    if probabilities.shape[1] == 2:
        return threshold_two(probabilities[:, 0], wanted[1].clamp(0, 1))
    log_wanted, log_p = wanted.double().log(), probabilities.double().clamp_min(1e-300).log()
    log_weight = torch.zeros_like(log_wanted)
    for _ in range(_ROUNDS):
        mean = torch.softmax(log_p + log_weight, dim=1).mean(0)
        if (mean - wanted).abs().max() < _TOLERANCE:
            break
        change = log_wanted - mean.log()
        log_weight = torch.where(torch.isneginf(log_wanted), -torch.inf, log_weight + change)
    return (log_p + log_weight).argmax(1)


def highest(probabilities: Tensor, soft: Tensor) -> Tensor:
    """Give every item its likeliest class: int64 [B]."""
    return probabilities.argmax(1)


HARDENINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"balanced": balanced, "argmax": highest}
"""name -> function of (probabilities [B, K], soft labels [B, K])."""


def harden(how: str, row: Tensor, label: Tensor, log_p: Tensor, soft: Tensor) -> Tensor:
    """Harden flat log-probs: float32 [N], 1 on each item's class and 0 elsewhere.

    An item that occurs twice (a step across two epochs) counts once.

    Args:
        how: one of `HARDENINGS`.
        row: int64 [N], the item's number; equal numbers are one item.
        label: int64 [N], the class.
        log_p: float32 [N], the student's log-probs.
        soft: float32 [N], the labels' probabilities.

    Raises:
        UsageError: `balanced` for items with different numbers of classes.
    """
    classes = int(label.max()) + 1
    keys, place = torch.unique(row * classes + label, return_inverse=True)
    once = torch.zeros(len(keys), dtype=torch.long, device=row.device)
    once[place.flip(0)] = torch.arange(len(row), device=row.device).flip(0)
    items, item = torch.unique(row[once], return_inverse=True)
    if how == "balanced" and len(keys) != len(items) * classes:
        raise UsageError(
            "items with different numbers of classes have no common balance",
            place="weak_to_strong",
            fix="set hardening: argmax",
        )
    table = torch.full((2, len(items), classes), 0.0, device=row.device)
    table[0].index_put_((item, label[once]), log_p[once].exp())
    table[1].index_put_((item, label[once]), soft[once])
    chosen = HARDENINGS[how](table[0], table[1])
    return (chosen[item] == label[once]).float()[place]
