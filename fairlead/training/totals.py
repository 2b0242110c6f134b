"""Sums and counts over forward passes and ranks: the only way anything is averaged in training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fairlead.training.objectives.base import Loss

__all__ = ["Sums", "Totals"]


class Sums(dict[str, tuple[float, float]]):
    """name -> (sum, count), over all passes and ranks."""

    tensors: dict[str, tuple[Tensor, Tensor]]
    """The same as scalars on the device."""

    def means(self) -> dict[str, float]:
        """Return every sum divided by its count; NaN where nothing was counted."""
        return {name: total / count if count else math.nan for name, (total, count) in self.items()}


class Totals:
    """Adds up losses and metrics over the forward passes of one step."""

    def __init__(self) -> None:
        self.values: dict[str, Tensor] = {}

    def add(self, loss: Loss, counts: bool, tokens: int) -> None:
        """Add a pass; one that does not count only makes its names known."""
        parts: Mapping[str, tuple[Any, Any]] = {
            "loss": (loss.sum, loss.count),
            "tokens": (torch.tensor(float(tokens)), torch.tensor(1.0)),
            **loss.metrics,
        }
        for name, (total, count) in parts.items():
            pair = torch.stack([total.detach().double().cpu(), count.detach().double().cpu()]) * float(counts)
            self.values[name] = self.values[name] + pair if name in self.values else pair

    def reduce(self, accelerator: Any) -> Sums:
        """Return the totals over all ranks."""
        names = sorted(self.values)
        stacked = torch.stack([self.values[n] for n in names]).to(accelerator.device, torch.float64)
        if accelerator.num_processes > 1:
            stacked = accelerator.reduce(stacked, reduction="sum")
        sums = Sums({n: (float(pair[0]), float(pair[1])) for n, pair in zip(names, stacked)})
        sums.tensors = {n: (pair[0], pair[1]) for n, pair in zip(names, stacked)}
        return sums
