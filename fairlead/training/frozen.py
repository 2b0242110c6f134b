"""Per-token log-probs under models that do not change: computed once, kept on disk, joined to the groups by position.

The file's name is a hash of everything the values depend on (model, tokens, what counts), so a stale one is never read.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from fairlead.forward.layout import Group, lay_out
from fairlead.forward.policy import Policy
from fairlead.training.order import split

__all__ = ["attach_logprobs", "cache_folder", "logprobs_key"]


def cache_folder() -> Path:
    """Return where computed values are kept: $FAIRLEAD_CACHE, else `fairlead` in the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "fairlead"
    return Path(os.environ.get("FAIRLEAD_CACHE", default))


def logprobs_key(groups: Sequence[Group], model_fingerprint: str, dtype: str) -> str:
    """Return a hash of the model, the arithmetic and every token with its loss mask."""
    digest = hashlib.sha256(f"{model_fingerprint}|{dtype}".encode())
    for group in groups:
        for array in (group.prompt, *(a for b in group.branches for a in (b.ids, b.trained))):
            digest.update(len(array).to_bytes(4, "little") + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def attach_logprobs(
    groups: Sequence[Group],
    under: Literal["reference", "teacher"],
    policy: Callable[[], Any],
    accelerator: Any,
    *,
    key: str,
    micro_tokens: int,
) -> list[Group]:
    """Return the groups with the log-probs that a model gives their completions.

    Args:
        groups: in the order of the data.
        under: which of a group's columns they become; the reference is the policy without its adapter.
        policy: returns the `Policy`, possibly prepared by accelerate; called only where nothing is on disk.
        accelerator: accelerate's, for ranks and devices.
        key: from `logprobs_key`.
        micro_tokens: budget of one forward pass.
    """
    path = cache_folder() / "logprobs" / f"{key}.npy"
    if not path.is_file():
        rows = _compute(groups, policy(), accelerator, micro_tokens, bare=under == "reference")
        if accelerator.is_main_process:
            _write(path, np.concatenate(rows))
        accelerator.wait_for_everyone()
    flat = np.load(path)
    joined, at = [], 0
    for group in groups:
        values = []
        for branch in group.branches:
            values.append(flat[at : at + len(branch.ids)])
            at += len(branch.ids)
        joined.append(replace(group, **{under: tuple(values)}))
    return joined


@torch.no_grad()
def _compute(
    groups: Sequence[Group], policy: Any, accelerator: Any, micro_tokens: int, *, bare: bool
) -> list[np.ndarray]:
    from accelerate.utils import gather_object

    plain: Policy = accelerator.unwrap_model(policy)
    share: list[tuple[int, list[np.ndarray]]] = []
    passes = split(groups, micro_tokens, plain.layout, rank=accelerator.process_index, ranks=accelerator.num_processes)
    for one in passes:
        batch = lay_out([groups[i] for i in one.groups], plain.layout).to(accelerator.device)
        with accelerator.autocast(), plain.without_adapter() if bare else nullcontext():
            values = policy(batch).logprobs.float().cpu().numpy()
        row = 0
        for i in one.groups:
            lengths = [len(b.ids) for b in groups[i].branches]
            share.append((i, [values[row + k, :n] for k, n in enumerate(lengths)]))
            row += len(lengths)
    found = dict(gather_object(share))
    return [values for i in range(len(groups)) for values in found[i]]


def _write(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(f".{os.getpid()}.npy")
    np.save(half, values.astype(np.float32))
    half.replace(path)
