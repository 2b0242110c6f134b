"""Reward model: exact values, margins, centring, soft labels, absolute scores."""

from __future__ import annotations

import json
import math

import pytest
import torch
from known_scores import mean
from torch.nn.functional import logsigmoid

import fairlead
from fairlead.errors import DataError, UsageError
from fairlead.training.config import TrainConfig
from fairlead.training.loop import train
from fairlead.training.objectives.base import Scores


def pairs_of_scores(chosen=(1.2, -0.3, 0.5), rejected=(0.4, 0.1, 0.5), **columns) -> Scores:
    """Pairs with columns of one value per pair, or of one per completion (chosen ones first); NaN where not given."""
    number = len(chosen)
    values = torch.tensor([*chosen, *rejected], requires_grad=True)
    fields = {"chosen": torch.arange(2 * number) < number}
    for name in ("margin", "chosen_probability", "score", "side"):
        given = columns.get(name, [math.nan] * number)
        fields[name] = torch.tensor([*given, *given] if len(given) == number else given)
    blank = torch.zeros(2 * number, 1)
    return Scores(blank, blank.bool(), torch.arange(2 * number) % number, score=values, fields=fields)


def test_reward_model():
    assert mean(fairlead.objective("reward_model")(pairs_of_scores())) == pytest.approx(0.659088, abs=1e-6)
    with_margin = fairlead.objective("reward_model")(pairs_of_scores(margin=[0.5, 0.0, 1.0]))
    assert mean(with_margin) == pytest.approx(0.926877, abs=1e-6)
    centred = fairlead.objective("reward_model", centring=0.01)(pairs_of_scores())
    assert mean(centred) == pytest.approx(0.671088, abs=1e-6)
    metrics = {k: float(s / n) for k, (s, n) in with_margin.metrics.items()}
    assert metrics["accuracy"] == pytest.approx(1 / 3)
    assert metrics["margin"] == pytest.approx((0.8 - 0.4 + 0.0) / 3)


def test_reward_model_loss_is_bradley_terry():
    given = pairs_of_scores()
    difference = given.score[:3] - given.score[3:]
    expected = float(-logsigmoid(difference).mean().detach())
    assert mean(fairlead.objective("reward_model")(given)) == pytest.approx(expected)


def test_known_margins_and_a_ranking_of_three():
    for margin, expected in ((0.9, 0.341154), (0.0, 0.693147), (-2.0, 2.126928)):
        one = pairs_of_scores((margin,), (0.0,))
        assert mean(fairlead.objective("reward_model")(one)) == pytest.approx(expected, abs=1e-6)
    ranked = pairs_of_scores((1.0, 1.0, 0.2), (0.2, -0.5, -0.5))
    assert mean(fairlead.objective("reward_model")(ranked)) == pytest.approx(0.325233, abs=1e-6)


def test_soft_labels():
    soft = pairs_of_scores((0.5, -0.2), (0.0, 0.0), chosen_probability=[0.8, 0.4])
    assert mean(fairlead.objective("reward_model")(soft)) == pytest.approx(0.62610793, abs=1e-6)
    unsure = pairs_of_scores((0.5, -0.2), (0.0, 0.0), chosen_probability=[0.5, 0.5])
    loss = fairlead.objective("reward_model")(unsure)
    loss.sum.backward()
    assert unsure.score.grad[0] > 0 > unsure.score.grad[1]  # both differences are pulled to zero
    for right, expected in ((0.8909032, 0.4795538), (1.0, 0.4031860), (0.6, 0.6831860)):
        one = pairs_of_scores((0.7,), (0.0,), chosen_probability=[right])
        assert mean(fairlead.objective("reward_model")(one)) == pytest.approx(expected, abs=1e-6)
    best = pairs_of_scores((0.4054651,), (0.0,), chosen_probability=[0.6])  # the log-odds of .6
    fairlead.objective("reward_model")(best).sum.backward()
    assert best.score.grad[0] == pytest.approx(0, abs=1e-6)
    certain = pairs_of_scores(chosen_probability=[1.0, math.nan, 1.0])
    assert mean(fairlead.objective("reward_model")(certain)) == pytest.approx(0.659088, abs=1e-6)


