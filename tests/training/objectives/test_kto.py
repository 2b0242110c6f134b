"""KTO: exact values, the reference point, batches of one class, data of one class, labels that are none."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from known_scores import mean

import fairlead
from fairlead.errors import DataError, UsageError
from fairlead.training.config import TrainConfig
from fairlead.training.loop import train
from fairlead.training.objectives.base import Scores

KNOWN = ([1.0, 0.5, -1.0, 1.0], [True, True, False, False])
MISMATCHED = (1.0, -0.5, -0.5, 1.0)


def scores(ratios, labels, mismatched=MISMATCHED) -> Scores:
    """Scores of one token per answer with the given log-ratios, and the survey of the mismatched ones."""
    policy = (torch.tensor(ratios)[:, None] - 4.0).requires_grad_()
    mask = torch.ones(len(ratios), 1, dtype=torch.bool)
    reference = torch.full_like(policy, -4.0)
    return Scores(
        policy,
        mask,
        torch.arange(len(ratios)),
        reference=reference,
        fields={"label": torch.tensor(labels)},
        survey={"log_ratio": torch.tensor(mismatched)},
    )


@pytest.mark.parametrize(
    ("fields", "mismatched", "expected"),
    [
        ({}, MISMATCHED, 0.490635),
        ({"desirable_weight": 1.33}, MISMATCHED, 0.571074),
        ({}, (-4.0, -0.5, -0.5, 1.0), 0.490631),
        ({"loss": "apo_zero_unpaired"}, MISMATCHED, 0.490631),
    ],
)
def test_known_answers(fields, mismatched, expected):
    loss = fairlead.objective("kto", **fields)(scores(*KNOWN, mismatched))
    assert mean(loss) == pytest.approx(expected, abs=1e-6)
    assert float(loss.count) == 4


def test_metrics():
    metrics = {k: float(s / n) for k, (s, n) in fairlead.objective("kto")(scores(*KNOWN)).metrics.items()}
    assert metrics["reference_point"] == pytest.approx(0.25)
    assert metrics["reward_up"] == pytest.approx(0.075)
    assert metrics["reward_down"] == pytest.approx(0.0)
    assert metrics["accuracy"] == pytest.approx(0.75)
    assert metrics["logprob_up"] == pytest.approx(-3.25)
    assert metrics["logprob_down"] == pytest.approx(-4.0)


@pytest.mark.parametrize("up", [True, False])
def test_a_batch_of_one_class_is_no_nan(up):
    given = scores([1.0, -1.0], [up, up])
    loss = fairlead.objective("kto")(given)
    assert mean(loss) == pytest.approx(0.506234 if up else 1 - 0.506234, abs=1e-6)
    loss.sum.backward()
    assert torch.isfinite(given.policy.grad).all()
    absent = loss.metrics["reward_down" if up else "reward_up"]
    assert [float(part) for part in absent] == [0.0, 0.0]


def test_policy_equal_to_reference_gives_one_half():
    loss = fairlead.objective("kto", beta=2.0)(scores([0.0, 0.0], [True, False], (0.0, 0.0)))
    assert mean(loss) == 0.5


def test_the_reference_point_has_no_gradient():
    given = scores(*KNOWN)
    objective = fairlead.objective("kto")
    found = objective.survey(given)["log_ratio"]
    assert not found.requires_grad
    assert found.tolist() == pytest.approx(KNOWN[0])
    slope = torch.autograd.grad(objective(given).sum, given.policy)[0][:, 0]
    u = 0.1 * (torch.tensor(KNOWN[0]) - 0.25)
    wanted = 0.1 * torch.sigmoid(u) * torch.sigmoid(-u) * torch.tensor([-1.0, -1.0, 1.0, 1.0])
    torch.testing.assert_close(slope, wanted)


@pytest.mark.parametrize("ratio", [5000.0, -5000.0])
def test_far_ratios_stay_finite(ratio):
    given = scores([ratio, ratio], [True, False])
    loss = fairlead.objective("kto", beta=1.0)(given)
    loss.sum.backward()
    assert torch.isfinite(loss.sum)
    assert torch.isfinite(given.policy.grad).all()


def test_only_the_reference_point_needs_mismatched_answers():
    assert fairlead.objective("kto").needs.mismatched
    assert not fairlead.objective("kto", loss="apo_zero_unpaired").needs.mismatched
    given = dataclasses.replace(scores(*KNOWN), survey={})
    with pytest.raises(UsageError, match="mismatched"):
        fairlead.objective("kto")(given)


@pytest.mark.parametrize(
    "fields", [{"beta": 0}, {"desirable_weight": 0}, {"undesirable_weight": -1}, {"loss": "apo_zero"}]
)
def test_refusals(fields):
    with pytest.raises(UsageError, match=next(iter(fields))):
        fairlead.objective("kto", **fields)


def config(model, data, **changes) -> TrainConfig:
    return TrainConfig(model=model, data=str(data), objective="kto", batch_size=8, learning_rate=3e-3, **changes)


def test_trains_from_one_half_downwards(tiny_model, tmp_path):
    run = config(tiny_model, "harbor:feedback?n=64", epochs=6, micro_tokens=200)
    train(run, tmp_path / "run", quiet=True)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["loss"] == pytest.approx(0.5, abs=1e-6)
    assert lines[0]["reference_point"] == pytest.approx(0.0, abs=1e-5)
    assert lines[-1]["loss"] < 0.48
    assert lines[-1]["reward_up"] > lines[-1]["reward_down"]


def rows(labels, path):
    made = [{"prompt": f"question {i}", "completion": f"answer {i}", "label": up} for i, up in enumerate(labels)]
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return path


@pytest.mark.parametrize("up", [True, False])
def test_data_of_one_class_are_refused_before_the_first_step(up, tiny_model, tmp_path):
    data = rows([up] * 4, tmp_path / "one.jsonl")
    with pytest.raises(DataError, match=f"all 4 records have a thumb {'up' if up else 'down'}") as error:
        train(config(tiny_model, data), tmp_path / "run", quiet=True)
    assert "one.jsonl" in str(error.value)


def test_a_label_that_is_neither_true_nor_false_names_its_record(tiny_model, tmp_path):
    data = rows([True, 1, False, "yes"], tmp_path / "odd.jsonl")
    with pytest.raises(DataError, match="true or false") as error:
        train(config(tiny_model, data), tmp_path / "run", quiet=True)
    for word in ("line 2, label", "line 4, label", "odd.jsonl"):
        assert word in str(error.value)
