"""Chance that depends on a record's id and a seed alone, so that the order of records and the others do not matter."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

__all__ = ["lots_of"]


def lots_of(ids: Sequence[str], seed: int) -> np.ndarray:
    """Return a number in [0, 1) per id, float64 [N]."""
    digests = (hashlib.sha256(f"{seed} {id}".encode("utf-8", "surrogatepass")).digest() for id in ids)
    return np.array([int.from_bytes(digest[:8], "big") / 2.0**64 for digest in digests])
