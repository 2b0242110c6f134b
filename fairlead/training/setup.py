"""What a run needs before its first step: data as groups, the objective, the model, the optimizer."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from fairlead import catalog, models
from fairlead.errors import TrainingError, UsageError
from fairlead.fields import build, to_plain
from fairlead.forward.layout import Group
from fairlead.forward.policy import Policy, pick_layout
from fairlead.records import Records, read
from fairlead.render import Renderer
from fairlead.training.adapters import adapt, parse, virtual_tokens
from fairlead.training.columns import Desk
from fairlead.training.config import TrainConfig
from fairlead.training.groups import Lengths, build_groups, text_blocks
from fairlead.training.objectives.base import Objective
from fairlead.training.objectives.online import Online
from fairlead.training.order import Order
from fairlead.training.prompts import prompt_groups
from fairlead.training.rollout_config import RolloutConfig

__all__ = ["Materials", "gather", "load_teacher", "make_optimizer", "make_policy", "make_schedule"]

_NO_IDENTITY = {"save_every", "keep_checkpoints", "evaluate_every", "trackers"}
"""Fields that do not change a run's weights."""


@dataclass
class Materials:
    """Everything that does not need the model's weights."""

    config: TrainConfig
    """As given."""
    objective: Objective
    """Built from the catalog."""
    tokenizer: Any
    """The model's tokenizer."""
    renderer: Renderer
    """On that tokenizer."""
    data: Records
    """Training records."""
    held_out: Records | None
    """Held-out records, where there are any."""
    groups: list[Group]
    """Them, as tokens."""
    evaluation: list[Group]
    """Held-out groups; empty without evaluation data."""
    lengths: Lengths
    """The length report of the training data."""
    order: Order
    """Which groups each step trains on."""
    fingerprint: str
    """Changes whenever the trained weights could: model, data, template, settings."""

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt with one completion."""
        every = [*self.groups, *self.evaluation]
        drawn = 0 if self.config.rollout is None else self.config.rollout.max_tokens
        return max(len(g.prompt) + max((len(b.ids) for b in g.branches), default=drawn) for g in every)

    @property
    def rollout(self) -> RolloutConfig:
        """How an online run draws."""
        assert self.config.rollout is not None
        return self.config.rollout

    @cached_property
    def by_id(self) -> dict[str, Any]:
        """The training records by id."""
        return {record.id: record for record in self.data}


def gather(config: TrainConfig) -> Materials:
    """Read and render the data of a run.

    Raises:
        FairleadError: data, template or settings that do not fit; nothing is left out without being counted.
    """
    config = build(TrainConfig, to_plain(config), owner="train")
    objective = catalog.from_spec("objective", config.objective, place="train.objective")
    tokenizer = models.load_tokenizer(config.model)
    _check_teacher(objective.needs.teacher, tokenizer, config.model)
    renderer = Renderer(tokenizer, place=config.model)
    _check_rollout(config, objective)
    limit = _length_limit(config)
    kind = config.kind if config.rollout is None else "prompt"
    data = read(config.sources, kind=kind, format=config.format, limit=config.limit)
    groups, lengths = _groups(config, data, renderer, objective, limit)
    evaluation: list[Group] = []
    held_out = None
    if config.evaluation_data is not None:
        held_out = read(config.evaluation_data, kind=kind, format=config.format)
        evaluation, _ = _groups(config, held_out, renderer, objective, limit)
    repeats = 1 if config.rollout is None else config.rollout.updates
    order = Order(len(groups), config.batch_size, config.epochs, config.max_steps, config.seed, repeats)
    identity = {
        "config": {k: v for k, v in to_plain(config).items() if k not in _NO_IDENTITY},
        "objective": to_plain(objective),
        "model": models.fingerprint(config.model),
        "data": data.fingerprint,
        "evaluation": held_out.fingerprint if held_out is not None and config.keep == "best" else None,
        "teacher": objective.needs.teacher and models.fingerprint(objective.needs.teacher),
        "template": renderer.fingerprint,
    }
    fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return Materials(
        config, objective, tokenizer, renderer, data, held_out, groups, evaluation, lengths, order, fingerprint
    )


def _check_rollout(config: TrainConfig, objective: Objective) -> None:
    online = objective.needs.record == "prompt"
    if online and config.rollout is None:
        raise UsageError(
            "the objective learns from completions of its own, and nothing says how to draw and value them",
            place="train.rollout",
            fix="set rollout: {reward: ..., n: 8}",
        )
    if config.rollout is not None and not online:
        raise UsageError(
            "the objective learns from completions of the data, not of its own",
            place="train.rollout",
            fix="leave rollout out, or use an online objective such as grpo",
        )
    if online and config.reference == "stored" and config.adapter is not None and objective.needs.reference:
        raise UsageError(
            "the reference of an adapter that draws its own completions is the model without it",
            place="train.reference",
            fix="set train.reference to live",
        )


def _check_teacher(teacher: str | None, tokenizer: Any, model: str) -> None:
    if teacher is not None and models.load_tokenizer(teacher).get_vocab() != tokenizer.get_vocab():
        raise UsageError(
            f"the teacher {teacher} has another vocabulary than {model}",
            place="train.objective",
            fix="name a teacher with the same tokenizer",
        )


def _length_limit(config: TrainConfig) -> int:
    own = getattr(models.load_config(config.model).get_text_config(), "max_position_embeddings", None)
    virtual = virtual_tokens(config.adapter)
    room = None if own is None else own - virtual
    if config.max_length is not None and room is not None and config.max_length > room:
        taken = f", {virtual} of which are virtual tokens" if virtual else ""
        raise UsageError(
            f"train.max_length is {config.max_length}; the model has {own} positions{taken}",
            place=config.model,
            fix=f"use max_length {room} or less",
        )
    limit = config.max_length or room
    if limit is None:
        raise UsageError("the model does not say how many positions it has", fix="set train.max_length")
    return limit


def _groups(
    config: TrainConfig, data: Records, renderer: Renderer, objective: Objective, limit: int
) -> tuple[list[Group], Lengths]:
    if config.rollout is not None:
        most = config.rollout.max_tokens
        return prompt_groups(data, renderer, max_length=limit, max_tokens=most, too_long=config.too_long)
    if config.block_length is None:
        return build_groups(data, renderer, objective.needs, max_length=limit, too_long=config.too_long)
    if config.block_length > limit:
        raise UsageError(f"train.block_length is {config.block_length}", fix=f"use {limit} or less (max_length)")
    groups = text_blocks(data, renderer, config.block_length)
    lengths = Lengths(limit, config.too_long)
    lengths.prompt = [1] * len(groups)
    lengths.completion = [len(g.branches[0].ids) for g in groups]
    lengths.trained = sum(lengths.completion)
    return groups, lengths


def make_policy(materials: Materials, device: torch.device | str) -> tuple[Policy, str]:
    """Load the model for training and return it with a note on the layout (empty when nothing is unusual).

    Dropout is switched off: log-probs of policy and reference must be of the same function.
    """
    config, needs = materials.config, materials.objective.needs
    torch.manual_seed(config.seed)
    model: Any = models.load_model(config.model, device=str(device), head="score" if needs.score_head else "lm")
    model = _merged(model, config)
    if needs.score_head:
        model.config.pad_token_id = materials.tokenizer.pad_token_id
    _switch_off_dropout(model)
    model.requires_grad_(True)
    layout, note = _layout(model, config, materials.longest)
    if config.adapter is not None:
        model = adapt(model, config.adapter, config.model, score_head=needs.score_head)
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if config.adapter is not None:
            model.enable_input_require_grads()
    policy = Policy(model, layout=layout, score_head=needs.score_head, **_online_parts(materials))
    if not needs.score_head:
        policy.check_head()
    policy.train()
    return policy, note


def _online_parts(materials: Materials) -> dict[str, Any]:
    """Return what an online run's policy has besides: value heads, and the temperature that it draws at."""
    rollout, objective = materials.config.rollout, materials.objective
    if rollout is None or not isinstance(objective, Online):
        return {}
    return {"value_heads": objective.heads(len(rollout.named)), "temperature": rollout.temperature}


