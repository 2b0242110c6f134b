"""The contract of rewards: a value, or an abstention, per completion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from fairlead.errors import UsageError
from fairlead.messages import Prompt

__all__ = ["Bounded", "Reward", "RewardSpec", "Rewards", "check_lengths"]

RewardSpec: TypeAlias = Annotated[Any, "a reward"]
"""Who values: a catalog name, a mapping of `name` and fields, or a reward."""


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
    """Anything that values completions.

    A reward whose class says in `adjustable: ClassVar[tuple[str, ...]]` which fields anybody may set can be named by
    those who are served: it reads no file, asks no model and runs nobody's code.
    """

    def __call__(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> Rewards:
        """Value completion i as an answer to prompt i; both have length N."""
        ...


@runtime_checkable
class Bounded(Protocol):
    """A reward that can tell from how a completion begins what it can still come to: a search need not look further."""

    def bounds(self, prompts: Sequence[Prompt], beginnings: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the least and the greatest value, float64 [N], of completions of prompt i that begin with text i.

        They hold for the beginning itself too. Its last word may still go on. NaN where the reward would abstain.
        """
        ...


def check_lengths(prompts: Sequence[Prompt], completions: Sequence[str]) -> None:
    """Refuse lists of different lengths.

    Raises:
        UsageError: not one prompt per completion.
    """
    if len(prompts) != len(completions):
        raise UsageError(
            f"{len(prompts)} prompts but {len(completions)} completions", fix="give one prompt per completion"
        )
