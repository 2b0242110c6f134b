"""A prepared run: the forward passes of a step, the step, and the evaluation. It knows sums and counts, never names.

A step adds up the gradients of summed losses over its forward passes (and ranks) and divides once by the global
count, so the result does not depend on how a batch was split.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from fairlead import models
from fairlead.errors import TrainingError
from fairlead.fields import to_plain
from fairlead.forward.layout import Group, lay_out
from fairlead.forward.policy import Policy
from fairlead.training.checkpoint import Progress
from fairlead.training.columns import Desk, Part, attach_columns
from fairlead.training.frozen import attach_logprobs, logprobs_key
from fairlead.training.groups import mismatched
from fairlead.training.objectives.base import Loss, Memory, Scores
from fairlead.training.order import Pass, split
from fairlead.training.rollouts import Rollouts
from fairlead.training.setup import Materials, load_teacher, make_optimizer, make_policy, make_schedule
from fairlead.training.totals import Sums, Totals

__all__ = ["Prepared", "Run", "prepare"]


@dataclass
class Prepared:
    """Data with everything that its objective needs of it."""

    groups: list[Group]
    """As tokens, with columns and the log-probs of frozen models."""
    surveyed: list[Group] | None = None
    """What the survey is of, group by group, where that is not the groups themselves."""


@dataclass
class Run:
    """A prepared run."""

    materials: Materials
    """Data, objective and settings."""
    accelerator: Any
    """accelerate's runtime: devices, ranks, arithmetic."""
    policy: Any
    """The `Policy`, prepared."""
    teacher: Policy | None
    """The model whose distribution the objective compares the policy's with."""
    optimizer: Any
    """AdamW, prepared."""
    schedule: Any
    """Learning-rate schedule."""
    training: Prepared
    """Training data."""
    held_out: Prepared
    """Held-out data; no groups without evaluation data."""
    layout_note: str
    """Why the layout is not the fastest; empty otherwise."""
    notes: list[str] = field(default_factory=list)
    """What columns have to tell about the data."""
    progress: Progress = field(default_factory=Progress)
    """Where the run is."""
    memory: dict[str, Tensor] = field(default_factory=dict)
    """The objective's state."""
    rollouts: Rollouts | None = None
    """Where an online run's groups come from."""

    @property
    def plain(self) -> Policy:
        """The policy without accelerate's wrapping."""
        return self.accelerator.unwrap_model(self.policy)

    def losses(self, data: Prepared, numbers: Sequence[int]) -> Iterator[tuple[Loss, bool, bool, int]]:
        """Yield each forward pass of this rank over some of the groups, by number.

        Yields:
            Its loss, whether it counts, whether it is the last, its tokens.
        """
        groups = [data.groups[i] for i in numbers]
        passes = self.passes(groups)
        survey = self._survey(data, numbers, passes)
        for k, one in enumerate(passes):
            last = k == len(passes) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.policy):
                scores, size = self.scores([groups[i] for i in one.groups])
                yield self._loss(scores, survey), one.counts, last, size if one.counts else 0

    def passes(self, groups: Sequence[Group]) -> list[Pass]:
        """Split groups into this rank's forward passes."""
        ranks = {"rank": self.accelerator.process_index, "ranks": self.accelerator.num_processes}
        return split(groups, self.materials.config.micro_tokens, self.plain.layout, **ranks)

    def _survey(self, data: Prepared, numbers: Sequence[int], passes: Sequence[Pass]) -> dict[str, Tensor] | None:
        """Join the objective's survey over the step; None where a pass can be surveyed by itself."""
        objective: Any = self.materials.objective
        if not objective.needs.survey:
            return {}
        if data.surveyed is None:
            if len(passes) == 1 and self.accelerator.num_processes == 1:
                return None
            groups = [data.groups[i] for i in numbers]
        else:
            groups = [data.surveyed[i] for i in numbers]
            passes = self.passes(groups)
        with torch.no_grad():
            found = [objective.survey(self.scores([groups[i] for i in one.groups])[0]) for one in passes if one.counts]
        return self._joined(found)

    def _joined(self, found: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        from accelerate.utils import gather_object

        if self.accelerator.num_processes > 1:
            found = gather_object([{name: values.cpu() for name, values in one.items()} for one in found])
        device = self.accelerator.device
        return {name: torch.cat([one[name].detach().to(device) for one in found]) for name in found[0]}

    def scores(self, groups: Sequence[Group]) -> tuple[Scores, int]:
        """Do a forward pass over groups; return what the objective sees of them and the tokens computed."""
        needs = self.materials.objective.needs
        batch = lay_out(groups, self.plain.layout).to(self.accelerator.device)
        seen = self.policy(batch, teacher=self.teacher, divergence=needs.divergence, collision=needs.collision)
        reference = batch.reference
        if needs.reference and reference is None:
            with torch.no_grad(), self.plain.without_adapter():
                reference = self.policy(batch).logprobs
        scores = Scores(
            seen.logprobs,
            batch.mask,
            batch.group,
            reference=reference,
            score=seen.score,
            teacher=batch.teacher,
            divergence=seen.divergence,
            collision=seen.collision,
            values=seen.values,
            fields=batch.fields,
            progress=self.progress.step / self.materials.order.steps,
            training=self.policy.training,
        )
        return scores, batch.size

    def _loss(self, scores: Scores, survey: dict[str, Tensor] | None) -> Loss:
        objective: Any = self.materials.objective
        if survey is None:
            with torch.no_grad():
                survey = self._joined([objective.survey(scores)])
        scores = replace(scores, survey=survey)
        remembers = isinstance(self.materials.objective, Memory)
        return objective(scores, self.memory) if remembers else objective(scores)

    def step(self) -> dict[str, float]:
        """Do one optimizer step and return its metrics."""
        began = time.monotonic()
        number = self.progress.step
        data, numbers = self.training, self.materials.order.at(number)
        if self.rollouts is not None:
            data = Prepared(self.rollouts.at(number))
            numbers = list(range(len(data.groups)))
        totals = Totals()
        for loss, counts, _, tokens in self.losses(data, numbers):
            self.accelerator.backward(loss.sum if counts else loss.sum * 0.0)
            totals.add(loss, counts, tokens)
        sums = totals.reduce(self.accelerator)
        count = sums["loss"][1]
        gradients = [p.grad for p in self.policy.parameters() if p.grad is not None]
        if count > 0:
            torch._foreach_mul_(gradients, self.accelerator.num_processes / count)  # pyright: ignore[reportPrivateImportUsage]
        limit = self.materials.config.clip or math.inf
        norm = float(self.accelerator.clip_grad_norm_(self.policy.parameters(), limit))
        self._refuse_broken([data.groups[i] for i in numbers], sums, norm)
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
            **({} if self.rollouts is None else self.rollouts.metrics),
            "learning_rate": rate,
            "grad_norm": norm,
            "groups": len(numbers),
            "tokens": tokens,
            "tokens_per_second": tokens / seconds,
        }

    def _refuse_broken(self, groups: Sequence[Group], sums: Sums, norm: float) -> None:
        loss, count = sums["loss"]
        if count > 0 and math.isfinite(norm) and math.isfinite(loss):
            return
        ids = self._broken(groups) or [g.id for g in groups]
        raise TrainingError(
            f"step {self.progress.step + 1}: loss sum {loss}, count {count}, gradient norm {norm}",
            place=f"records {', '.join(ids[:5])}" + ("..." if len(ids) > 5 else ""),
            fix="look at these records; lower the learning rate or use float32",
        )

    @torch.no_grad()
    def _broken(self, groups: Sequence[Group]) -> list[str]:
        """Return the ids of the groups with a number that is not finite."""
        found = []
        for group in groups:
            scores, _ = self.scores([group])
            seen = [scores.policy, scores.reference, scores.score, scores.teacher, scores.divergence]
            if any(values is not None and not torch.isfinite(values).all() for values in seen):
                found.append(group.id)
        return found

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Return the objective's mean loss and metrics on the held-out groups, taken in batches like training's."""
        if self.rollouts is not None:
            return self.rollouts.measure(self.held_out.groups, self.materials.held_out or ())
        totals = Totals()
        size, number = self.materials.config.batch_size, len(self.held_out.groups)
        self.policy.eval()
        for start in range(0, number, size):
            for loss, counts, _, tokens in self.losses(self.held_out, range(start, min(start + size, number))):
                totals.add(loss, counts, tokens)
        self.policy.train()
        sums = totals.reduce(self.accelerator)
        sums.pop("tokens")
        return sums.means()


def prepare(materials: Materials, accelerator: Any) -> Run:
    """Load the model, compute or read what the objective needs of the data, and make ready for the first step."""
    config, objective = materials.config, materials.objective
    policy, note = make_policy(materials, accelerator.device)
    optimizer = make_optimizer(config, policy)
    schedule = make_schedule(config, optimizer, materials.order.steps)
    policy, optimizer = accelerator.prepare(policy, optimizer)
    accelerator.register_for_checkpointing(schedule)
    training = Part(materials.groups, materials.data)
    desk = Desk(config, policy, accelerator, materials.tokenizer, training)
    parts = [training] if materials.held_out is None else [training, Part(materials.evaluation, materials.held_out)]
    if config.rollout is not None:
        prepared = [Prepared(list(part.groups)) for part in parts]
    else:
        prepared = [_prepare_data(part, materials, desk) for part in parts]
    teacher = load_teacher(materials, desk) if objective.needs.divergence else None
    held_out = prepared[1] if len(prepared) == 2 else Prepared([])
    run = Run(materials, accelerator, policy, teacher, optimizer, schedule, prepared[0], held_out, note, desk.notes)
    if isinstance(objective, Memory):
        run.memory = objective.init()
    if config.rollout is not None:
        run.rollouts = Rollouts(materials, desk)
    if config.trackers:
        accelerator.init_trackers("fairlead", config={"objective": str(to_plain(config.objective))})
    return run


def _prepare_data(part: Part, materials: Materials, desk: Desk) -> Prepared:
    """Attach the columns and the stored log-probs that the objective needs."""
    config, needs = materials.config, materials.objective.needs
    frozen: list[tuple[Any, str, Any]] = []
    if needs.reference and config.reference == "stored":
        frozen.append(("reference", config.model, lambda: desk.policy))
    if needs.teacher is not None:
        frozen.append(("teacher", needs.teacher, lambda: load_teacher(materials, desk)))

    def with_frozen(groups: list[Group]) -> list[Group]:
        for under, model, policy in frozen:
            key = logprobs_key(groups, models.fingerprint(model), config.dtype)
            groups = attach_logprobs(groups, under, policy, desk.accelerator, key=key, micro_tokens=config.micro_tokens)
        return groups

    groups = attach_columns(part, needs.columns, desk)
    twins = mismatched(groups, materials.lengths.max_length) if needs.mismatched else None
    return Prepared(with_frozen(groups), None if twins is None else with_frozen(twins))
