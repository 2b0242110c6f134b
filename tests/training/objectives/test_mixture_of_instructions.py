"""Mixture of instructions: its two losses, its modes, its metrics, and a step through the loop."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from worker import one_step

import fairlead
from fairlead.errors import UsageError
from fairlead.training.config import TrainConfig
from fairlead.training.objectives.base import Scores
from fairlead.training.objectives.mixture_of_instructions import MODES

NAME = "mixture_of_instructions"
DOMAINS = {"fact": "be polite, safe and honest.", "sum": "be short.", "list": ""}
DATA = "harbor:demonstrations?n=12&kinds=fact,sum,list"


def packed() -> Scores:
    """One row of two conversations: 2 trained tokens at 2 nats, 8 at 1 nat, and untrained ones between."""
    losses = [2.0, 2.0, 9.0, 9.0, *[1.0] * 8]
    mask = torch.tensor([[value != 9.0 for value in losses]])
    conversation = torch.tensor([[0, 0, 0, 1, *[1] * 8]])
    return Scores(
        -torch.tensor([losses]).requires_grad_(),
        mask,
        torch.zeros(1, dtype=torch.long),
        fields={"conversation": conversation, "domain": 1 - conversation},
    )


def mean(loss) -> float:
    return loss.sum.item() / loss.count.item()


@pytest.mark.parametrize(("loss", "expected", "count"), [("token", 1.2, 10), ("conversation", 1.5, 2)])
def test_losses(loss, expected, count):
    found = fairlead.objective(NAME, loss=loss)(packed())
    assert mean(found) == pytest.approx(expected)
    assert found.count == count


def test_conversations_of_rows_are_kept_apart():
    """Two rows whose conversations have the same numbers are four conversations."""
    one, other = packed(), packed()
    both = Scores(
        torch.cat([one.policy, 2 * other.policy]),
        torch.cat([one.mask, other.mask]),
        torch.tensor([0, 1]),
        fields={k: torch.cat([v, v]) for k, v in one.fields.items()},
    )
    found = fairlead.objective(NAME, loss="conversation")(both)
    assert found.count == 4
    assert found.sum.item() == pytest.approx(2 + 1 + 4 + 2)


def test_metrics_of_domains():
    found = fairlead.objective(NAME, domains={"code": "", "chat": ""})(packed())
    means = {name: (total / count).item() for name, (total, count) in found.metrics.items()}
    assert means == pytest.approx({"nll": 1.2, "nll_code": 1.0, "nll_chat": 2.0})


def test_modes_are_presets():
    for mode, fields in MODES.items():
        grouping = fairlead.objective(NAME, mode=mode, default_system="be kind.").needs.grouping
        assert {name: getattr(grouping, name) for name in fields} == fields
    grouping = fairlead.objective(NAME, mode="moi", mask="isolated", sampling="stop", order="shuffle").needs.grouping
    assert (grouping.mask, grouping.sampling, grouping.order) == ("isolated", "stop", "shuffle")


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"weights": {"a": 0}}, "weights"),
        ({"weights": {"a": 1.5}}, "whole numbers"),
        ({"domains": {"maths": ""}, "weights": {"mathss": 2}}, "maths"),
        ({"mode": "packing", "weights": {"a": 2}}, "every conversation once"),
        ({"mode": "packing", "max_passes": 2}, "every conversation once"),
        ({"alpha": 0.5}, "temperature"),
        ({"chunk_size": 2}, "temperature"),
        ({"sampling": "temperature", "chunk_size": 0}, "chunk_size"),
        ({"max_passes": 0}, "max_passes"),
        ({"mode": "moi_v1"}, "default_system"),
        ({"mode": "moi2"}, "moi_v1"),
    ],
)
def test_bad_fields_are_named(fields, word):
    with pytest.raises(UsageError, match=word):
        fairlead.objective(NAME, **fields)


def config(model, **fields) -> TrainConfig:
    changes = {k: fields.pop(k) for k in ("micro_tokens", "layout") if k in fields}
    spec = {"name": NAME, "column": "task", "domains": DOMAINS, **fields}
    return TrainConfig(model=model, data=DATA, objective=spec, batch_size=24, max_steps=1, **changes)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("loss", ["token", "conversation"])
def test_a_step_does_not_depend_on_its_passes_or_layout(mode, loss, tiny_model, tmp_path):
    fields = {"mode": mode, "loss": loss, "default_system": "be short."}
    whole = one_step(config(tiny_model, **fields), tmp_path)
    for changes in ({"micro_tokens": 1}, {"layout": "padded"}):
        other = one_step(config(tiny_model, **fields, **changes), tmp_path)
        assert other["loss"] == pytest.approx(whole["loss"], abs=1e-5)
        for name, gradient in whole["gradients"].items():
            torch.testing.assert_close(gradient, other["gradients"][name], atol=1e-5, rtol=1e-4, msg=name)
    assert {f"nll_{domain}" for domain in DOMAINS} <= whole["metrics"].keys()


def test_one_domain_isolated_is_sft(tiny_model, tmp_path):
    ours = dataclasses.replace(config(tiny_model), objective={"name": NAME, "column": "style", "mask": "isolated"})
    data = "harbor:demonstrations?n=12&quality=clean&kinds=fact"
    steps = [
        one_step(dataclasses.replace(ours, data=data, objective=objective, batch_size=12), tmp_path)
        for objective in (ours.objective, "sft")
    ]
    assert steps[0]["loss"] == pytest.approx(steps[1]["loss"], abs=1e-6)
    for name, gradient in steps[0]["gradients"].items():
        torch.testing.assert_close(gradient, steps[1]["gradients"][name], atol=1e-6, rtol=1e-4, msg=name)
