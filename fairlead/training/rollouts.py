"""Rollouts: an online run's groups, drawn from the policy as it is, valued, and given their advantages.

A pure function of the seed, the weights and the number of prompts drawn so far; what must outlive a checkpoint is in
`state`. The loop asks for the groups of a step and learns nothing else.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairlead import catalog, models
from fairlead.errors import FairleadError, TrainingError, UnsupportedError, UsageError
from fairlead.forward.layout import Branch, Group, lay_out
from fairlead.forward.policy import Policy
from fairlead.training.columns import Desk, Part, attach_columns
from fairlead.training.drawing import Drawn, open_drawer
from fairlead.training.objectives.online import Online, Rollout
from fairlead.training.order import split
from fairlead.training.rollout_config import RolloutConfig
from fairlead.training.setup import Materials
from fairlead.training.valuing import value

__all__ = ["Rollouts"]

_HELD_OUT_SEED = 2**31 - 2
"""Of the completions that evaluations draw."""
_SHOWN = 4
"""Completions of each rollout that are kept as samples."""


@dataclass
class _Batch:
    """Groups of a rollout on their way: one per prompt, with what is known of their completions."""

    groups: list[Group]
    texts: list[list[str]]
    rewards: np.ndarray
    """float64 [N, R]."""
    truncated: np.ndarray
    """bool [N]."""


@dataclass
class Rollouts:
    """Draws, values and weighs completions, one rollout at a time."""

    materials: Materials
    """Prompts, objective and settings."""
    desk: Desk
    """The policy and accelerate's runtime."""
    memory: dict[str, Tensor] = field(default_factory=dict)
    """What the objective keeps from rollout to rollout."""
    taken: int = 0
    """Prompts taken from the stream so far."""
    groups: list[Group] = field(default_factory=list)
    """The rollout at hand."""
    metrics: dict[str, float] = field(default_factory=dict)
    """What is told of it."""
    samples: list[dict[str, Any]] = field(default_factory=list)
    """Some of its completions, not yet written down."""

    def __post_init__(self) -> None:
        if self.desk.accelerator.distributed_type.value.startswith("FSDP"):
            raise UnsupportedError("a sharded policy cannot draw completions", fix="use plain data parallel")
        self.policy: Any = self.desk.accelerator.unwrap_model(self.desk.policy)
        config = self.config
        if self.materials.objective.needs.sampler and config.temperature != 1.0:
            raise UsageError(
                "the correction compares log-probs of temperature 1", place="train.rollout.temperature", fix="use 1.0"
            )
        self.rewards = {
            name: catalog.from_spec("reward", spec, place="train.rollout") for name, spec in config.named.items()
        }
        self.drawer = open_drawer(self.policy, self.materials.tokenizer, self.materials.renderer, config)
        self.memory = self.memory or self.objective.begin(len(self.rewards), config.n)
        self._reference: Policy | None = None

    @property
    def config(self) -> RolloutConfig:
        """The run's rollout settings."""
        return self.materials.rollout

    @property
    def objective(self) -> Online:
        """The run's objective."""
        objective: Any = self.materials.objective
        return objective

    def at(self, step: int) -> list[Group]:
        """Return the groups of a step, drawing a rollout where one begins.

        The first pass takes a rollout's groups in their order, later ones in an order of their own.
        """
        within = step % self.config.steps_each
        if within == 0:
            self._roll_out(step)
        self.metrics["stale"] = float(step if self.config.server is not None else within)
        update, part = divmod(within, self.config.steps)
        order = np.arange(len(self.groups))
        if update:
            order = np.random.default_rng([self.materials.config.seed, step - within, update]).permutation(order)
        places = np.array_split(order, self.config.steps)[part]
        # A rollout that was left with fewer prompts than steps serves some of them whole.
        return [self.groups[i] for i in (places if len(places) else order)]

    def state(self, step: int) -> dict[str, Any]:
        """Return what a checkpoint after `step` steps must hold: the rollout too, where it is not used up."""
        whole = step % self.config.steps_each == 0
        groups = [] if whole else self.groups
        return {"taken": self.taken, "memory": self.memory, "groups": groups, "metrics": self.metrics}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.taken, self.groups = state["taken"], list(state["groups"])
        self.memory, self.metrics = dict(state["memory"]), dict(state["metrics"])

    def measure(self, prompts: Sequence[Group], records: Sequence[Any]) -> dict[str, float]:
        """Draw one completion of each held-out prompt, always by the same seed, and return its mean rewards.

        `loss` is minus the mean of the rewards' means.
        """
        known = {record.id: record for record in records}
        batch = self._value(*self._draw(list(prompts), known, seed=_HELD_OUT_SEED, n=1))
        means = {name: float(np.nanmean(column)) for name, column in zip(self.rewards, batch.rewards.T)}
        means["length"] = float(np.mean([len(b.ids) for g in batch.groups for b in g.branches]))
        return {"loss": -float(np.mean([means[name] for name in self.rewards])), **means}

    # --- one rollout --------------------------------------------------------------------------------------------------

    def _roll_out(self, step: int) -> None:
        wanted = self.materials.config.batch_size * self.config.steps
        seconds = {"generating": 0.0, "valuing": 0.0, "scoring": 0.0}
        kept: list[_Batch] = []
        equal = drawn = 0
        for _ in range(self.config.rounds if self.materials.objective.needs.varied else 1):
            batch = self._next(wanted - sum(len(b.groups) for b in kept), seconds)
            drawn += len(batch.groups)
            same = _equal(batch, self.config.n)
            equal += int(same.sum())
            kept.append(_without(batch, same, self.config.n) if self.materials.objective.needs.varied else batch)
            if sum(len(b.groups) for b in kept) >= wanted:
                break
        batch = _joined(kept)
        if not batch.groups:
            raise TrainingError(
                f"all completions of each of {drawn} prompts are worth the same", place=f"step {step + 1}",
                fix="use harder or easier prompts, a finer reward, more completions (n), or a higher temperature",
            )  # fmt: skip
        began = time.monotonic()
        rollout, groups = self._scored(batch, step)
        seconds["scoring"] = time.monotonic() - began
        found = self.objective.advantages(rollout, self.memory)
        self.memory = found.state
        self.groups = _with_fields(groups, {**found.fields, **self._always(rollout)})
        self.metrics = self._told(batch, rollout, equal / drawn) | found.metrics
        self.metrics |= {f"seconds_{name}": value for name, value in seconds.items()}
        self._keep_samples(step, batch, found.fields["advantage"])

    def _next(self, count: int, seconds: dict[str, float]) -> _Batch:
        """Draw and value the next prompts of the stream, each rank its share."""
        order, every = self.materials.order, self.materials.groups
        numbers = [order.item(self.taken + k) for k in range(count)]
        seed = self.materials.config.seed * 1_000_003 + self.taken
        self.taken += count
        accelerator = self.desk.accelerator
        own = [every[i] for i in numbers[accelerator.process_index :: accelerator.num_processes]]
        known = self.materials.by_id
        began = time.monotonic()
        drawn = self._draw(own, known, seed, self.config.n)
        middle = time.monotonic()
        batch = self._value(*drawn)
        seconds["generating"] += middle - began
        seconds["valuing"] += time.monotonic() - middle
        return self._gathered(batch, count)

    def _gathered(self, batch: _Batch, count: int) -> _Batch:
        accelerator = self.desk.accelerator
        if accelerator.num_processes == 1:
            return batch
        from accelerate.utils import gather_object

        parts = gather_object([batch])
        return _picked(_joined(parts), _interleaved([len(p.groups) for p in parts]), self.config.n)

    def _draw(self, prompts: list[Group], known: Mapping[str, Any], seed: int, n: int) -> tuple[Any, ...]:
        asked = [known[group.id].prompt for group in prompts]
        try:
            drawn = self.drawer.draw(asked, prompts, self.config.sampling(seed, n)) if prompts else []
        except FairleadError as error:
            raise type(error)(error.what, place=error.place or f"prompts {prompts[0].id}...", fix=error.fix) from error
        return prompts, asked, drawn

    def _value(self, prompts: list[Group], asked: list[Any], drawn: list[list[Drawn]]) -> _Batch:
        texts = [[one.text for one in completions] for completions in drawn]
        rewards = value(self.rewards, [g.id for g in prompts], asked, texts)
        groups = [
            replace(
                group,
                branches=tuple(Branch(one.ids, np.ones(len(one.ids), dtype=bool)) for one in completions),
                fields={"sampler": tuple(one.logprobs for one in completions)},
            )
            for group, completions in zip(prompts, drawn)
        ]
        return _Batch(groups, texts, rewards, np.array([one.truncated for row in drawn for one in row], dtype=bool))

    def _scored(self, batch: _Batch, step: int) -> tuple[Rollout, list[Group]]:
        """Return the rollout with the log-probs and values that the objective asks for."""
        needs = self.materials.objective.needs
        several = self.config.steps_each > 1
        old = values = reference = None
        groups = attach_columns(Part(batch.groups, self.materials.data), needs.columns, self.desk)
        width = max(len(b.ids) for g in groups for b in g.branches)
        if several or needs.old or self.policy.value_head is not None:
            if self._exact and self.policy.value_head is None:
                old = _padded([g.fields["sampler"] for g in groups], width)
            else:
                old, values = self._forward(self.policy, groups, width)
        if needs.reference:
            reference = self._under_reference(groups, width)
        lengths = [len(b.ids) for g in groups for b in g.branches]
        mask = torch.arange(width) < torch.tensor(lengths)[:, None]
        numbers = torch.arange(len(groups)).repeat_interleave(self.config.n)
        columns = {c.name: torch.from_numpy(np.concatenate([g.fields[c.name] for g in groups])) for c in needs.columns}
        rollout = Rollout(
            torch.from_numpy(batch.rewards), tuple(self.rewards), numbers, mask, torch.from_numpy(batch.truncated),
            self.config.max_tokens, old, reference, values, {k: v.double() for k, v in columns.items()},
        )  # fmt: skip
        if reference is not None:
            rows = iter(reference.numpy())
            groups = [replace(g, reference=tuple(next(rows)[: len(b.ids)] for b in g.branches)) for g in groups]
        return rollout, groups

    @property
    def _exact(self) -> bool:
        """Whether who draws tells the log-probs that the trainer itself would compute."""
        plain = self.config.dtype == "float32" and self.materials.config.dtype == "float32"
        return plain and self.config.server is None and self.config.temperature == 1.0

    def _under_reference(self, groups: Sequence[Group], width: int) -> Tensor:
        if self.materials.config.reference == "live":
            with self.policy.without_adapter():
                return self._forward(self.policy, groups, width)[0]
        if self._reference is None:
            device = str(self.desk.accelerator.device)
            model: Any = models.load_model(self.materials.config.model, device=device)
            model.requires_grad_(False)
            temperature = self.config.temperature
            self._reference = Policy(model, layout=self.policy.layout, temperature=temperature).eval()
        return self._forward(self._reference, groups, width)[0]

    @torch.no_grad()
    def _forward(self, policy: Policy, groups: Sequence[Group], width: int) -> tuple[Tensor, Tensor | None]:
        """Return log-probs [N, T] and values [N, T, V] of all completions; every rank computes all of them."""
        budget = self.materials.config.micro_tokens
        accelerator = self.desk.accelerator
        starts = np.cumsum([0] + [len(g.branches) for g in groups])
        logprobs, values = torch.zeros(int(starts[-1]), width), None
        for one in split(groups, budget, policy.layout):
            batch = lay_out([groups[i] for i in one.groups], policy.layout).to(accelerator.device)
            with accelerator.autocast():
                seen = policy(batch)
            rows = torch.from_numpy(np.concatenate([np.arange(starts[i], starts[i + 1]) for i in one.groups]))
            logprobs[rows, : batch.mask.shape[1]] = seen.logprobs.float().cpu()
            if seen.values is not None:
                if values is None:
                    values = torch.zeros(int(starts[-1]), width, seen.values.shape[-1])
                values[rows, : batch.mask.shape[1]] = seen.values.float().cpu()
        return logprobs, values

    def _always(self, rollout: Rollout) -> dict[str, Tensor]:
        """Return the fields that every online objective may read."""
        rows = len(rollout.group)
        found = {"truncated": rollout.truncated, "limit": torch.full((rows,), float(rollout.limit))}
        if self.config.temperature != 1.0:
            found["sampler"] = torch.full(rollout.mask.shape, torch.nan)
        return found | ({"old": rollout.old} if rollout.old is not None and self.config.steps_each > 1 else {})

    def _told(self, batch: _Batch, rollout: Rollout, equal: float) -> dict[str, float]:
        lengths = rollout.lengths.double()
        told = {
            f"reward_{name}" if name != "reward" else name: _mean(c) for name, c in zip(self.rewards, batch.rewards.T)
        }
        totals = batch.rewards[~np.isnan(batch.rewards).all(-1)]
        return {
            **told,
            "reward_std": float(np.nansum(totals, -1).std()) if len(totals) else math.nan,
            "abstained": float(np.isnan(batch.rewards).mean()),
            "equal_groups": equal,
            "prompts": float(len(batch.groups)),
            "length": float(lengths.mean()),
            "truncated": float(batch.truncated.mean()),
        }

    def _keep_samples(self, step: int, batch: _Batch, advantage: Tensor) -> None:
        worth = advantage if advantage.ndim == 1 else advantage.sum(-1)
        for k in range(min(_SHOWN, len(batch.truncated))):
            group = batch.groups[k // self.config.n]
            known = self.materials.by_id[group.id]
            said = {name: _plain(v) for name, v in zip(self.rewards, batch.rewards[k])}
            text = batch.texts[k // self.config.n][k % self.config.n]
            row = {"step": step + 1, "id": group.id, "prompt": known.prompt, "completion": text}
            self.samples.append({**row, "rewards": said, "advantage": float(worth[k])})


def _equal(batch: _Batch, n: int) -> np.ndarray:
    """Tell of each group whether every reward values all its completions alike, or none of them."""
    rows = batch.rewards.reshape(-1, n, batch.rewards.shape[1])
    known = ~np.isnan(rows)
    low = np.where(known, rows, np.inf).min(1, initial=np.inf)
    high = np.where(known, rows, -np.inf).max(1, initial=-np.inf)
    return ~(low < high).any(-1)


def _without(batch: _Batch, dropped: np.ndarray, n: int) -> _Batch:
    return _picked(batch, np.flatnonzero(~dropped).tolist(), n)


def _picked(batch: _Batch, places: Sequence[int], n: int) -> _Batch:
    rows = np.array([place * n + k for place in places for k in range(n)], dtype=np.int64)
    groups, texts = [batch.groups[i] for i in places], [batch.texts[i] for i in places]
    return _Batch(groups, texts, batch.rewards[rows], batch.truncated[rows])


def _joined(batches: Sequence[_Batch]) -> _Batch:
    return _Batch(
        [g for b in batches for g in b.groups],
        [t for b in batches for t in b.texts],
        np.concatenate([b.rewards for b in batches]),
        np.concatenate([b.truncated for b in batches]),
    )


def _interleaved(counts: Sequence[int]) -> list[int]:
    """Return where the groups of ranks, which took every k-th prompt, stand in the joined list, in stream order."""
    starts = np.cumsum([0, *counts])
    longest = max(counts)
    return [int(starts[r]) + k for k in range(longest) for r in range(len(counts)) if k < counts[r]]


def _with_fields(groups: Sequence[Group], fields: Mapping[str, Tensor]) -> list[Group]:
    """Return groups with fields [N] or [N, T] of the rollout cut to their completions."""
    joined, row = [], 0
    for group in groups:
        own: dict[str, Any] = dict(group.fields)
        rows = range(row, row + len(group.branches))
        for name, values in fields.items():
            array = values.numpy()
            own[name] = array[rows.start : rows.stop]
            if array.ndim == 2:
                own[name] = tuple(array[r, : len(b.ids)] for r, b in zip(rows, group.branches))
        joined.append(replace(group, fields=own))
        row += len(group.branches)
    return joined


def _padded(rows: Sequence[Any], width: int) -> Tensor:
    flat = [row for group in rows for row in group]
    values = torch.zeros(len(flat), width)
    for n, row in enumerate(flat):
        values[n, : len(row)] = torch.from_numpy(np.asarray(row))
    return values


def _mean(column: np.ndarray) -> float:
    known = column[~np.isnan(column)]
    return float(known.mean()) if len(known) else math.nan


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
