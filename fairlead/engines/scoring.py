"""Teacher-forced log-probs of many completions: prompts that are the same are computed once, rows are packed."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from fairlead.forward.layout import Branch, Group, lay_out, pack
from fairlead.forward.policy import Policy

__all__ = ["Row", "score", "together"]


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
    lengths = [len(row.prompt) for row in rows], [len(row.completion) for row in rows]
    members = together([row.prompt for row in rows], *lengths, budget)
    groups = [_group(str(g), [rows[k] for k in numbers]) for g, numbers in enumerate(members)]
    device = next(policy.parameters()).device
    found: dict[int, np.ndarray] = {}
    for picked in pack(groups, budget, policy.layout):
        batch = lay_out([groups[g] for g in picked], policy.layout).to(device)
        values = policy(batch).logprobs
        lines = zip(values.float().cpu().numpy(), batch.mask.cpu().numpy())
        numbers = [k for g in picked for k in members[g]]
        found |= {k: line[mask] for k, (line, mask) in zip(numbers, lines)}
    return [found[k] for k in range(len(rows))]


def together(
    keys: Sequence[Hashable], prompts: Sequence[int], completions: Sequence[int], budget: int
) -> list[list[int]]:
    """Return groups of rows that have the same prompt, by their numbers, as far as one forward holds them.

    Args:
        keys: a row's prompt.
        prompts: its length in tokens.
        completions: the length of what follows it.
        budget: most tokens of one forward; a longer row is a group of its own.
    """
    members: list[list[int]] = []
    latest: dict[Hashable, tuple[list[int], int]] = {}
    for k, (key, prompt, completion) in enumerate(zip(keys, prompts, completions, strict=True)):
        numbers, size = latest.get(key, ([], prompt))
        if not numbers or size + completion > budget:
            numbers, size = [], prompt
            members.append(numbers)
        numbers.append(k)
        latest[key] = (numbers, size + completion)
    return members


def _group(name: str, rows: Sequence[Row]) -> Group:
    branches = (Branch(np.array(r.completion, dtype=np.int64), np.array(r.scored, dtype=bool)) for r in rows)
    return Group(id=name, prompt=np.array(rows[0].prompt, dtype=np.int64), branches=tuple(branches))
