"""What answers cost: an engine that counts what another one was asked and wrote."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fairlead.engines.base import Completion, Engine, Sampling
from fairlead.messages import Prompt

__all__ = ["Meter", "Spent"]


@dataclass(frozen=True)
class Spent:
    """What an engine was asked for."""

    answers: int = 0
    """Completions that it wrote."""
    tokens: int = 0
    """Tokens of these, where the engine tells them."""
    readings: int = 0
    """Completions that it scored."""

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.answers + other.answers, self.tokens + other.tokens, self.readings + other.readings)


class Meter:
    """An engine that answers as another one does, and counts.

    Args:
        engine: who answers.
    """

    def __init__(self, engine: Engine):
        self.engine = engine
        self.spent = Spent()
        self._lock = threading.Lock()

    @property
    def fingerprint(self) -> str:
        """Return the engine's own: counting changes no answer."""
        return self.engine.fingerprint

    def __getattr__(self, name: str) -> Any:
        if name == "engine":
            raise AttributeError(name)
        return getattr(self.engine, name)

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """Return what the engine answers."""
        found = self.engine.generate(prompts, sampling)
        drawn = [completion for row in found for completion in row]
        self._count(Spent(len(drawn), sum(len(c.token_ids or ()) for c in drawn)))
        return found

    def logprobs(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[np.ndarray]:
        """Return what the engine says."""
        found = self.engine.logprobs(prompts, completions)
        self._count(Spent(readings=len(found)))
        return found

    def _count(self, spent: Spent) -> None:
        with self._lock:
            self.spent = self.spent + spent
