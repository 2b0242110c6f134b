"""Absolute likelihood: exact values and gradients, both ends of the scale, and what it does to the chosen answers."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from known_scores import mean, scores
from torch import nn

import fairlead
from fairlead.errors import UsageError
from fairlead.training.objectives.absolute_likelihood import alignment
from fairlead.training.objectives.base import Scores

CHOSEN, REJECTED = torch.tensor([-0.5]), torch.tensor([-1.5])


def pair(chosen=-0.5, rejected=-1.5) -> Scores:
    return scores(policy=[[chosen], [rejected]], reference=[0, 0], groups=(0, 0), chosen=(1, 0))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"weight": 1}, 1.25248246),
        ({"weight": 0.2}, 0.65049649),
        ({"weight": 0}, 0.5),
        ({"weight": 1, "sft_weight": 0}, 0.75248246),
        ({"weight": 1, "sft_weight": 0, "beta": 0.5}, 1.01993369),
        ({"weight": 1, "sft_weight": 0, "beta": 2}, 0.43051497),
    ],
)
def test_absolute_likelihood(fields, expected):
    assert mean(fairlead.objective("absolute_likelihood", **fields)(pair())) == pytest.approx(expected, abs=1e-6)


def test_its_closed_form():
    exact = 1.2 * 0.5 - 0.2 * math.log(1 - math.exp(-1.5))
    assert mean(fairlead.objective("absolute_likelihood", weight=0.2)(pair())) == pytest.approx(exact, abs=1e-6)


def test_a_temper_of_one_is_the_simplified_form():
    tempered = alignment(CHOSEN.double(), REJECTED.double(), beta=1 + 1e-12)
    torch.testing.assert_close(tempered, alignment(CHOSEN.double(), REJECTED.double()))


def test_gradients_in_log_space_and_in_probability_space():
    given = pair()
    fairlead.objective("absolute_likelihood", weight=1, sft_weight=0)(given).sum.backward()
    slope = given.policy.grad[:, 0]
    torch.testing.assert_close(slope, torch.tensor([-1.0, 0.28721692]))
    p = given.policy.detach()[:, 0].exp()
    torch.testing.assert_close(slope / p, torch.tensor([-1.64872127, 1.28721692]))
    assert float(-slope[0] / p[0] / (slope[1] / p[1])) == pytest.approx(1.28084183)
    dpo = pair()
    fairlead.objective("dpo")(dpo).sum.backward()
    own = dpo.policy.grad[:, 0] / p
    assert float(-own[0] / own[1]) == pytest.approx(0.36787944)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_certain_answers_stay_finite(dtype):
    near = torch.tensor([-1e-8], dtype=dtype)
    assert float(alignment(near, near, clamp=0)) == pytest.approx(18.42068, abs=1e-4)
    assert float(alignment(near, near)) == pytest.approx(16.11810, abs=1e-4)


@pytest.mark.parametrize("beta", [1.0, 2.0])
def test_a_clamped_rejected_answer_is_counted_and_gets_no_gradient_from_its_odds(beta):
    given = pair(rejected=0.0)
    loss = fairlead.objective("absolute_likelihood", beta=beta)(given)
    loss.sum.backward()
    assert torch.isfinite(given.policy.grad).all()
    assert float(loss.metrics["clamped"][0]) == 1
    if beta == 1:
        assert given.policy.grad[1, 0] == 0


def test_summed_log_probs_would_leave_the_rejected_answer_alone():
    rejected = torch.tensor([-80.0], requires_grad=True)
    loss = alignment(torch.tensor([-60.0]), rejected)
    assert float(loss.detach()) == pytest.approx(60.0)
    loss.backward()
    assert 0 < float(rejected.grad) < 1e-34


def test_it_sees_means_over_tokens():
    given = scores()
    loss = fairlead.objective("absolute_likelihood", weight=1)(given)
    chosen, rejected = torch.tensor([-1.0, -0.5]), torch.tensor([-2.25, -0.5])
    assert mean(loss) == pytest.approx(float((-chosen + alignment(chosen, rejected)).mean()))
    found = {name: float(total / count) for name, (total, count) in loss.metrics.items()}
    assert found["logprob_chosen"] == pytest.approx(-2.0)
    assert found["probability_chosen"] == pytest.approx((math.exp(-1) + math.exp(-0.5)) / 2)
    assert found["accuracy"] == 0.5


def test_it_has_no_reference():
    assert not fairlead.objective("absolute_likelihood").needs.reference


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"weight": -1}, "weight"),
        ({"sft_weight": -1}, "sft_weight"),
        ({"clamp": -1}, "clamp"),
        ({"beta": 0}, "beta"),
        ({"weight": 0, "sft_weight": 0}, "both 0"),
    ],
)
def test_bad_fields_are_named(fields, word):
    with pytest.raises(UsageError, match=word):
        fairlead.objective("absolute_likelihood", **fields)


class Bigrams(nn.Module):
    """A model of the next token by the last one."""

    def __init__(self, vocabulary: int = 20):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Embedding(vocabulary, 32), nn.Linear(32, 64), nn.Tanh(), nn.Linear(64, vocabulary)
        )

    def forward(self, tokens):
        logprobs = self.layers(tokens[:, :-1]).log_softmax(-1)
        return logprobs.gather(-1, tokens[:, 1:, None])[..., 0]


def trained(name: str, seed: int, **fields) -> list[tuple[float, float]]:
    """Train on 16 random pairs of 6 tokens; return both mean log-probs before every step and at the end."""
    torch.manual_seed(seed)
    model, tokens = Bigrams(), torch.randint(0, 20, (32, 7))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    objective, reference = fairlead.objective(name, **fields), model(tokens).detach()
    fields = {"chosen": torch.arange(32) < 16}
    seen = []
    for _ in range(60):
        policy = model(tokens)
        given = Scores(
            policy, torch.ones_like(policy).bool(), torch.arange(32) % 16, reference=reference, fields=fields
        )
        loss = objective(given)
        optimizer.zero_grad()
        (loss.sum / loss.count).backward()
        optimizer.step()
        seen.append(tuple(policy.detach().mean(-1).view(2, 16).mean(-1).tolist()))
    return [*seen, tuple(model(tokens).detach().mean(-1).view(2, 16).mean(-1).tolist())]


@pytest.mark.parametrize("seed", range(4))
def test_chosen_answers_keep_rising_where_those_of_dpo_do_not(seed):
    ours = trained("absolute_likelihood", seed, weight=1)
    dpo = trained("dpo", seed)
    assert ours[0] == dpo[0]
    assert all(chosen > ours[0][0] for chosen, _ in ours[1:])
    assert sum(b[0] > a[0] for a, b in pairwise(ours)) > 50
    assert ours[-1][0] > dpo[-1][0] + 0.5
    assert dpo[-1][1] < ours[-1][1] < ours[0][1]