def _merged(model: Any, config: TrainConfig) -> Any:
    """Return the starting model with its own adapter, if it is one, merged into the weights."""
    if not hasattr(model, "peft_config"):
        return model
    if not hasattr(model, "merge_and_unload"):
        raise TrainingError(
            "an adapter of virtual tokens cannot be merged, so training cannot start from it",
            place=config.model,
            fix="start from its base model",
        )
    if config.adapter is not None:
        raise TrainingError(
            "a new adapter cannot be put on an adapter", place=config.model, fix="merge it first: fairlead export"
        )
    return model.merge_and_unload()


def _layout(model: Any, config: TrainConfig, longest: int) -> tuple[str, str]:
    """Return the layout of the run, and why it is not the fastest."""
    if not virtual_tokens(config.adapter):
        return pick_layout(model, longest) if config.layout == "auto" else (config.layout, "")
    if config.layout in ("shared", "packed"):
        raise UsageError(
            f"train.layout is {config.layout!r}, but virtual tokens stand before every row",
            place="train.adapter",
            fix="use layout: padded (or auto)",
        )
    if config.gradient_checkpointing and parse(config.adapter or "")[0] == "prefix":
        raise UsageError(
            "prefix tuning does not go with gradient_checkpointing: it drops the prefix's keys and values",
            place="train.adapter",
            fix="switch one of them off",
        )
    return "padded", "the adapter puts virtual tokens before every row" if config.layout == "auto" else ""


