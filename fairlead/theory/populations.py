"""Populations whose values are known, to try an audit on: people differ within groups, labels within people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fairlead.errors import UsageError

__all__ = ["Labels", "simulate"]


@dataclass(frozen=True)
class Labels:
    """Records of what a policy is worth to people."""

    values: np.ndarray
    """0 or 1 per record [N]."""
    groups: list[str]
    """Group of the person [N]."""
    people: list[str]
    """The person [N]."""


def simulate(
    worth: Mapping[str, float],
    people: Mapping[str, int],
    *,
    labels: int = 10,
    concentration: float = 20.0,
    seed: int = 0,
) -> Labels:
    """Draw annotators and their labels.

    Args:
        worth: group -> true mean value of the policy to its people, in (0, 1).
        people: group -> annotators.
        labels: labels of each annotator.
        concentration: how alike the people of a group are: the two parameters of the Beta law of a person's own mean
            sum to it.
        seed: randomness.

    Raises:
        UsageError: a value that is not between 0 and 1, or a number below 1.
    """
    if min(labels, *people.values()) < 1 or not concentration > 0:
        raise UsageError("a number of labels or people below 1, or no concentration", fix="use 1 or more, and above 0")
    if any(not 0 < value < 1 for value in worth.values()) or set(worth) != set(people):
        raise UsageError("a group's value is not between 0 and 1, or it has no people", fix="name every group in both")
    rng = np.random.default_rng(seed)
    values, groups, names = [], [], []
    for group, mean in worth.items():
        own = rng.beta(mean * concentration, (1 - mean) * concentration, people[group])
        values.append((rng.random((people[group], labels)) < own[:, None]).astype(np.float64).ravel())
        groups += [group] * (people[group] * labels)
        names += [f"{group}-{i}" for i in range(people[group]) for _ in range(labels)]
    return Labels(np.concatenate(values), groups, names)
