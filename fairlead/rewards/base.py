"""The contract of rewards: a value, or an abstention, per completion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from fairlead.errors import UsageError
from fairlead.messages import Prompt

__all__ = ["Reward", "Rewards"]


@dataclass(frozen=True)
class Rewards:
    """Values of N completions."""

    values: np.ndarray
    """float64 [N]; NaN where abstained."""
    abstained: np.ndarray
    """bool [N]; True where the reward has nothing to say."""

    def __post_init__(self) -> None:
        values = np.asarray(self.values, dtype=np.float64)
        abstained = np.asarray(self.abstained, dtype=bool)
        if values.ndim != 1 or values.shape != abstained.shape:
            raise UsageError(
                f"rewards have shapes {values.shape} (values) and {abstained.shape} (abstained)",
                fix="return one value and one flag per completion",
            )
        if not np.isfinite(values[~abstained]).all():
            raise UsageError("a reward that did not abstain is not finite", fix="abstain where there is no value")
        object.__setattr__(self, "values", np.where(abstained, np.nan, values))
        object.__setattr__(self, "abstained", abstained)

    def __len__(self) -> int:
        return len(self.values)


@runtime_checkable
class Reward(Protocol):
    """Anything that values completions."""

    def __call__(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> Rewards:
        """Value completion i as an answer to prompt i; both have length N."""
        ...
