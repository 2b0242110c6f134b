"""How a retriever of guidelines is trained; apart from the training, so that reading it loads nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from fairlead.errors import UsageError

__all__ = ["Pooling", "RetrieverConfig", "Similarity"]

Pooling = Literal["cls", "mean", "last"]
"""What becomes of the hidden states [T, H] of a text: the first, their mean, or the last."""
Similarity = Literal["dot", "cosine"]
"""How two vectors are compared."""


@dataclass(frozen=True)
class RetrieverConfig:
    """How a retriever is trained."""

    model: str
    """The encoder to begin with: `harbor:NAME`, a folder or hub id of any transformer or sentence-embedding model."""
    library: Any
    """Guidelines with the requests that they were written for (`sources`): a JSON Lines file, `harbor:guidelines`, or a
    list."""
    evaluation_data: str | None = None
    """Held-out requests with their guidelines, in the form of a library; by default `held_out` of the library's own."""
    held_out: float = 0.1
    """Share of the library's requests that is kept for evaluation where there is no `evaluation_data`."""
    encoders: Literal["two", "one"] = "two"
    """Whether requests and guidelines have an encoder each, as in the paper, or share one."""
    pooling: Literal["cls", "mean", "last"] | None = None
    """What becomes of a text's hidden states: the first (cls), as in the paper, their mean, or the last; by default
    what the model's folder says, else cls. Causal models want mean or last."""
    similarity: Literal["dot", "cosine"] = "dot"
    """How vectors are compared; dot is the paper's. Scores of cosine stay within -1 and 1, so they suit a threshold."""
    scale: float | None = None
    """What similarities are multiplied by in the loss; by default 1 for dot (the paper's) and 20 for cosine."""
    max_length: int = 256
    """Tokens of a text that are read; longer texts are cut, and counted."""
    batch_size: int = 32
    """Questions per step."""
    epochs: int = 10
    """How often every question is seen, each time with another of its own guidelines."""
    learning_rate: float = 1e-5
    """Highest step size of Adam."""
    warmup_steps: int = 1000
    """Steps over which the step size rises, but at most a tenth of all; it falls to 0 afterwards, both in a line."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    hard_negatives: int = 0
    """Guidelines of others per question that its words would find."""
    other_negatives: int = 1
    """Random guidelines of others per question."""
    near: float = 0.9
    """Guidelines whose words are this alike are duplicates, and no negatives of each other's questions."""
    mask: bool = True
    """Whether a question's own guidelines and their duplicates are kept from being its negatives."""
    baselines: tuple[Literal["lexical", "untrained", "neighbours"], ...] = ("lexical", "untrained")
    """What is measured beside it: words in common; the encoders before training; and these, as sentence embeddings of
    the guidelines and of the requests that they were written for."""
    seed: int = 12345
    """What is drawn, and in which order."""

    def __post_init__(self) -> None:
        least = {"batch_size": 2, "epochs": 1, "max_length": 4, "warmup_steps": 0}
        least |= {"hard_negatives": 0, "other_negatives": 0}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise UsageError(f"{name} is {getattr(self, name)}", fix=f"use at least {low}")
        for name in ("learning_rate", "clip", "scale"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise UsageError(f"{name} is {getattr(self, name)}", fix="use a number above 0")
        if not 0 < self.near <= 1:
            raise UsageError(f"near is {self.near}", fix="use a share above 0, at most 1")
        if not 0 <= self.held_out < 1:
            raise UsageError(f"held_out is {self.held_out}", fix="use a share from 0 on, below 1; 0 evaluates nothing")
