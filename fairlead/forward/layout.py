"""How groups lie in memory: a prompt once, then each of its completions, several groups end to end in one row.

A completion sees its prompt and itself; its positions continue the prompt's. The same groups can also be laid out
with a prompt per completion (`packed`) or as padded rows (`padded`), which is the oracle and the fallback.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairlead.forward.attention import BlockAttention, Segment

__all__ = ["Batch", "Branch", "Group", "lay_out", "pack", "tokens"]


@dataclass(frozen=True)
class Branch:
    """One completion of a group."""

    ids: np.ndarray
    """int64 [C]."""
    trained: np.ndarray
    """bool [C]: the tokens that count."""


@dataclass(frozen=True)
class Group:
    """One prompt and its K completions."""

    id: str
    """The record's id."""
    prompt: np.ndarray
    """int64 [P], P >= 1."""
    branches: tuple[Branch, ...]
    """K completions."""
    fields: dict[str, np.ndarray | tuple[np.ndarray, ...]] = field(default_factory=dict)
    """name -> [K], a value per completion; or K arrays [C_k], a value per token."""
    reference: tuple[np.ndarray, ...] | None = None
    """float32 [C_k] each: log-probs under the reference model, 0 where a token does not count."""
    teacher: tuple[np.ndarray, ...] | None = None
    """The same under the teacher."""


@dataclass
class Batch:
    """Groups laid out for one forward pass."""

    input_ids: Tensor
    """int64 [1, L], or [N, L] when padded."""
    position_ids: Tensor
    """int64, as `input_ids`."""
    attention_mask: Tensor | None
    """int64 [N, L] when padded, else None."""
    attention: BlockAttention | None
    """What sees what in a row of several segments; None when padded."""
    source: Tensor
    """int64 [M]: flat positions whose hidden states predict the tokens that count."""
    target: Tensor
    """int64 [M]: those tokens."""
    place: Tensor
    """int64 [M]: where their log-probs go in the flattened [N, T]."""
    last: Tensor
    """int64 [N]: flat position of every completion's last token."""
    mask: Tensor
    """bool [N, T]."""
    group: Tensor
    """int64 [N]: number of the completion's group within the batch."""
    reference: Tensor | None
    """float32 [N, T] or None."""
    teacher: Tensor | None
    """float32 [N, T] or None."""
    fields: dict[str, Tensor]
    """name -> [N], or [N, T] for values per token (0 beyond a completion's end)."""

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on a device."""
        moved: dict[str, Any] = {
            name: value.to(device) if isinstance(value, Tensor | BlockAttention) else value
            for name, value in vars(self).items()
        }
        moved["fields"] = {name: value.to(device) for name, value in self.fields.items()}
        return Batch(**moved)

    @property
    def size(self) -> int:
        """Tokens that the model computes, padding included."""
        return self.input_ids.numel()


def tokens(group: Group, layout: str = "shared") -> int:
    """Return how many tokens a group takes in a layout (before padding)."""
    completions = sum(len(b.ids) for b in group.branches)
    prompts = 1 if layout == "shared" else len(group.branches)
    return prompts * len(group.prompt) + completions


def pack(groups: Sequence[Group], budget: int, layout: str = "shared") -> list[list[int]]:
    """Split groups into as few forward passes of at most `budget` tokens as first-fit decreasing finds.

    A group longer than the budget gets a pass of its own. Padded passes count the longest row of every completion.
    """
    order = sorted(range(len(groups)), key=lambda i: (-_width(groups[i]), i))
    packs: list[list[int]] = []
    used: list[tuple[int, int]] = []  # (cost so far, or rows and width when padded)
    for i in order:
        rows, width, cost = len(groups[i].branches), _width(groups[i]), tokens(groups[i], layout)
        for k, (first, second) in enumerate(used):
            grown = (first + rows, max(second, width)) if layout == "padded" else (first + cost, 0)
            if (grown[0] * grown[1] if layout == "padded" else grown[0]) <= budget:
                packs[k].append(i)
                used[k] = grown
                break
        else:
            packs.append([i])
            used.append((rows, width) if layout == "padded" else (cost, 0))
    return [sorted(p) for p in packs]


def lay_out(groups: Sequence[Group], layout: str = "shared") -> Batch:
    """Lay groups out for one forward pass.

    Args:
        groups: at least one group.
        layout: `shared` (prompt once per group), `packed` (prompt per completion, no padding) or `padded` (rows).
    """
    rows = _padded_rows(groups) if layout == "padded" else _flat_row(groups, shared=layout == "shared")
    branches = [b for g in groups for b in g.branches]
    width = max(len(b.ids) for b in branches)
    mask = np.zeros((len(branches), width), dtype=bool)
    for n, branch in enumerate(branches):
        mask[n, : len(branch.ids)] = branch.trained
    scored = [np.flatnonzero(b.trained) for b in branches]
    source = [np.where(t == 0, rows.before[n], rows.start[n] + t - 1) for n, t in enumerate(scored)]
    return Batch(
        input_ids=torch.from_numpy(rows.ids),
        position_ids=torch.from_numpy(rows.positions),
        attention_mask=None if rows.attention_mask is None else torch.from_numpy(rows.attention_mask),
        attention=None if rows.segments is None else BlockAttention(rows.segments),
        source=torch.from_numpy(np.concatenate(source)),
        target=torch.from_numpy(np.concatenate([b.ids[t] for b, t in zip(branches, scored)])),
        place=torch.from_numpy(np.concatenate([n * width + t for n, t in enumerate(scored)])),
        last=torch.from_numpy(np.array([rows.start[n] + len(b.ids) - 1 for n, b in enumerate(branches)])),
        mask=torch.from_numpy(mask),
        group=torch.from_numpy(np.repeat(np.arange(len(groups)), [len(g.branches) for g in groups])),
        reference=_padded([g.reference for g in groups], mask.shape),
        teacher=_padded([g.teacher for g in groups], mask.shape),
        fields=_columns(groups, mask.shape),
    )


@dataclass
class _Rows:
    ids: np.ndarray
    positions: np.ndarray
    start: list[int]
    """Flat position of every completion's first token."""
    before: list[int]
    """Flat position of the token that predicts it: the prompt's last."""
    attention_mask: np.ndarray | None = None
    segments: list[Segment] | None = None


