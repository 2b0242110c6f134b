"""What a training step can be told.

Its fields are the keys of a recipe's `train` step and the flags of `fairlead train`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from fairlead.errors import UsageError
from fairlead.training.adapters import parse
from fairlead.training.rollout_config import RolloutConfig

__all__ = ["TooLong", "TrainConfig"]

TooLong = Literal["error", "drop", "truncate_prompt", "truncate_end"]


@dataclass(frozen=True)
class TrainConfig:
    """One training run: a model, data, an objective, and how to step."""

    model: str
    """Model to start from: `harbor:NAME`, a directory, a hub id."""
    data: str | tuple[str, ...]
    """Training records: a path, `harbor:SET`, a hub id, or several of them."""
    objective: str | dict[str, Any] = "sft"
    """Catalog name of the objective, or a mapping of `name` and its fields."""
    rollout: RolloutConfig | None = None
    """How an objective that learns from completions of its own draws them, and what values them."""
    evaluation_data: str | tuple[str, ...] | None = None
    """Held-out records on which the objective is measured during training."""
    format: str | None = None
    """Row format of the data when it is not one of Fairlead's own: hh, alpaca, sharegpt, bbq, arena."""
    kind: str | None = None
    """Kind to read records as where they can be converted: `conversation` takes a preference's chosen answer."""
    limit: int | None = None
    """Use only the first so many records."""
    epochs: float = 1.0
    """Passes over the data."""
    max_steps: int | None = None
    """Optimizer steps; overrides `epochs`."""
    batch_size: int = 32
    """Groups (prompts with their completions) per optimizer step, over all ranks."""
    micro_tokens: int = 4096
    """Most tokens of one forward pass; a batch is split into as many passes as that takes."""
    learning_rate: float = 2e-5
    """Peak learning rate of AdamW."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Shape of the learning rate after warm-up: to zero along a cosine or a line, or constant."""
    warmup: float = 0.1
    """Share of the steps in which the learning rate rises linearly from zero."""
    weight_decay: float = 0.0
    """Decoupled weight decay of matrices (never of biases and norms)."""
    betas: tuple[float, float] = (0.9, 0.99)
    """AdamW's momentum and variance decay."""
    clip: float = 1.0
    """Largest gradient norm; 0 clips nothing."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the forward and backward pass; weights, optimizer and losses stay float32."""
    gradient_checkpointing: bool = False
    """Recompute layers in the backward pass to save memory."""
    layout: Literal["auto", "shared", "packed", "padded"] = "auto"
    """How a batch lies in memory: prompts shared by their completions, packed rows, or plain padding.
    `auto` takes `shared` where the architecture reproduces its own padded result with it, else `padded`."""
    max_length: int | None = None
    """Most tokens of a prompt with one completion; by default the model's own limit."""
    too_long: TooLong = "error"
    """What to do with longer ones: stop, leave them out, or cut the prompt's start or the completion's end."""
    block_length: int | None = None
    """Join text records end to end and train on blocks of so many tokens (pre-training)."""
    reference: Literal["stored", "live"] = "stored"
    """Reference log-probs: computed once and kept on disk, or at every step with the adapter off (needs `adapter`)."""
    adapter: str | dict[str, Any] | None = None
    """Train an adapter, not the weights: lora, dora, rslora, ia3, prefix, prompt or p_tuning, or a mapping of `type`
    and fields of its peft config (r, lora_alpha, target_modules, num_virtual_tokens...)."""
    keep: Literal["last", "best"] = "last"
    """Which weights become the finished model: the last, or the best by evaluation loss."""
    save_every: int = 0
    """Steps between checkpoints; 0 saves ten times a run."""
    keep_checkpoints: int = 1
    """How many of the newest checkpoints stay on disk beside the best."""
    evaluate_every: int = 0
    """Steps between evaluations; 0 evaluates at the end only."""
    trackers: tuple[str, ...] = ()
    """Experiment trackers of accelerate to log to, such as tensorboard."""
    seed: int = 0
    """Order of the data and initial values of new weights."""

    def __post_init__(self) -> None:
        checks = [
            ("epochs", self.epochs > 0, "> 0"),
            ("max_steps", self.max_steps is None or self.max_steps >= 1, ">= 1"),
            ("limit", self.limit is None or self.limit >= 1, ">= 1"),
            ("batch_size", self.batch_size >= 1, ">= 1"),
            ("micro_tokens", self.micro_tokens >= 1, ">= 1"),
            ("learning_rate", self.learning_rate >= 0, ">= 0"),
            ("warmup", 0 <= self.warmup <= 1, "between 0 and 1"),
            ("weight_decay", self.weight_decay >= 0, ">= 0"),
            ("clip", self.clip >= 0, ">= 0"),
            ("max_length", self.max_length is None or self.max_length >= 2, ">= 2"),
            ("block_length", self.block_length is None or self.block_length >= 2, ">= 2"),
            ("save_every", self.save_every >= 0, ">= 0"),
            ("keep_checkpoints", self.keep_checkpoints >= 1, ">= 1"),
            ("evaluate_every", self.evaluate_every >= 0, ">= 0"),
        ]
        for name, holds, wanted in checks:
            if not holds:
                raise UsageError(f"train.{name} is {getattr(self, name)}", fix=f"use a value {wanted}")
        if self.keep == "best" and self.evaluation_data is None:
            raise UsageError("train.keep is 'best' without evaluation data", fix="set train.evaluation_data")
        if self.adapter is not None:
            parse(self.adapter)
        if self.reference == "live" and self.adapter is None:
            raise UsageError(
                "train.reference is 'live' without an adapter to switch off", fix="set train.adapter or use 'stored'"
            )

    @property
    def sources(self) -> list[str]:
        """The training data as a list."""
        return [self.data] if isinstance(self.data, str) else list(self.data)