@pytest.mark.parametrize(
    ("chosen", "rejected", "score", "expected"),
    [
        ((1.2,), (0.4,), [1.0, 0.0], 0.391101),
        ((1.2,), (0.4,), [math.nan, math.nan], 0.371101),
        ((0.4,), (1.2,), [1.0, 0.0], 1.351101),
        ((1.2, 1.2, 0.4), (0.4, 0.4, 1.2), [1.0, math.nan, 1.0, 0.0, math.nan, 0.0], 0.704434),
        ((1.2,), (0.4,), [1.0, math.nan], 0.371101 + 0.1 * 0.04),
    ],
)
def test_absolute_scores(chosen, rejected, score, expected):
    loss = fairlead.objective("reward_model", pointwise=0.1)(pairs_of_scores(chosen, rejected, score=score))
    assert mean(loss) == pytest.approx(expected, abs=1e-6)
    given = sum(not math.isnan(s) for s in score)
    assert float(loss.metrics["score_error"][1]) == given


@pytest.mark.parametrize(
    ("weight", "best"), [(0.5, (1.049811, -0.049811)), (0.05, (1.673325, -0.673325)), (5.0, (0.833899, 0.166101))]
)
def test_the_best_rewards_of_one_pair(weight, best):
    """Scores .8 and .2: the margin is 1.099622, 2.346649 and 0.667798; the sum is always 1."""
    objective = fairlead.objective("reward_model", pointwise=weight)
    given = pairs_of_scores((0.0,), (0.0,), score=[0.8, 0.2])
    given.score = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([given.score], max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        total = objective(given).sum
        total.backward()
        return total

    optimizer.step(loss)
    assert given.score.tolist() == pytest.approx(best, abs=1e-3)
    assert sum(given.score.tolist()) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("field", ["centring", "pointwise"])
def test_a_negative_weight_is_named(field):
    with pytest.raises(UsageError, match=field):
        fairlead.objective("reward_model", **{field: -1})


@pytest.fixture
def run(tmp_path, tiny_model):
    """Train on two pairs with these further columns."""

    def start(*extras, **fields):
        rows = [{"prompt": "hi", "chosen": "red", "rejected": "blue", **extra} for extra in extras]
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        objective = {"name": "reward_model", **fields}
        config = TrainConfig(model=str(tiny_model), data=str(tmp_path / "rows.jsonl"), objective=objective)
        return train(config, tmp_path / "run", quiet=True)

    return start


def test_absolute_scores_reach_the_loss(run):
    assert run({"score_chosen": 0.9, "score_rejected": 0.1}, {}, pointwise=0.1).metrics["score_error"] > 0


@pytest.mark.parametrize(
    ("extra", "fields", "complaint"),
    [
        ({}, {"pointwise": 0.1}, "no record has 'score'"),
        ({"score_chosen": "high", "score_rejected": 0}, {"pointwise": 0.1}, "line 2: 'score' is"),
        ({"chosen_probability": 1.5}, {}, r"line 2: 'chosen_probability' is \[1.5"),
        ({"chosen_probability": "likely"}, {}, "line 2: 'chosen_probability' is 'likely'"),
        ({"margin": [1]}, {}, "line 2: 'margin' is"),
    ],
)
def test_columns_that_cannot_be_used_are_named(run, extra, fields, complaint):
    with pytest.raises(DataError, match=complaint):
        run({}, extra, **fields)


def test_a_cost_model_knows_which_side_of_0_answers_are_on():
    """Chosen is the more harmful answer, on the side above 0; the other is safe."""
    one = pairs_of_scores((1.5,), (-0.5,), side=[1.0, -1.0])
    loss = fairlead.objective("reward_model", sides=1.0)(one)
    assert mean(loss) == pytest.approx(0.802418, abs=1e-6)
    assert float(loss.metrics["side_accuracy"][0]) == 2
    wrong = fairlead.objective("reward_model", sides=1.0)(pairs_of_scores((1.5,), (0.5,), side=[1.0, -1.0]))
    assert [float(x) for x in wrong.metrics["side_accuracy"]] == [1, 2]
    half = fairlead.objective("reward_model", sides=1.0)(pairs_of_scores((1.5,), (-0.5,), side=[1.0, math.nan]))
    assert mean(half) == pytest.approx(0.802418 - 0.474077, abs=1e-6)
    assert mean(fairlead.objective("reward_model")(one)) == pytest.approx(0.126928, abs=1e-6)


def test_sides_are_of_0(tiny_model, tmp_path):
    pair = {"prompt": "hi", "chosen": "red", "rejected": "blue"}
    for extra, complaint in (({}, "no record has 'side'"), ({"side_chosen": 0.5, "side_rejected": -1}, "'side' is")):
        path = tmp_path / "rows.jsonl"
        path.write_text(json.dumps({**pair, **extra}) + "\n")
        config = TrainConfig(model=tiny_model, data=str(path), objective={"name": "reward_model", "sides": 1.0})
        with pytest.raises(DataError, match=complaint):
            train(config, tmp_path / f"run-{len(extra)}", quiet=True)
