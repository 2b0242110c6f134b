"""Every catalogued objective: finite, pushes the right way, and indifferent to batching, order, padding and dtype.

A new objective joins with its catalog line. What it is fed follows from the `needs` it declares.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch

from fairlead import catalog
from fairlead.fields import build, to_plain
from fairlead.training.objectives.base import Loss, Memory, Scores
from fairlead.training.objectives.online import Online, Rollout

NAMES = [e.name for e in catalog.entries("objective")]
ROWS = {"conversation": 1, "preference": 2, "feedback": 1, "ranking": 4, "prompt": 4}
REWARDS = 2


def rows_per_group(needs) -> int:
    subsets = getattr(needs.grouping, "subsets", None)
    return ROWS[needs.record] if subsets is None else 1 + subsets


def objective(name):
    return catalog.build("objective", name)


def made(name, groups=5, seed=0, width=9, dtype=torch.float32) -> Scores:
    """Random scores of as many groups, with everything that the objective needs."""
    rng = torch.Generator().manual_seed(seed)
    method = objective(name)
    needs = method.needs
    per_group = rows_per_group(needs)
    rows = groups * per_group
    length = torch.randint(2, width + 1, (rows,), generator=rng)
    mask = torch.arange(width) < length[:, None]

    def logprobs():
        return torch.where(mask, -3 * torch.rand(rows, width, generator=rng), 0.0)

    member = torch.arange(rows) % per_group
    fields = {
        "preference": {"chosen": member == 0},
        "feedback": {"label": torch.arange(rows) % 2 == 0},
        "ranking": {"rank_score": torch.rand(rows, generator=rng)},
    }.get(needs.record, {})
    fields |= {column.name: 0.5 + torch.rand(rows, generator=rng) for column in needs.columns}
    numbers = {"label_class": member, "label_row": torch.arange(rows) // ROWS[needs.record]}
    fields |= {name: values for name, values in numbers.items() if name in fields}
    if per_group != ROWS[needs.record]:
        fields["full"] = member == 0
    policy, reference = logprobs().to(dtype), logprobs()
    values = None
    if isinstance(method, Online):
        heads = method.heads(REWARDS)
        values = torch.randn(rows, width, heads, generator=rng) if heads else None
        fields |= worth(method, mask, torch.arange(rows) // per_group, logprobs(), reference, values, rng)
    score = torch.randn(rows, generator=rng).to(dtype)
    teacher = logprobs() if needs.teacher else None
    policy.requires_grad_(not needs.score_head)
    scores = Scores(
        policy=policy,
        mask=mask,
        group=torch.arange(rows) // per_group,
        reference=reference if needs.reference else None,
        score=score.requires_grad_() if needs.score_head else None,
        teacher=teacher,
        divergence=divergence_of(policy, teacher) if needs.divergence else None,
        values=values,
        collision=logprobs() if needs.collision else None,
        fields=fields,
    )
    if method.needs.survey:
        scores.survey = {key: value.detach() for key, value in method.survey(scores).items()}
    return scores


def worth(method, mask, group, old, reference, values, rng) -> dict[str, torch.Tensor]:
    """Return the fields that an online objective finds in a rollout with random rewards."""
    rewards = torch.rand(len(mask), REWARDS, generator=rng).double()
    names = ("reward", "cost")
    truncated = torch.zeros(len(mask), dtype=torch.bool)
    columns = {column.name: (group % 2).double() for column in method.needs.columns}
    rollout = Rollout(rewards, names, group, mask, truncated, mask.shape[1], old, reference, values, columns)
    found = method.advantages(rollout, method.begin(REWARDS, ROWS["prompt"]))
    drawn = {
        "old": old,
        "sampler": old,
        "truncated": truncated,
        "limit": torch.full((len(mask),), float(mask.shape[1])),
    }
    return {**found.fields, **drawn}


def divergence_of(policy: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Stand in for the divergence: like it, zero where both agree, and with a gradient to the policy."""
    return (policy.float() - teacher) ** 2


