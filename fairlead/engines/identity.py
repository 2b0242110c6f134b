"""Which local model answered, as a text: the same from a loaded engine and from a model's files alone."""

from __future__ import annotations

import hashlib

from fairlead import models
from fairlead.render import Renderer

__all__ = ["fingerprint_of", "local_fingerprint"]


def local_fingerprint(weights: str, dtype: str, renderer: Renderer) -> str:
    """Return 64 hex digits that change with the weights, their number format, the tokenizer or its template.

    Args:
        weights: hash of the weights, as `fairlead.models.fingerprint` gives it.
        dtype: number format, such as "torch.float32".
        renderer: writes prompts in the model's template.
    """
    return hashlib.sha256("\n".join((weights, dtype, renderer.fingerprint)).encode()).hexdigest()


def fingerprint_of(model: str, dtype: str = "float32") -> str:
    """Return the fingerprint that `Local(model, dtype=dtype)` would have, without loading weights."""
    renderer = Renderer(models.load_tokenizer(model), place=model)
    return local_fingerprint(models.fingerprint(model), f"torch.{dtype}", renderer)
