"""A prepared run: the forward passes of a step, the step, and the evaluation. It knows sums and counts, never names.

A step adds up the gradients of summed losses over its forward passes (and ranks) and divides once by the global
count, so the result does not depend on how a batch was split.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fairlead import models
from fairlead.errors import TrainingError
from fairlead.fields import to_plain
from fairlead.forward.layout import Batch, Group, lay_out
from fairlead.forward.policy import Policy
from fairlead.training.checkpoint import Progress
from fairlead.training.objectives.base import Loss, Memory, Scores
from fairlead.training.order import split
from fairlead.training.reference import attach_reference, reference_key
from fairlead.training.setup import Materials, make_optimizer, make_policy, make_schedule
from fairlead.training.totals import Sums, Totals

__all__ = ["Run", "prepare"]


@dataclass
class Run:
    """A prepared run."""

    materials: Materials
    """Data, objective and settings."""
    accelerator: Any
    """accelerate's runtime: devices, ranks, arithmetic."""
    policy: Any
    """The `Policy`, prepared."""
    optimizer: Any
    """AdamW, prepared."""
    schedule: Any
    """Learning-rate schedule."""
    groups: list[Group]
    """Training groups, with reference log-probs where the objective needs stored ones."""
    evaluation: list[Group]
    """Held-out groups, likewise."""
    layout_note: str
    """Why the layout is not the fastest; empty otherwise."""
    progress: Progress = field(default_factory=Progress)
    """Where the run is."""
    memory: dict[str, Tensor] = field(default_factory=dict)
    """The objective's state."""

    @property
    def plain(self) -> Policy:
        """The policy without accelerate's wrapping."""
        return self.accelerator.unwrap_model(self.policy)

    def losses(self, groups: Sequence[Group]) -> Iterator[tuple[Loss, bool, bool, int]]:
        """Yield each forward pass of this rank: its loss, whether it counts, whether it is the last, its tokens."""
        config, accelerator = self.materials.config, self.accelerator
        ranks = {"rank": accelerator.process_index, "ranks": accelerator.num_processes}
        passes = split(groups, config.micro_tokens, self.plain.layout, **ranks)
        for k, one in enumerate(passes):
            last = k == len(passes) - 1
            batch = lay_out([groups[i] for i in one.groups], self.plain.layout).to(accelerator.device)
            with nullcontext() if last else accelerator.no_sync(self.policy):
                loss = self._loss(batch)
                yield loss, one.counts, last, batch.size if one.counts else 0

    def _loss(self, batch: Batch) -> Loss:
        policy, score = self.policy(batch)
        objective: Any = self.materials.objective
        reference = batch.reference
        if objective.needs.reference and reference is None:
            with torch.no_grad(), self.plain.without_adapter():
                reference = self.policy(batch)[0]
        scores = Scores(policy, batch.mask, batch.group, reference=reference, score=score, fields=batch.fields)
        remembers = isinstance(self.materials.objective, Memory)
        return objective(scores, self.memory) if remembers else objective(scores)

    def step(self) -> dict[str, float]:
        """Do one optimizer step and return its metrics."""
        began = time.monotonic()
        number = self.progress.step
        groups = [self.groups[i] for i in self.materials.order.at(number)]
        totals = Totals()
        for loss, counts, _, tokens in self.losses(groups):
            self.accelerator.backward(loss.sum if counts else loss.sum * 0.0)
            totals.add(loss, counts, tokens)
        sums = totals.reduce(self.accelerator)
        count = sums["loss"][1]
        gradients = [p.grad for p in self.policy.parameters() if p.grad is not None]
        if count > 0:
            torch._foreach_mul_(gradients, self.accelerator.num_processes / count)  # pyright: ignore[reportPrivateImportUsage]
        limit = self.materials.config.clip or math.inf
        norm = float(self.accelerator.clip_grad_norm_(self.policy.parameters(), limit))
        self._refuse_broken(groups, sums, norm)
        rate = self.schedule.get_last_lr()[0]
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        if isinstance(self.materials.objective, Memory):
            self.memory = self.materials.objective.remember(self.memory, sums.tensors)
        self.progress.step += 1
        tokens = int(sums.pop("tokens")[0])
        self.progress.tokens += tokens
        seconds = time.monotonic() - began
        return {
            "step": number + 1,
            **sums.means(),
            "learning_rate": rate,
            "grad_norm": norm,
            "groups": len(groups),
            "tokens": tokens,
            "tokens_per_second": tokens / seconds,
        }

    def _refuse_broken(self, groups: Sequence[Group], sums: Sums, norm: float) -> None:
        loss, count = sums["loss"]
        if count > 0 and math.isfinite(norm) and math.isfinite(loss):
            return
        ids = ", ".join(g.id for g in groups[:5])
        raise TrainingError(
            f"step {self.progress.step + 1}: loss sum {loss}, count {count}, gradient norm {norm}",
            place=f"records {ids}" + ("..." if len(groups) > 5 else ""),
            fix="look at these records; lower the learning rate or use float32",
        )

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Return the objective's mean loss and metrics on the held-out groups."""
        totals = Totals()
        self.policy.eval()
        for loss, counts, _, tokens in self.losses(self.evaluation):
            totals.add(loss, counts, tokens)
        self.policy.train()
        sums = totals.reduce(self.accelerator)
        sums.pop("tokens")
        return sums.means()


def prepare(materials: Materials, accelerator: Any) -> Run:
    """Load the model, compute or read the reference, and make everything ready for the first step."""
    config, objective = materials.config, materials.objective
    policy, note = make_policy(materials, accelerator.device)
    optimizer = make_optimizer(config, policy)
    schedule = make_schedule(config, optimizer, materials.order.steps)
    policy, optimizer = accelerator.prepare(policy, optimizer)
    accelerator.register_for_checkpointing(schedule)
    groups, evaluation = materials.groups, materials.evaluation
    if objective.needs.reference and config.reference == "stored":
        identity = models.fingerprint(config.model)
        groups, evaluation = (
            attach_reference(
                part,
                policy,
                accelerator,
                key=reference_key(part, identity, config.dtype),
                micro_tokens=config.micro_tokens,
            )
            if part
            else []
            for part in (groups, evaluation)
        )
    run = Run(materials, accelerator, policy, optimizer, schedule, groups, evaluation, note)
    if isinstance(objective, Memory):
        run.memory = objective.init()
    if config.trackers:
        accelerator.init_trackers("fairlead", config={"objective": str(to_plain(config.objective))})
    return run