def rows_of(scores: Scores, rows: torch.Tensor, extra_width: int = 0) -> Scores:
    """Take rows in an order, with more padding, keeping the graph and what is known of the whole step."""

    def take(value):
        if not isinstance(value, torch.Tensor):
            return value
        value = value[rows]
        if value.ndim == 3:
            return torch.nn.functional.pad(value, (0, 0, 0, extra_width))
        return torch.nn.functional.pad(value, (0, extra_width)) if value.ndim == 2 else value

    of_the_step = ("fields", "survey", "progress")
    changed = {f.name: take(getattr(scores, f.name)) for f in dataclasses.fields(scores) if f.name not in of_the_step}
    return dataclasses.replace(scores, **changed, fields={k: take(v) for k, v in scores.fields.items()})


def call(name, scores) -> Loss:
    method = objective(name)
    return method(scores, method.init()) if isinstance(method, Memory) else method(scores)


def leaf(scores: Scores) -> torch.Tensor:
    return scores.policy if scores.score is None else scores.score


def gradient(name, scores) -> torch.Tensor:
    return torch.autograd.grad(call(name, scores).sum, leaf(scores))[0]


@pytest.mark.parametrize("name", NAMES)
class TestObjective:
    def test_finite_and_counted(self, name):
        scores = made(name)
        loss = call(name, scores)
        assert loss.sum.ndim == 0
        assert torch.isfinite(loss.sum)
        assert loss.count > 0
        assert torch.isfinite(gradient(name, scores)).all()
        for total, count in loss.metrics.values():
            assert not total.requires_grad
            assert torch.isfinite(total)
            assert count >= 0

    def test_a_small_step_down_the_gradient_lowers_the_loss(self, name):
        scores = made(name)
        before = call(name, scores).sum
        slope = gradient(name, scores)
        moved = (leaf(scores) - 1e-3 * slope).detach()
        where = "policy" if scores.score is None else "score"
        changed = dataclasses.replace(scores, **{where: moved})
        if scores.divergence is not None:
            changed.divergence = divergence_of(moved, scores.teacher)
        after = call(name, changed).sum
        assert after < before

    def test_masked_tokens_get_no_gradient(self, name):
        scores = made(name)
        if scores.score is None:
            assert (gradient(name, scores)[~scores.mask] == 0).all()

    def test_deterministic(self, name):
        assert torch.equal(call(name, made(name)).sum, call(name, made(name)).sum)

    def test_batch_split(self, name):
        scores = made(name, groups=6)
        whole = call(name, scores)
        parts = [
            call(name, rows_of(scores, ((scores.group >= a) & (scores.group < b)).nonzero()[:, 0]))
            for a, b in ((0, 1), (1, 4), (4, 6))
        ]
        torch.testing.assert_close(sum(p.sum for p in parts), whole.sum, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(sum(p.count for p in parts), whole.count)
        for metric, (total, count) in whole.metrics.items():
            torch.testing.assert_close(sum(p.metrics[metric][0] for p in parts), total, atol=1e-4, rtol=1e-5)
            torch.testing.assert_close(sum(p.metrics[metric][1] for p in parts), count)

    def test_order_of_groups_and_members(self, name):
        scores = made(name)
        shuffled = torch.randperm(len(scores.group), generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(call(name, rows_of(scores, shuffled)).sum, call(name, scores).sum)

    def test_numbers_of_groups_do_not_matter(self, name):
        scores = made(name)
        renumbered = dataclasses.replace(scores, group=100 - 7 * scores.group)
        torch.testing.assert_close(call(name, renumbered).sum, call(name, scores).sum)

    def test_padding(self, name):
        scores = made(name)
        everything = torch.arange(len(scores.group))
        wide = rows_of(scores, everything, extra_width=5)
        if scores.score is None:
            wide.policy = wide.policy.masked_fill(~wide.mask, 123.0)
        torch.testing.assert_close(call(name, wide).sum, call(name, scores).sum)

    def test_low_precision_input_gives_a_float32_loss(self, name):
        low = call(name, made(name, dtype=torch.bfloat16))
        high = call(name, made(name))
        assert low.sum.dtype == torch.float32
        torch.testing.assert_close(low.sum, high.sum, rtol=0.05, atol=0.5)

    def test_fields_round_trip(self, name):
        method = objective(name)
        assert build(type(method), to_plain(method), owner=name) == method
        assert dataclasses.fields(method) is not None
        with pytest.raises(dataclasses.FrozenInstanceError):
            method.anything = 1
