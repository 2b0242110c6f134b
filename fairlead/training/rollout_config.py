"""How an online run draws its completions and who values them: the `rollout` of a training step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fairlead.engines.base import Sampling
from fairlead.errors import UsageError

__all__ = ["RolloutConfig"]

_SAMPLING = ("max_tokens", "temperature", "top_p", "top_k", "min_p", "stop")


@dataclass(frozen=True)
class RolloutConfig:
    """Completions per prompt, how they are drawn, what values them, and how long they are trained on."""

    reward: str | dict[str, Any] | None = None
    """Catalog name of the reward, or a mapping of `name` and its fields."""
    rewards: dict[str, Any] = field(default_factory=dict)
    """Several rewards instead, by names of your own."""
    n: int = 8
    """Completions per prompt."""
    max_tokens: int = 256
    """Most tokens of a completion."""
    temperature: float = 1.0
    """Of drawing, and of the log-probs that are trained."""
    top_p: float = 1.0
    """Smallest set of tokens whose probabilities reach this is kept; below 1 the log-probs are not of what is drawn."""
    top_k: int = 0
    """Tokens kept by probability; 0 keeps all. Above 0 the log-probs are not of what is drawn."""
    min_p: float = 0.0
    """Tokens less likely than this share of the likeliest one's probability are not drawn; 0 keeps all."""
    stop: tuple[str, ...] = ()
    """Texts that end a completion."""
    server: str | None = None
    """Draw from an OpenAI-style server, "URL#model", instead of the policy; its weights are its own business, so set
    the objective's `correction`."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of the weights that draw; bfloat16 draws from a copy of the policy."""
    steps: int = 1
    """Optimizer steps that share a rollout: it takes `batch_size` prompts for each."""
    updates: int = 1
    """Passes over each rollout."""
    rounds: int = 4
    """Where prompts without differences are replaced: most draws for one rollout; what is missing then is told."""
    max_rows: int = 256
    """Most completions drawn at a time."""

    def __post_init__(self) -> None:
        if (self.reward is None) == (not self.rewards):
            raise UsageError(
                "train.rollout needs a reward", fix="set reward, or rewards: {NAME: reward, ...} for several"
            )
        for name in ("n", "steps", "updates", "rounds", "max_rows"):
            if getattr(self, name) < 1:
                raise UsageError(f"train.rollout.{name} is {getattr(self, name)}", fix="use at least 1")
        if self.temperature <= 0:
            raise UsageError(
                f"train.rollout.temperature is {self.temperature}: all completions would be the same",
                fix="use a temperature above 0",
            )
        _ = self.sampling(0)

    @property
    def named(self) -> Mapping[str, Any]:
        """The rewards by name; one alone is called `reward`."""
        return self.rewards or {"reward": self.reward}

    @property
    def steps_each(self) -> int:
        """Optimizer steps from one rollout to the next."""
        return self.steps * self.updates

    def sampling(self, seed: int, n: int | None = None) -> Sampling:
        """Return how completions are drawn."""
        values = {name: getattr(self, name) for name in _SAMPLING}
        return Sampling(**values, n=n or self.n, seed=seed, logprobs=True)
