"""The small numbers on which the losses' known answers were computed (by a reference implementation in float32)."""

from __future__ import annotations

import torch

from fairlead.training.objectives.base import Scores

CHOSEN = [[-0.5, -1.0, -1.5], [-0.7, -0.3]]
REJECTED = [[-2.0, -2.5], [-1.0, -0.5, -0.25, -0.25]]
REFERENCE = [-3.5, -1.2, -4.0, -2.6]


def scores(policy=CHOSEN + REJECTED, reference=REFERENCE, groups=(0, 1, 0, 1), chosen=(1, 1, 0, 0)) -> Scores:
    width = max(map(len, policy))
    values, mask = torch.zeros(len(policy), width), torch.zeros(len(policy), width, dtype=torch.bool)
    for n, row in enumerate(policy):
        values[n, : len(row)] = torch.tensor(row)
        mask[n, : len(row)] = True
    sums = torch.zeros_like(values)
    sums[:, 0] = torch.tensor(reference)
    fields = {"chosen": torch.tensor(chosen, dtype=torch.bool)}
    return Scores(values.requires_grad_(), mask, torch.tensor(groups), reference=sums, fields=fields)


def mean(loss) -> float:
    return float((loss.sum / loss.count).detach())
