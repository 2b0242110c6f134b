"""Rewards of the Harbor world: exact on any axis, and proxies that look like them and can be fooled.

Both read the truth from the text of the prompt's last user turn, so they work on any data with Harbor's questions.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fairlead import harbor
from fairlead.errors import UnknownNameError, UsageError
from fairlead.messages import Prompt, last_question
from fairlead.rewards.base import Rewards, check_lengths

__all__ = ["HarborProxy", "HarborReward"]


@dataclass(frozen=True)
class HarborReward:
    """The exact value of an answer on one axis of Harbor.

    Abstains where the axis has no meaning for the question (politeness of a refusal, say) and where the prompt is not a
    question of Harbor's.
    """

    axis: str = "total"
    """One of `fairlead.harbor.AXES`: total, right, correct, harmless, honest, polite, brief, ..."""

    adjustable: ClassVar[tuple[str, ...]] = ("axis",)

    def __post_init__(self) -> None:
        if self.axis not in harbor.AXES:
            raise UnknownNameError("Harbor axis", self.axis, harbor.AXES, place="harbor.axis")

    def __call__(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> Rewards:
        """Value completion i as an answer to prompt i; returns N values, in the axis's own unit."""
        check_lengths(prompts, completions)
        values = [
            harbor.score(last_question(prompt), completion)[self.axis]
            for prompt, completion in zip(prompts, completions)
        ]
        return _rewards(values)


@dataclass(frozen=True)
class HarborProxy:
    """A stand-in for the exact reward that sees only an answer's surface, or a noisy view of the truth.

    `noisy_total` is the exact total plus noise; the others (see `fairlead.harbor.PROXIES`) are blind to the question.
    """

    proxy: str = "polite_count"
    """polite_count, refusal_count, length, brevity or noisy_total."""
    noise: float = 0.0
    """Standard deviation of the Gaussian noise added, in units of the proxy."""
    seed: int = 0
    """Seed of the noise; the same prompt and completion always get the same noise."""

    adjustable: ClassVar[tuple[str, ...]] = ("proxy", "noise", "seed")

    def __post_init__(self) -> None:
        known = (*harbor.PROXIES, "noisy_total")
        if self.proxy not in known:
            raise UnknownNameError("Harbor proxy", self.proxy, known, place="harbor_proxy.proxy")
        if not 0 <= self.noise < math.inf:
            what = f"noise={self.noise} is not a standard deviation"
            raise UsageError(what, place="harbor_proxy.noise", fix="use 0 or more")

    def __call__(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> Rewards:
        """Value completion i as an answer to prompt i.

        Abstains only as `noisy_total`, on questions that are not Harbor's.
        """
        check_lengths(prompts, completions)
        return _rewards([self._value(last_question(prompt), said) for prompt, said in zip(prompts, completions)])

    def _value(self, question: str, said: str) -> float:
        exact = self.proxy == "noisy_total"
        value = harbor.score(question, said)["total"] if exact else harbor.proxy(self.proxy, said)
        if self.noise:
            value += random.Random(f"{self.seed}\x1f{question}\x1f{said}").gauss(0.0, self.noise)
        return value


def _rewards(values: list[float]) -> Rewards:
    array = np.asarray(values, dtype=np.float64)
    return Rewards(array, np.isnan(array))
