"""Reward model: exact values, margins, centring."""

from __future__ import annotations

import pytest
import torch
from known_scores import mean
from torch.nn.functional import logsigmoid

import fairlead
from fairlead.errors import UsageError
from fairlead.training.objectives.base import Scores


def pairs_of_scores(margin=None) -> Scores:
    values = torch.tensor([1.2, -0.3, 0.5, 0.4, 0.1, 0.5], requires_grad=True)
    fields = {"chosen": torch.tensor([1, 1, 1, 0, 0, 0], dtype=torch.bool)}
    if margin is not None:
        fields["margin"] = torch.tensor([*margin, *margin])
    blank = torch.zeros(6, 1)
    return Scores(blank, blank.bool(), torch.tensor([0, 1, 2, 0, 1, 2]), score=values, fields=fields)


def test_reward_model():
    assert mean(fairlead.objective("reward_model")(pairs_of_scores())) == pytest.approx(0.659088, abs=1e-6)
    with_margin = fairlead.objective("reward_model")(pairs_of_scores([0.5, 0.0, 1.0]))
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


def test_a_negative_centring_is_named():
    with pytest.raises(UsageError, match="centring"):
        fairlead.objective("reward_model", centring=-1)
