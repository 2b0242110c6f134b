"""Where the shipped models of Harbor lie: three sizes, each as base and as aligned, plain Hugging Face directories."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairlead.errors import ModelError, UnknownNameError

__all__ = ["SIZES", "Size", "model_names", "model_path", "models"]


@dataclass(frozen=True)
class Size:
    """The shape of one model: Llama, tied embeddings, 4 heads."""

    name: str
    """`300k`, `1m` or `3m`: about the number of parameters."""
    hidden: int
    """Width of the hidden states."""
    layers: int
    """Number of layers."""
    ffn: int
    """Width of the feed-forward layers."""


SIZES = (Size("300k", 96, 2, 256), Size("1m", 160, 3, 432), Size("3m", 256, 4, 640))


def model_names() -> list[str]:
    """Return the names of the shipped models, small to large, base before aligned."""
    return [f"{kind}-{size.name}" for size in SIZES for kind in ("base", "aligned")]


def model_path(name: str) -> Path:
    """Return the directory of a shipped model (`harbor:aligned-1m` is `model_path("aligned-1m")`).

    Raises:
        UnknownNameError: no such model; suggests the nearest.
        ModelError: the model's files are missing from this installation.
    """
    if name not in model_names():
        raise UnknownNameError("Harbor model", name, model_names(), place=f"harbor:{name}")
    path = Path(__file__).parent / "models" / name
    if not (path / "model.safetensors").is_file():
        raise ModelError(
            "the model's weights are not in this installation",
            place=str(path),
            fix="reinstall fairlead, or rebuild them: python -m fairlead.loops.harbor_models",
        )
    return path


def models() -> list[dict[str, Any]]:
    """Return one row per shipped model: name, directory, size in bytes and the figures measured at its making."""
    found = []
    for name in model_names():
        path = model_path(name)
        measured = path / "curve.json"
        report = json.loads(measured.read_text(encoding="utf-8")) if measured.is_file() else {}
        size = sum(file.stat().st_size for file in path.iterdir())
        found.append({"name": name, "path": str(path), "bytes": size, "measured": report.get("measured", {})})
    return found
