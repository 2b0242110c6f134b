"""RRHF: exact values, integer gradients, ties, agreement of two judges, and records that rank nothing."""

from __future__ import annotations

import itertools
import json

import pytest
import torch
from known_scores import mean

import fairlead
from fairlead import models
from fairlead.errors import DataError, UsageError
from fairlead.records import read
from fairlead.render import Renderer
from fairlead.training.config import TrainConfig
from fairlead.training.groups import build_groups
from fairlead.training.loop import train
from fairlead.training.objectives.base import Scores

P = [-0.9, -0.4, -1.6, -0.7]
RANK = [3.0, 1.0, 4.0, 2.0]
"""Scores of the order 2, 0, 3, 1 from best to worst."""


def ranking(policy=P, rank=RANK, groups=None, **fields) -> Scores:
    rows = [[p] if isinstance(p, float) else p for p in policy]
    width = max(map(len, rows))
    values, mask = torch.zeros(len(rows), width), torch.zeros(len(rows), width, dtype=torch.bool)
    for n, row in enumerate(rows):
        values[n, : len(row)] = torch.tensor(row)
        mask[n, : len(row)] = True
    fields = {"rank_score": torch.tensor(rank)} | {name: torch.tensor(given) for name, given in fields.items()}
    group = torch.zeros(len(rows), dtype=torch.int64) if groups is None else torch.tensor(groups)
    return Scores(values.requires_grad_(), mask, group, fields=fields)


def rank_only(**fields):
    return fairlead.objective("rrhf", sft_weight=0, **fields)


def test_rrhf():
    assert mean(rank_only()(ranking())) == pytest.approx(3.8, abs=1e-6)
    both = fairlead.objective("rrhf", weight=2)(ranking())
    assert mean(both) == pytest.approx(2 * 3.8 + 1.6, abs=1e-6)
    assert float(both.count) == 1
    assert float(both.metrics["accuracy"][1]) == 6
    assert float(both.metrics["accuracy"][0]) == 0
    assert float(both.metrics["logprob_chosen"][0]) == pytest.approx(-1.6)


def test_sft_of_the_best_summed_or_per_token():
    given = ranking([[-0.2, -0.5, -0.9], [-5.0]], [1.0, 0.0])
    assert mean(fairlead.objective("rrhf", weight=0)(given)) == pytest.approx(1.6)
    per_token = fairlead.objective("rrhf", weight=0, sft_reduction="mean")
    assert mean(per_token(given)) == pytest.approx(0.53333333)


def test_ordered_answers_cost_nothing():
    given = ranking([-0.1, -0.2, -0.3], [3.0, 2.0, 1.0])
    loss = rank_only()(given)
    loss.sum.backward()
    assert float(loss.sum.detach()) == 0
    assert (given.policy.grad == 0).all()
    assert float(loss.metrics["accuracy"][0]) == 3


def test_the_reversed_order_costs_the_sum_of_all_gaps():
    gaps = sum(abs(a - b) for a, b in itertools.combinations(P, 2))
    assert mean(rank_only()(ranking(rank=[-p for p in P]))) == pytest.approx(gaps, abs=1e-6)
    assert mean(rank_only()(ranking(rank=P))) == 0


def test_gradients_count_violated_pairs():
    given = ranking()
    rank_only()(given).sum.backward()
    better_below = [sum(RANK[i] > RANK[k] and P[i] < P[k] for i in range(4)) for k in range(4)]
    worse_above = [sum(RANK[i] < RANK[k] and P[i] > P[k] for i in range(4)) for k in range(4)]
    expected = [float(a - b) for a, b in zip(better_below, worse_above, strict=True)]
    assert given.policy.grad[:, 0].tolist() == expected
    assert sum(expected) == 0


def test_one_sequence_at_a_time_gives_the_gradient_of_all():
    """The loss is linear where the order stays: its coefficients times each log-prob are all that backward needs."""
    torch.manual_seed(0)
    weights = torch.randn(4, 6, requires_grad=True)
    inputs = torch.randn(4, 6)

    def logprobs():
        return torch.nn.functional.logsigmoid(inputs @ weights.T).diagonal()

    def given(p):
        return Scores(p[:, None], torch.ones(4, 1).bool(), torch.zeros(4), fields={"rank_score": torch.tensor(RANK)})

    (joint,) = torch.autograd.grad(rank_only()(given(logprobs())).sum, weights)
    detached = logprobs().detach().requires_grad_()
    (slope,) = torch.autograd.grad(rank_only()(given(detached)).sum, detached)
    apart = sum(torch.autograd.grad(slope[k] * logprobs()[k], weights)[0] for k in range(4))
    torch.testing.assert_close(apart, joint, atol=1e-6, rtol=0)


