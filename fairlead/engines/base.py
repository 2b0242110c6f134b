"""The contract of everything that answers: prompts in, completions out.

Engines are composable: a local model, a server, a cache and every decoding-time method have this one shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

import numpy as np

from fairlead.errors import UsageError
from fairlead.messages import Message, Prompt

__all__ = ["Completion", "Engine", "FinishReason", "Message", "Prompt", "Sampling"]


class FinishReason(StrEnum):
    """Why a completion ended."""

    STOP = "stop"
    """An end-of-turn token or a stop string."""
    LENGTH = "length"
    """The token limit."""


@dataclass(frozen=True)
class Sampling:
    """How to draw completions."""

    max_tokens: int = 256
    """Most tokens per completion."""
    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0
    """Smallest set of tokens whose probabilities reach this is kept, in (0, 1]."""
    top_k: int = 0
    """Tokens kept by probability; 0 keeps all."""
    n: int = 1
    """Completions per prompt."""
    stop: tuple[str, ...] = ()
    """Texts that end a completion; the text itself is not part of it."""
    seed: int = 0
    """Randomness of a completion depends on this seed, its prompt and its index alone, never on its batch."""
    logprobs: bool = False
    """Whether completions carry per-token log-probs (nats, of the untempered distribution)."""

    def __post_init__(self) -> None:
        checks = [
            ("max_tokens", self.max_tokens >= 1, ">= 1"),
            ("temperature", self.temperature >= 0, ">= 0"),
            ("top_p", 0 < self.top_p <= 1, "in (0, 1]"),
            ("top_k", self.top_k >= 0, ">= 0"),
            ("n", self.n >= 1, ">= 1"),
        ]
        for name, holds, wanted in checks:
            if not holds:
                raise UsageError(f"sampling.{name} is {getattr(self, name)}", fix=f"use a value {wanted}")
        if isinstance(self.stop, str) or any(not s for s in self.stop):
            raise UsageError("sampling.stop must be a list of non-empty texts", fix='for one text use ["text"]')
        object.__setattr__(self, "stop", tuple(self.stop))


@dataclass
class Completion:
    """One answer."""

    text: str
    """The answer, without end-of-turn token and stop string."""
    token_ids: list[int] | None = None
    """Ids as sampled, the end-of-turn token included when one was drawn; None when the engine does not know."""
    logprobs: np.ndarray | None = None
    """float32 [T], nats, aligned with `token_ids`; None unless asked for."""
    finish_reason: FinishReason = FinishReason.STOP
    """Why it ended."""
    extra: dict[str, Any] = field(default_factory=dict)
    """What a decoder adds: candidates, per-token sources, token counts..."""


@runtime_checkable
class Engine(Protocol):
    """Anything that answers."""

    @property
    def fingerprint(self) -> str:
        """A text that changes whenever answers could: model weights, template, method, parameters."""
        ...

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """Return `sampling.n` completions per prompt, in the order of the prompts."""
        ...

    def logprobs(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[np.ndarray]:
        """Return teacher-forced per-token log-probs, float32 [T_i] each, end-of-turn token included.

        Raises:
            UnsupportedError: engines that cannot say so.
        """
        ...
