"""What a training run would do, without loading any weights: rows, tokens, steps, memory, what is frozen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fairlead import models
from fairlead.fields import to_plain
from fairlead.forward.layout import tokens
from fairlead.training.adapters import adapt
from fairlead.training.config import TrainConfig
from fairlead.training.order import split
from fairlead.training.prompts import imagined
from fairlead.training.setup import Materials, gather

__all__ = ["Plan", "plan"]

_BYTES = 4
"""Bytes of a float32 number: weights, gradients and optimizer state are kept in it."""


@dataclass(frozen=True)
class Plan:
    """A training run in numbers."""

    records: int
    """Records read."""
    groups: int
    """Groups trained on per epoch, after what is too long was dealt with."""
    completions: int
    """Completions in them."""
    trained_tokens: int
    """Tokens that count, per epoch."""
    computed_tokens: int
    """Tokens the model computes per epoch, each prompt once for all its completions."""
    dropped: int
    """Records left out as too long."""
    truncated: int
    """Records cut as too long."""
    steps: int
    """Optimizer steps."""
    passes_per_step: float
    """Mean forward passes per step (one rank)."""
    parameters: int
    """All weights of the model."""
    trainable: int
    """Weights that change; without an adapter, all of them."""
    memory: int
    """Estimated peak bytes: weights, gradients, AdamW's two moments, and activations of one forward pass."""
    sentences: tuple[str, ...]
    """The same as sentences."""


def plan(config: TrainConfig) -> Plan:
    """Work out a run from its data and the model's configuration."""
    materials = gather(config)
    parameters, trainable, activation = _sizes(config, materials)
    order, groups = materials.order, materials.groups
    if config.rollout is not None:
        groups = [imagined(g, config.rollout.n, config.rollout.max_tokens) for g in groups]
    looked_at = range(min(order.steps, 20))
    passes = [len(split([groups[i] for i in order.at(s)], config.micro_tokens, "shared")) for s in looked_at]
    width = min(config.micro_tokens, sum(sorted((tokens(g) for g in groups), reverse=True)[: config.batch_size]))
    weights = parameters * _BYTES + trainable * 3 * _BYTES
    stored = materials.objective.needs.reference and config.reference == "stored"
    numbers = {
        "records": len(materials.data),
        "groups": len(groups),
        "completions": sum(len(g.branches) for g in groups),
        "trained_tokens": materials.lengths.trained or int(sum(b.trained.sum() for g in groups for b in g.branches)),
        "computed_tokens": sum(tokens(g) for g in groups),
        "dropped": len(materials.lengths.dropped),
        "truncated": len(materials.lengths.truncated),
        "steps": order.steps,
        "passes_per_step": sum(passes) / len(passes),
        "parameters": parameters,
        "trainable": trainable,
        "memory": weights + activation * width,
    }
    return Plan(**numbers, sentences=tuple(_sentences(config, materials, numbers, bool(stored))))


def _sizes(config: TrainConfig, materials: Materials) -> tuple[int, int, int]:
    """Return all weights, those that change, and activation bytes per token."""
    model = models.load_shape(config.model)
    parameters = trainable = sum(p.numel() for p in model.parameters())
    if config.adapter is not None:
        from accelerate import init_empty_weights

        with init_empty_weights():
            adapted = adapt(model, config.adapter, config.model)
        trainable = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
        parameters += trainable
    text = model.config.get_text_config()
    inner = getattr(text, "intermediate_size", None) or 4 * text.hidden_size
    number = 2 if config.dtype == "bfloat16" else _BYTES
    per_layer = text.hidden_size * (2 if config.gradient_checkpointing else 10) + inner * (
        0 if config.gradient_checkpointing else 4
    )
    return parameters, trainable, text.num_hidden_layers * per_layer * number


def _sentences(config: TrainConfig, materials: Materials, n: dict, stored: bool) -> Iterator[str]:
    name = type(materials.objective).__name__
    fields = ", ".join(f"{k}={v}" for k, v in to_plain(materials.objective).items())
    frozen = n["parameters"] - n["trainable"]
    if config.rollout is not None:
        drawn, rewards = config.rollout, ", ".join(config.rollout.named)
        yield (
            f"Draws {drawn.n} completions of at most {drawn.max_tokens} tokens for each of {config.batch_size} prompts "
            f"a step, valued by {rewards}; a rollout serves {drawn.steps_each} optimizer steps. Tokens below are those "
            "of completions at their longest."
        )
    yield (
        f"Trains {config.model} with {name}" + (f" ({fields})" if fields else "") + f" on {n['records']:,} records of "
        f"{', '.join(config.sources)}: {n['groups']:,} groups with {n['completions']:,} completions."
    )
    yield (
        f"An epoch computes {n['computed_tokens']:,} tokens, {n['trained_tokens']:,} of which are trained; "
        f"{n['dropped']} records are dropped and {n['truncated']} truncated as too long "
        f"(limit {materials.lengths.max_length}, policy {config.too_long})."
    )
    per_step = n["computed_tokens"] * config.batch_size / n["groups"]
    yield (
        f"Takes {n['steps']:,} steps of {config.batch_size} groups (about {per_step:,.0f} tokens in "
        f"{n['passes_per_step']:.1f} forward passes), AdamW at {config.learning_rate:g}, {config.schedule} schedule "
        f"with {config.warmup:.0%} warm-up."
    )
    yield (
        f"{n['trainable']:,} of {n['parameters']:,} weights are trained"
        + (f"; {frozen:,} stay frozen under the adapter." if frozen else "; none is frozen.")
        + (" The reference's log-probs are computed once and kept on disk." if stored else "")
    )
    yield f"Needs about {_readable(n['memory'])} at its peak, in {config.dtype}."


def _readable(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