def test_shift_and_scale():
    assert mean(rank_only()(ranking([p - 7.0 for p in P]))) == pytest.approx(3.8, abs=1e-5)
    assert mean(rank_only()(ranking([3 * p for p in P]))) == pytest.approx(3 * 3.8, abs=1e-5)


def test_length_penalty():
    given = ranking([[-1.0] * 4, [-1.5]], [1.0, 0.0])
    assert mean(rank_only()(given)) == 0
    assert mean(rank_only(length_penalty=0)(given)) == pytest.approx(4.0 - 1.5)
    assert mean(rank_only(length_penalty=0.5)(given)) == pytest.approx(2.0 - 1.5)


def test_ties_are_never_a_pair():
    given = ranking([-1.0, -3.0, -2.0], [1.0, 1.0, 0.0])
    loss = fairlead.objective("rrhf")(given)
    assert float(loss.metrics["rank_loss"][0]) == pytest.approx(1.0)
    assert float(loss.metrics["accuracy"][1]) == 2
    assert float(loss.metrics["nll"][0]) == pytest.approx((1.0 + 3.0) / 2)


def test_rankings_of_any_size_do_not_mix():
    given = ranking([*P, -0.5, -0.1], [*RANK, 1.0, 0.0], groups=[7, 7, 7, 7, 3, 3])
    loss = rank_only()(given)
    assert float(loss.sum.detach()) == pytest.approx(3.8 + 0.4, abs=1e-6)
    assert float(loss.count) == 2


def test_pairs_on_which_two_judges_differ_weigh_less():
    """The second judge's order 1, 3, 0, 2 is the first one's reversed; with 0 and 3 exchanged it agrees on one pair."""
    reversed_order = [2.0, 4.0, 1.0, 3.0]
    assert mean(rank_only(disagreement=0.25)(ranking(second_scores=reversed_order))) == pytest.approx(3.8 / 4, abs=1e-6)
    one = ranking(second_scores=[3.0, 4.0, 1.0, 2.0])
    assert mean(rank_only(disagreement=0.25)(one)) == pytest.approx(0.2 + 3.6 / 4, abs=1e-6)
    assert mean(rank_only(disagreement=0.0)(ranking(second_scores=RANK))) == pytest.approx(3.8, abs=1e-6)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"weight": -1}, "weight"),
        ({"sft_weight": -1}, "sft_weight"),
        ({"weight": 0, "sft_weight": 0}, "both 0"),
        ({"length_penalty": -1}, "length_penalty"),
        ({"disagreement": 1.5}, "disagreement"),
    ],
)
def test_bad_fields_are_named(fields, word):
    with pytest.raises(UsageError, match=word):
        fairlead.objective("rrhf", **fields)


@pytest.fixture
def rankings(tmp_path):
    """Write rankings of three words."""

    def write(*scores, **extra):
        rows = [
            {"id": f"row-{i}", "prompt": "hi", "completions": ["red", "blue", "red blue"], "scores": given, **extra}
            for i, given in enumerate(scores)
        ]
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return tmp_path / "rows.jsonl"

    return write


def test_a_ranking_of_ties_only_stops_before_the_first_step(rankings, tiny_model):
    renderer = Renderer(models.load_tokenizer(tiny_model))
    needs = fairlead.objective("rrhf").needs
    groups, lengths = build_groups(read(rankings([3, 2, 1], [1, 1, 0])), renderer, needs, max_length=50)
    assert groups[1].fields["rank_score"].tolist() == [1, 1, 0]
    assert len(lengths.completion) == 6
    with pytest.raises(DataError, match="all have the score 2") as error:
        build_groups(read(rankings([3, 2, 1], [2, 2, 2])), renderer, needs, max_length=50)
    assert "rows.jsonl, line 2" in str(error.value)


@pytest.mark.parametrize("scores", [["high", 2, 1], [3, None, 1], [True, 2, 1], [3, 2]])
def test_scores_that_are_no_numbers_are_named(rankings, scores):
    with pytest.raises(DataError, match="line 2"):
        read(rankings([3, 2, 1], scores))


def test_the_second_judge_must_have_said_something(rankings, tiny_model, tmp_path):
    objective = {"name": "rrhf", "disagreement": 0.5}
    how = {"model": str(tiny_model), "objective": objective, "batch_size": 2}
    with pytest.raises(DataError, match="second_scores"):
        train(TrainConfig(data=str(rankings([3, 2, 1])), **how), tmp_path / "without", quiet=True)
    data = str(rankings([3, 2, 1], [1, 2, 3], second_scores=[1.0, 2.0, 3.0]))
    done = train(TrainConfig(data=data, **how), tmp_path / "with", quiet=True)
    assert done.steps == 1
    assert 0 <= done.metrics["accuracy"] <= 1