def _flat_row(groups: Sequence[Group], *, shared: bool) -> _Rows:
    ids: list[np.ndarray] = []
    positions: list[np.ndarray] = []
    start: list[int] = []
    before: list[int] = []
    segments: list[Segment] = []
    at = 0
    for group in groups:
        length = len(group.prompt)
        prompt_at = at
        for k, branch in enumerate(group.branches):
            if k == 0 or not shared:
                prompt_at = at
                ids.append(group.prompt)
                positions.append(np.arange(length))
                segments.append(Segment(start=at, length=length + len(branch.ids)))
                at += length
            else:
                segments.append(Segment(at, len(branch.ids), prefix_start=prompt_at, prefix_length=length))
            ids.append(branch.ids)
            positions.append(np.arange(length, length + len(branch.ids)))
            start.append(at)
            before.append(prompt_at + length - 1)
            at += len(branch.ids)
    return _Rows(
        np.concatenate(ids)[None].astype(np.int64), np.concatenate(positions)[None], start, before, segments=segments
    )


def _padded_rows(groups: Sequence[Group]) -> _Rows:
    rows = [np.concatenate([g.prompt, b.ids]) for g in groups for b in g.branches]
    prompts = [len(g.prompt) for g in groups for _ in g.branches]
    width = max(len(r) for r in rows)
    ids = np.zeros((len(rows), width), dtype=np.int64)
    attention_mask = np.zeros_like(ids)
    for n, row in enumerate(rows):
        ids[n, : len(row)] = row
        attention_mask[n, : len(row)] = 1
    start = [n * width + p for n, p in enumerate(prompts)]
    positions = np.broadcast_to(np.arange(width), ids.shape).copy()
    return _Rows(ids, positions, start, [s - 1 for s in start], attention_mask=attention_mask)


def _padded(logprobs: Sequence[tuple[np.ndarray, ...] | None], shape: tuple[int, ...]) -> Tensor | None:
    if any(rows is None for rows in logprobs):
        return None
    values = np.zeros(shape, dtype=np.float32)
    for n, row in enumerate(row for rows in logprobs for row in rows or ()):
        values[n, : len(row)] = row
    return torch.from_numpy(values)


def _columns(groups: Sequence[Group], shape: tuple[int, ...]) -> dict[str, Tensor]:
    names = sorted(set.intersection(*(set(g.fields) for g in groups)))
    return {name: torch.from_numpy(_column([g.fields[name] for g in groups], shape)) for name in names}


def _column(parts: Sequence[np.ndarray | tuple[np.ndarray, ...]], shape: tuple[int, ...]) -> np.ndarray:
    rows = [row for part in parts for row in part]
    if not isinstance(parts[0], tuple):
        return np.array(rows)
    values = np.zeros(shape, dtype=rows[0].dtype)
    for n, row in enumerate(rows):
        values[n, : len(row)] = row
    return values


def _width(group: Group) -> int:
    return len(group.prompt) + max(len(b.ids) for b in group.branches)
