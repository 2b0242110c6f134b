"""BCO: exact values, the shift and its memory, classes of any share, weights, whole runs."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal

import pytest
import torch
import torch.nn.functional as F
from known_scores import CHOSEN, REFERENCE, REJECTED, mean

import fairlead
from fairlead.errors import UsageError
from fairlead.training.config import TrainConfig
from fairlead.training.loop import train
from fairlead.training.objectives.base import Scores

UP, DOWN = [0.8, 0.2], [-0.4, 0.1]


def bco(**fields):
    return fairlead.objective("bco", **({"beta": 1.0, "reduction": "row_mean"} | fields))


def scores(up, down, objective, weight=None) -> Scores:
    """Scores of one token per answer with the given log-ratios, and their survey."""
    policy = (torch.tensor([*up, *down])[:, None] - 4.0).requires_grad_()
    label = torch.arange(len(policy)) < len(up)
    fields = {"label": label} if weight is None else {"label": label, "weight": torch.tensor(weight)}
    mask = torch.ones_like(policy, dtype=torch.bool)
    made = Scores(policy, mask, torch.arange(len(policy)), reference=torch.full_like(policy, -4.0), fields=fields)
    return dataclasses.replace(made, survey=objective.survey(made))


def call(objective, given, state=None):
    return objective(given, objective.init() if state is None else state)


def told(loss) -> dict[str, float]:
    return {name: float(total / count) for name, (total, count) in loss.metrics.items()}


def remembered(objective, given, state):
    return objective.remember(
        state, {k: (s.double(), n.double()) for k, (s, n) in call(objective, given, state).metrics.items()}
    )


@pytest.mark.parametrize(
    ("up", "down", "fields", "delta", "expected"),
    [
        (UP, DOWN, {"delta_mode": "pooled_running"}, 0.175, 0.55304858),
        (UP, DOWN, {"delta_mode": "none"}, 0.0, 0.55666286),
        ([0.8], [-0.4, 0.1, -0.3], {"delta_mode": "pooled_running"}, 0.05, 0.53299044),
        ([0.8], [-0.4, 0.1, -0.3], {"decay": 0.0}, 0.30, 0.47822246),
    ],
)
def test_known_answers(up, down, fields, delta, expected):
    objective = bco(**fields)
    loss = call(objective, scores(up, down, objective))
    assert mean(loss) == pytest.approx(expected, abs=1e-6)
    assert float(loss.count) == 4
    assert told(loss)["delta"] == pytest.approx(delta, abs=1e-6)


@pytest.mark.parametrize(
    ("up", "expected"), [([0.8], 0.42870068), ([0.2], 0.68072530), ([], 0.44641821), ([], 0.65635014)]
)
def test_each_answers_loss(up, expected):
    down = [] if up else [-0.4 if expected < 0.5 else 0.1]
    objective = bco(start=0.175, decay=0.999999)
    loss = call(objective, scores(up, down, objective))
    assert mean(loss) == pytest.approx(expected, abs=2e-6)


def test_a_pair_is_bounded_by_dpo_and_best_at_its_midpoint():
    def at(delta):
        objective = bco(start=delta, decay=0.999999, reduction="class_balanced")
        loss = call(objective, scores([0.3], [-0.2], objective))
        return mean(loss), told(loss)["error_term"]

    plain = bco(delta_mode="none", reduction="class_balanced")
    assert mean(call(plain, scores([0.3], [-0.2], plain))) == pytest.approx(1.15249411, abs=1e-6)
    assert math.log1p(math.exp(-0.5)) == pytest.approx(0.47407698, abs=1e-6)  # the preference loss of the pair
    assert at(0.0)[0] > 0.47407698
    assert at(0.05) == pytest.approx((1.15187884, 1.55760157), abs=2e-6)
    assert at(0.05)[0] < min(at(0.0)[0], at(0.1)[0])


def test_running_mean_of_all_rewards():
    objective = bco(delta_mode="pooled_running")
    state = objective.init()
    for (up, down), delta, seen in ((([0.8, 0.2], [-0.4, 0.1]), 0.175, 4), (([1.0, 1.0], [-1.0]), 0.24285714, 7)):
        given = scores(up, down, objective)
        assert told(call(objective, given, state))["delta"] == pytest.approx(delta, abs=1e-6)
        state = remembered(objective, given, state)
        assert float(state["mean"]) == pytest.approx(delta, abs=1e-6)
        assert float(state["seen"]) == seen


def test_moving_averages_are_read_after_the_step_and_a_missing_class_keeps_its_own():
    objective = bco(decay=0.5, start=0.2)
    state = remembered(objective, scores(UP, DOWN, objective), objective.init())
    assert {k: float(v) for k, v in state.items()} == pytest.approx({"reward_up": 0.35, "reward_down": 0.025}, abs=1e-6)
    assert told(call(objective, scores(UP, DOWN, objective)))["delta"] == pytest.approx(0.1875)
    after = remembered(objective, scores([1.0], [], objective), state)
    after = {name: float(value) for name, value in after.items()}
    assert after == pytest.approx({"reward_up": 0.675, "reward_down": 0.025}, abs=1e-6)


def test_evaluation_reads_what_is_remembered():
    objective = bco(decay=0.5, start=0.2)
    held_out = dataclasses.replace(scores(UP, DOWN, objective), training=False)
    assert told(call(objective, held_out))["delta"] == pytest.approx(0.2)


def test_policy_equal_to_reference_gives_ln_2_per_answer():
    objective = bco()
    loss = call(objective, scores([0.0, 0.0], [0.0], objective))
    assert mean(loss) == pytest.approx(math.log(2), abs=1e-6)
    assert told(loss)["reward_size"] == 0.0


def test_without_shift_pairs_give_the_plain_classification_loss():
    objective = fairlead.objective("bco", delta_mode="none")
    rows = CHOSEN + REJECTED
    policy, mask = torch.zeros(4, 4), torch.zeros(4, 4, dtype=torch.bool)
    for n, row in enumerate(rows):
        policy[n, : len(row)], mask[n, : len(row)] = torch.tensor(row), True
    reference = torch.zeros(4, 4)
    reference[:, 0] = torch.tensor(REFERENCE)
    given = Scores(policy, mask, torch.arange(4), reference=reference, fields={"label": torch.tensor([1, 1, 0, 0])})
    given = dataclasses.replace(given, survey=objective.survey(given))
    assert mean(call(objective, given)) == pytest.approx(1.371857, abs=5e-6)


@pytest.mark.parametrize("fields", [{"decay": 0.0}, {"delta_mode": "pooled_running"}])
def test_a_constant_added_to_all_rewards_changes_nothing(fields):
    objective = bco(**fields)
    plain, moved = (scores([u + c for u in UP], [d + c for d in DOWN], objective) for c in (0.0, 7.0))
    one, other = call(objective, plain), call(objective, moved)
    assert mean(one) == pytest.approx(mean(other), abs=1e-5)
    slopes = [torch.autograd.grad(loss.sum, given.policy)[0] for loss, given in ((one, plain), (other, moved))]
    torch.testing.assert_close(*slopes, atol=1e-5, rtol=1e-4)


def test_converged_averages_follow_a_constant():
    objective = bco(decay=0.5, start=0.0)
    deltas = []
    for constant in (0.0, 3.0):
        state = objective.init()
        given = scores([u + constant for u in UP], [d + constant for d in DOWN], objective)
        for _ in range(40):
            state = remembered(objective, given, state)
        deltas.append(told(call(objective, given, state))["delta"])
    assert deltas[1] - deltas[0] == pytest.approx(3.0, abs=1e-5)


def test_class_balanced_is_the_sum_of_both_means():
    objective = bco(reduction="class_balanced", delta_mode="none")
    up, down = [0.8], [-0.4, 0.1, -0.3]
    wanted = F.softplus(-torch.tensor(up)).mean() + F.softplus(torch.tensor(down)).mean()
    assert mean(call(objective, scores(up, down, objective))) == pytest.approx(float(wanted), abs=1e-6)


@pytest.mark.parametrize("reduction", ["class_balanced", "row_mean"])
@pytest.mark.parametrize("up", [True, False])
def test_a_missing_class_contributes_nothing(reduction, up):
    objective = bco(reduction=reduction, delta_mode="none")
    given = scores([0.5] if up else [], [] if up else [0.5], objective)
    loss = call(objective, given)
    assert mean(loss) == pytest.approx(math.log1p(math.exp(-0.5 if up else 0.5)), abs=1e-6)
    loss.sum.backward()
    assert torch.isfinite(given.policy.grad).all()


def test_weights_act_on_thumbs_down_only_and_divide_by_the_number_of_rows():
    objective = bco(matching="hidden", delta_mode="none")
    given = scores(UP, DOWN, objective, weight=[9.0, 9.0, 2.0, 0.5])
    up, down = F.softplus(-torch.tensor(UP)), F.softplus(torch.tensor(DOWN))
    loss = call(objective, given)
    assert mean(loss) == pytest.approx(float((up.sum() + 2 * down[0] + 0.5 * down[1]) / 4), abs=1e-6)
    assert told(loss)["weight_down"] == pytest.approx(1.25)
    assert told(loss)["effective_share"] == pytest.approx(2.5**2 / (2 * 4.25))


def test_no_gradient_through_shift_and_weight():
    objective = bco(decay=0.0, matching="hidden")
    weight = torch.tensor([1.0, 1.0, 2.0, 0.5], requires_grad=True)
    given = scores(UP, DOWN, objective, weight=[1.0] * 4)
    given.fields["weight"] = weight
    given = dataclasses.replace(given, survey=objective.survey(given))
    assert not any(value.requires_grad for value in given.survey.values())
    slope = torch.autograd.grad(call(objective, given).sum, given.policy)[0][:, 0]
    delta = (0.5 - 0.15) / 2
    r = torch.tensor([*UP, *DOWN]) - delta
    wanted = torch.cat([-torch.sigmoid(-r[:2]), torch.tensor([2.0, 0.5]) * torch.sigmoid(r[2:])])
    torch.testing.assert_close(slope, wanted)
    assert weight.grad is None


@pytest.mark.parametrize("ratio", [5000.0, -5000.0])
def test_far_ratios_stay_finite(ratio):
    objective = bco()
    given = scores([ratio], [ratio, 0.0], objective)
    loss = call(objective, given)
    loss.sum.backward()
    assert torch.isfinite(loss.sum)
    assert torch.isfinite(given.policy.grad).all()
    assert all(math.isfinite(value) for value in told(loss).values())


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"beta": 0}, "beta"),
        ({"decay": 1.0}, "decay"),
        ({"delta_mode": "ema"}, "delta_mode"),
        ({"matching": "sentence"}, "embedder"),
        ({"embedder": "somewhere"}, "matching"),
    ],
)
def test_refusals(fields, word):
    with pytest.raises(UsageError, match=word):
        fairlead.objective("bco", **fields)


def test_a_call_without_survey_says_so():
    objective = bco()
    given = dataclasses.replace(scores(UP, DOWN, objective), survey={})
    with pytest.raises(UsageError, match="survey"):
        call(objective, given)


def config(model, **changes) -> TrainConfig:
    settings = {"objective": {"name": "bco", "beta": 1.0}, "batch_size": 8, "learning_rate": 3e-3} | changes
    return TrainConfig(model=model, data="harbor:feedback?n=96", **settings)


def lines(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_step_does_not_depend_on_its_passes(tiny_model, tmp_path):
    for name, tokens in (("together", 4096), ("apart", 60)):
        train(config(tiny_model, max_steps=4, micro_tokens=tokens), tmp_path / name, quiet=True)
    together, apart = lines(tmp_path / "together"), lines(tmp_path / "apart")
    for key in ("loss", "delta", "grad_norm", "reward_up", "error_term"):
        assert [line[key] for line in apart] == pytest.approx([line[key] for line in together], abs=2e-5, rel=1e-4), key
    assert together[-1]["delta"] != 0


@pytest.mark.parametrize("mode", ["class_ema", "pooled_running"])
def test_stopped_and_resumed_gives_the_same_bytes(mode, tiny_model, tmp_path, monkeypatch):
    from fairlead.training.run import Run

    run = config(tiny_model, save_every=100, objective={"name": "bco", "beta": 1.0, "delta_mode": mode})
    train(run, tmp_path / "whole", quiet=True)
    step = Run.step

    def interrupted(run):
        if run.progress.step == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return step(run)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(run, tmp_path / "broken", quiet=True)
    train(run, tmp_path / "broken", quiet=True)
    deltas = [[line["delta"] for line in lines(tmp_path / name)] for name in ("whole", "broken")]
    assert deltas[0] == deltas[1]
    assert deltas[0][6] != 0
    saved = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "broken")]
    assert saved[0] == saved[1]


def test_evaluation_leaves_the_shift_alone(tiny_model, tmp_path):
    held_out = {"evaluation_data": "harbor:feedback?n=16&seed=3", "evaluate_every": 1}
    train(config(tiny_model, max_steps=5), tmp_path / "plain", quiet=True)
    train(config(tiny_model, max_steps=5, **held_out), tmp_path / "measured", quiet=True)
    measured = lines(tmp_path / "measured")
    steps = [line["delta"] for line in measured if line.get("split") != "evaluation"]
    assert steps == [line["delta"] for line in lines(tmp_path / "plain")]
    evaluated = [line["delta"] for line in measured if line.get("split") == "evaluation"]
    assert evaluated == pytest.approx(steps, abs=1e-5)
