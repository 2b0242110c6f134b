"""Steering vectors: directions in hidden states, how they are worked out from the states of pairs, and their file.

Source: Zou et al. 2023, "Representation Engineering" (arXiv 2310.01405); the principal component with its sign as used
by Wolf et al. 2024 (arXiv 2401.16332).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairlead.errors import DataError, UsageError

__all__ = [
    "METHODS",
    "SteeringVector",
    "best_layers",
    "mean_difference",
    "principal_direction",
    "separation",
    "usual_layers",
    "vector_from_states",
]


@dataclass(frozen=True)
class SteeringVector:
    """Directions of unit length in the hidden states of one model, for every layer."""

    directions: dict[int, Tensor]
    """Number of the decoder layer -> float32 [H] of length 1, which points to the positive texts."""
    norms: dict[int, float]
    """Layer -> median length of the hidden states that were read: the unit of a relative coefficient."""
    separation: dict[int, float]
    """Layer -> share of pairs of a positive and a negative text that a direction read from one half of the data orders
    right in the other half (the area under the ROC curve); NaN with fewer than 4 pairs."""
    model: str
    """Fingerprint of the model that it was read from."""
    origin: dict[str, Any] = field(default_factory=dict)
    """How it was read: the reading's settings, source and number of pairs."""

    @property
    def fingerprint(self) -> str:
        """Return 64 hex digits that change with any direction or length."""
        digest = hashlib.sha256(json.dumps([self.model, sorted(self.norms.items())]).encode())
        for layer in sorted(self.directions):
            digest.update(f"{layer}:".encode() + self.directions[layer].contiguous().numpy().tobytes())
        return digest.hexdigest()

    def save(self, path: str | Path) -> None:
        """Write a safetensors file: one tensor `layer.K` per layer, all else as JSON in its metadata."""
        from safetensors.torch import save_file

        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        about = {"model": self.model, "origin": self.origin, "norms": self.norms}
        about["separation"] = {k: None if math.isnan(v) else v for k, v in self.separation.items()}
        tensors = {f"layer.{layer}": vector.contiguous() for layer, vector in self.directions.items()}
        save_file(tensors, str(path), metadata={"fairlead": json.dumps(about), "states": "output of decoder layer"})

    @classmethod
    def load(cls, path: str | Path) -> SteeringVector:
        """Read what `save` wrote.

        Raises:
            DataError: no such file, or one that `save` did not write.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), framework="pt") as file:
                about = json.loads(file.metadata()["fairlead"])
                found = {int(key.removeprefix("layer.")): file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            directions = {layer: found[layer].float() for layer in sorted(found)}
            norms = {int(k): float(v) for k, v in about["norms"].items()}
            told = {int(k): math.nan if v is None else float(v) for k, v in about["separation"].items()}
            return cls(directions, norms, told, str(about["model"]), about["origin"])
        except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
            what = f"holds no steering vector ({type(error).__name__}: {error})"
            raise DataError(what, place=str(path), fix="write one with SteeringVector.save") from error


def vector_from_states(
    positive: Tensor,
    negative: Tensor,
    *,
    method: str,
    seed: int = 0,
    model: str = "",
    origin: Mapping[str, Any] | None = None,
) -> SteeringVector:
    """Work a vector out from hidden states, float32 [N, L, H] each, of which number i of both make a pair.

    Args:
        positive: states of the positive texts.
        negative: states of the negative texts.
        method: one of `METHODS`.
        seed: which pairs are turned round or held out.
        model: fingerprint of the model.
        origin: how the states were read.

    Raises:
        DataError: fewer than 2 pairs, or states that do not differ.
    """
    if len(positive) < 2:
        raise DataError(f"{len(positive)} pairs show no direction", place="pairs", fix="give 2 pairs or more")
    raw = METHODS[method](positive, negative, seed)
    lengths = raw.norm(dim=-1)
    if not (lengths > 0).all() or not torch.isfinite(raw).all():
        layers = torch.nonzero(~(lengths > 0)).flatten().tolist()
        fix = "read at another token (at), or check the pairs"
        raise DataError(f"the two kinds of text do not differ in layers {layers}", place="pairs", fix=fix)
    norms = torch.cat([positive, negative]).norm(dim=-1).median(0).values
    apart = separation(positive, negative, seed)
    layers = range(len(raw))
    return SteeringVector(
        {k: (raw[k] / lengths[k]).float() for k in layers},
        {k: float(norms[k]) for k in layers},
        {k: float(apart[k]) for k in layers},
        model,
        dict(origin or {}),
    )


def mean_difference(positive: Tensor, negative: Tensor) -> Tensor:
    """Return mean state of the positive minus mean state of the negative texts, [..., H] from [N, ..., H] each."""
    return positive.mean(0) - negative.mean(0)


def principal_direction(first: Tensor, second: Tensor, positive_first: Sequence[bool]) -> Tensor:
    """Return the first principal component of the pairs' differences, of length 1, pointing to the positive states.

    The differences `first - second` are centred. Their mean is the very contrast where every pair has its positive
    member first, so the orders must be mixed. The sign is the one under which the positive member's projection is the
    larger one in more pairs.

    Args:
        first: [N, H], the pairs' first members.
        second: [N, H], their second members.
        positive_first: which member is the positive one.

    Raises:
        UsageError: less than a fifth or more than four fifths of the pairs have their positive member first.
    """
    share = sum(positive_first) / len(positive_first)
    if not 0.2 <= share <= 0.8:
        what = f"{share:.0%} of the pairs have their positive member first, so centring takes the contrast away"
        raise UsageError(what, fix="turn about half of the pairs round, or use the mean difference")
    return _principal(first, second, positive_first)


def _principal(first: Tensor, second: Tensor, positive_first: Sequence[bool]) -> Tensor:
    differences = (first - second).double()
    mean = differences.mean(0)
    _, _, components = torch.linalg.svd(differences - mean, full_matrices=False)
    direction = components[0]
    ahead = ((first.double() - mean) - (second.double() - mean)) @ direction
    wins = torch.where(torch.tensor(list(positive_first)), ahead, -ahead).sign().sum()
    return (direction if wins >= 0 else -direction).to(first.dtype)


def separation(positive: Tensor, negative: Tensor, seed: int = 0) -> Tensor:
    """Return how well a mean difference read from one half of the pairs orders the other half, [L] from [N, L, H].

    The area under the ROC curve, ties counted half; NaN with fewer than 4 pairs.
    """
    if len(positive) < 4:
        return torch.full(positive.shape[1:2], math.nan)
    order = np.random.default_rng(seed).permutation(len(positive))
    half, rest = order[: len(order) // 2], order[len(order) // 2 :]
    direction = mean_difference(positive[half], negative[half])
    ours, theirs = (positive[rest] * direction).sum(-1), (negative[rest] * direction).sum(-1)
    ahead = ours[:, None] - theirs[None]
    return ((ahead > 0).float() + 0.5 * (ahead == 0).float()).mean((0, 1))


def usual_layers(depth: int) -> tuple[int, ...]:
    """Return the layers of a model of `depth` layers that are pushed by default: from 0.30 to 0.45 of its depth."""
    return tuple(range(math.floor(0.30 * depth), min(math.ceil(0.45 * depth), depth - 1) + 1))


def best_layers(separation: Mapping[int, float], depth: int) -> tuple[int, ...]:
    """Return up to 5 layers in a row, none above 0.6 of the depth, with the best mean separation; the first of equals.

    Raises:
        UsageError: a separation that is not known.
    """
    known = [layer for layer in sorted(separation) if layer <= 0.6 * depth]
    if any(math.isnan(separation[layer]) for layer in known):
        fix = "give 4 pairs or more, or name the layers"
        raise UsageError("how well the layers separate is not known", place="steering.layers", fix=fix)
    width = min(5, len(known))
    windows = [known[k : k + width] for k in range(len(known) - width + 1)]
    return tuple(max(windows, key=lambda window: math.fsum(separation[layer] for layer in window)))


def _by_means(positive: Tensor, negative: Tensor, _seed: int) -> Tensor:
    return mean_difference(positive, negative)


def _by_components(positive: Tensor, negative: Tensor, seed: int) -> Tensor:
    """Turn half of the pairs round, drawn by the seed, and take each layer's first component."""
    count = len(positive)
    kept = torch.zeros(count, dtype=torch.bool)
    kept[np.random.default_rng(seed).permutation(count)[: (count + 1) // 2]] = True
    at = kept[:, None, None]
    first, second = torch.where(at, positive, negative), torch.where(at, negative, positive)
    return torch.stack([principal_direction(first[:, k], second[:, k], kept.tolist()) for k in range(first.shape[1])])


METHODS: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "mean_difference": _by_means,
    "pca": _by_components,
}
"""Name of a method -> (positive [N, L, H], negative [N, L, H], seed) -> directions [L, H] of any length."""
