"""Checkpoints: everything a run needs to go on to the same bytes, written whole or not at all.

Weights, optimizer, schedule and random states are accelerate's; the step, the best evaluation and an objective's
memory lie beside them. The order of the data is a function of the step, so it needs no state.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

__all__ = ["Progress", "all_checkpoints", "latest", "load", "load_rollout", "save"]

_PROGRESS = "progress.json"
_MEMORY = "memory.safetensors"
_ROLLOUT = "rollout.pt"


@dataclass
class Progress:
    """Where a run is."""

    step: int = 0
    """Optimizer steps done."""
    tokens: int = 0
    """Trained tokens so far."""
    best_loss: float | None = None
    """Lowest evaluation loss."""
    best_step: int | None = None
    """The step it was measured after."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Metrics of the newest step and evaluation."""


def all_checkpoints(folder: Path) -> list[Path]:
    """Return the complete checkpoints below `folder`, oldest first."""
    return sorted(p.parent for p in folder.glob(f"step-*/{_PROGRESS}"))


def latest(folder: Path) -> Path | None:
    """Return the newest complete checkpoint, or None."""
    found = all_checkpoints(folder)
    return found[-1] if found else None


def save(
    folder: Path,
    accelerator: Any,
    progress: Progress,
    memory: Mapping[str, Tensor],
    *,
    keep: int,
    rollout: Mapping[str, Any] | None = None,
) -> Path:
    """Write a checkpoint and remove all but the newest `keep` and the best.

    A checkpoint appears under its name only when complete: a kill at any moment leaves the previous one in place.
    """
    target = folder / f"step-{progress.step:08d}"
    half = folder / f".half-{target.name}"
    if accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(half, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(half), safe_serialization=False)
    # Every rank writes its random state: none may still be writing when the folder gets its name.
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        save_file({k: v.detach().cpu().contiguous() for k, v in memory.items()}, half / _MEMORY)
        if rollout is not None:
            torch.save(dict(rollout), half / _ROLLOUT)
        (half / _PROGRESS).write_text(json.dumps(asdict(progress)), encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)
        half.rename(target)
        best = folder / f"step-{progress.best_step or 0:08d}"
        for old in all_checkpoints(folder)[:-keep]:
            if old != best:
                shutil.rmtree(old)
    accelerator.wait_for_everyone()
    return target


def load(checkpoint: Path, accelerator: Any) -> tuple[Progress, dict[str, Tensor]]:
    """Restore the prepared model, optimizer, schedule and random states; return progress and memory."""
    accelerator.load_state(str(checkpoint))
    progress = Progress(**json.loads((checkpoint / _PROGRESS).read_text(encoding="utf-8")))
    return progress, load_file(checkpoint / _MEMORY)


def load_rollout(checkpoint: Path) -> dict[str, Any]:
    """Return what an online run kept of its rollouts."""
    # Arrays and groups of this run's own, not of strangers.
    return torch.load(checkpoint / _ROLLOUT, weights_only=False)