def load_teacher(materials: Materials, desk: Desk) -> Policy:
    """Load the objective's teacher, frozen, in the layout of the policy.

    Raises:
        TrainingError: the teacher cannot be laid out like the policy.
    """
    name = materials.objective.needs.teacher
    if name is None:
        raise TrainingError("the objective compares with a teacher that it does not name", place="train.objective")
    model: Any = models.load_model(name, device=str(desk.accelerator.device))
    wanted = desk.accelerator.unwrap_model(desk.policy).layout
    if wanted != "padded" and pick_layout(model, materials.longest)[0] == "padded":
        raise TrainingError(f"the teacher cannot be laid out as {wanted}", place=name, fix="set train.layout to padded")
    model.requires_grad_(False)
    return Policy(model, layout=wanted).eval()


def _switch_off_dropout(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)


def make_optimizer(config: TrainConfig, policy: nn.Module) -> torch.optim.AdamW:
    """Return AdamW over the trainable weights, decay on matrices only."""
    trainable = [p for p in policy.parameters() if p.requires_grad]
    matrices = [p for p in trainable if p.ndim >= 2]
    others = [p for p in trainable if p.ndim < 2]
    parts: list[dict[str, Any]] = [{"params": matrices, "weight_decay": config.weight_decay}]
    if others:
        parts.append({"params": others, "weight_decay": 0.0})
    return torch.optim.AdamW(parts, lr=config.learning_rate, betas=config.betas, fused=True)


def make_schedule(config: TrainConfig, optimizer: torch.optim.Optimizer, steps: int) -> Any:
    """Return the learning rate's schedule: warm-up, then the configured shape down to zero (or constant)."""
    warmup = math.ceil(config.warmup * steps)
    shapes = {
        "cosine": lambda x: 0.5 * (1 + math.cos(math.pi * x)),
        "linear": lambda x: 1 - x,
        "constant": lambda x: 1.0,
    }
    shape = shapes[config.schedule]

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return shape((step - warmup) / max(1, steps - warmup))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
