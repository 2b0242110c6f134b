"""Two engines under the same attacks, request by request: what a defence changes, and whether that may be chance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fairlead.estimates import Estimate, estimate_difference, is_binary, mcnemar, per_prompt

__all__ = ["compared"]

_SUCCESS = "success_"


def compared(
    name: str, columns: Mapping[str, Any], baseline: str, others: Mapping[str, Any], confidence: float = 0.95
) -> tuple[dict[str, Estimate], dict[str, np.ndarray], list[str]]:
    """Compare attack success on the requests that have a verdict for both.

    Args:
        name: the engine with a defence.
        columns: its `success_F` per family F, float [N, n] with NaN for none.
        baseline: the engine without.
        others: its columns.
        confidence: coverage of the intervals, which are over requests.

    Returns:
        Estimates `change_F`, the columns of the same names, and a note per family: in how many requests the attack gets
        through to one of them alone, and McNemar's exact p-value where every request has one answer.
    """
    found, changes, notes = {}, {}, []
    for axis in (axis for axis in columns if axis.startswith(_SUCCESS)):
        family = axis.removeprefix(_SUCCESS)
        own, other = (np.asarray(side[axis], dtype=np.float64) for side in (columns, others))
        first, second = per_prompt(own), per_prompt(other)
        found[f"change_{family}"] = estimate_difference(first, second, confidence=confidence)
        changes[f"change_{family}"] = own - other
        kept = ~np.isnan(first - second)
        if kept.any() and is_binary(first) and is_binary(second):
            alone = int((first > second)[kept].sum()), int((second > first)[kept].sum())
            where = f"{alone[1]} against {baseline} alone, {alone[0]} against {name} alone"
            notes.append(f"{name}, {family}: of {kept.sum()} attacks {where}; exact McNemar p {mcnemar(*alone):.3g}")
    return found, changes, notes
