"""Teacher-forced log-probs of many completions: prompts that are the same are computed once, rows are packed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from fairlead.forward.layout import Branch, Group, lay_out, pack
from fairlead.forward.policy import Policy

__all__ = ["Row", "score"]


@dataclass(frozen=True)
class Row:
    """One completion to be scored."""

    prompt: tuple[int, ...]
    """Token ids, at least one."""
    completion: Sequence[int]
    """Token ids, at least one."""
    scored: Sequence[bool]
    """Per completion token: whether its log-prob is wanted."""

    def __len__(self) -> int:
        return len(self.prompt) + len(self.completion)


@torch.no_grad()
def score(policy: Policy, rows: Sequence[Row], budget: int) -> list[np.ndarray]:
    """Return the wanted log-probs of each row, float32 [T_i], nats.

    Args:
        policy: the model in evaluation mode; its `layout` says how rows share a forward.
        rows: in any order; the result is in the same.
        budget: most tokens of one forward; a longer row gets a forward of its own.
    """
    members = _same_prompt(rows, budget)
    groups = [_group(str(g), [rows[k] for k in numbers]) for g, numbers in enumerate(members)]
    device = next(policy.parameters()).device
    found: dict[int, np.ndarray] = {}
    for together in pack(groups, budget, policy.layout):
        batch = lay_out([groups[g] for g in together], policy.layout).to(device)
        values = policy(batch).logprobs
        lines = zip(values.float().cpu().numpy(), batch.mask.cpu().numpy())
        numbers = [k for g in together for k in members[g]]
        found |= {k: line[mask] for k, (line, mask) in zip(numbers, lines)}
    return [found[k] for k in range(len(rows))]


def _same_prompt(rows: Sequence[Row], budget: int) -> list[list[int]]:
    """Put the numbers of rows with the same prompt together, as far as one forward holds them."""
    members: list[list[int]] = []
    latest: dict[tuple[int, ...], tuple[list[int], int]] = {}
    for k, row in enumerate(rows):
        numbers, size = latest.get(row.prompt, ([], len(row.prompt)))
        if not numbers or size + len(row.completion) > budget:
            numbers, size = [], len(row.prompt)
            members.append(numbers)
        numbers.append(k)
        latest[row.prompt] = (numbers, size + len(row.completion))
    return members


def _group(name: str, rows: Sequence[Row]) -> Group:
    branches = (Branch(np.array(r.completion, dtype=np.int64), np.array(r.scored, dtype=bool)) for r in rows)
    return Group(id=name, prompt=np.array(rows[0].prompt, dtype=np.int64), branches=tuple(branches))
