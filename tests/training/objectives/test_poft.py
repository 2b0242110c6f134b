"""PoFT: exact losses and weights, limits, and which rows get less weight."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import fairlead
from fairlead.errors import UsageError
from fairlead.records import read, to_row
from fairlead.training.config import TrainConfig
from fairlead.training.loop import train
from fairlead.training.objectives.base import Scores


def scores(rows, bars) -> Scores:
    width = max(map(len, rows))
    values, mask = torch.zeros(len(rows), width), torch.zeros(len(rows), width, dtype=torch.bool)
    for n, row in enumerate(rows):
        values[n, : len(row)] = torch.tensor(row)
        mask[n, : len(row)] = True
    fields = {"reference_mean": torch.tensor(bars)}
    return Scores(values.requires_grad_(), mask, torch.arange(len(rows)), fields=fields)


def said(rows, bars, **fields):
    """Return mean loss, mean tau and the gradient of the summed loss."""
    given = scores(rows, bars)
    loss = fairlead.objective("poft", **fields)(given)
    gradient = torch.autograd.grad(loss.sum, given.policy)[0]
    total, count = loss.metrics["tau"]
    return (loss.sum / loss.count).item(), (total / count).item(), gradient


class TestKnownAnswers:
    def test_one_record_against_three_models(self):
        bar = float(np.mean([-0.9, -1.5, -0.6]))
        loss, tau, _ = said([[-1.2]], [bar])
        assert loss == pytest.approx(0.79813887, abs=1e-6)
        assert tau == pytest.approx(0.54983400, abs=1e-6)
        geometric = math.exp(bar) / (math.exp(bar) + math.exp(-1.2))
        assert tau == pytest.approx(geometric, abs=1e-6)

    def test_as_likely_as_the_bar_is_half_of_cross_entropy(self):
        loss, tau, gradient = said([[-0.5, -1.5]], [-1.0])
        assert loss == pytest.approx(math.log(2), abs=1e-7)
        assert tau == 0.5
        torch.testing.assert_close(gradient, torch.full((1, 2), -0.5 / 2))

    @pytest.mark.parametrize(("own", "bar", "expected"), [(-0.5, -4.0, 0.02931223), (-2.0, -0.2, 0.85814894)])
    def test_weights(self, own, bar, expected):
        assert said([[own]], [bar])[1] == pytest.approx(expected, abs=1e-7)

    def test_records_of_different_lengths_weigh_the_same(self):
        given = scores([[-0.2, -0.4, -0.6], [-3.0, -1.0]], [-0.5, -0.7])
        loss = fairlead.objective("poft")(given)
        each = [said([row], [bar]) for row, bar in (([-0.2, -0.4, -0.6], -0.5), ([-3.0, -1.0], -0.7))]
        assert [one[0] for one in each] == pytest.approx([0.64439666, 1.54100845], abs=1e-6)
        assert [one[1] for one in each] == pytest.approx([0.47502081, 0.78583498], abs=1e-6)
        assert (loss.sum / loss.count).item() == pytest.approx(1.09270256, abs=1e-6)
        assert loss.count.item() == 2
        means = {name: (total / count).item() for name, (total, count) in loss.metrics.items()}
        assert means["mean_logprob"] == pytest.approx(-1.2, abs=1e-6)
        assert means["reference_mean"] == pytest.approx(-0.6, abs=1e-6)
        assert means["nll"] == pytest.approx(5.2 / 5, abs=1e-6)

    def test_far_below_the_bar_stays_finite(self):
        assert said([[-120.0]], [0.0])[0] == pytest.approx(120, abs=1e-4)

    def test_limits(self):
        assert said([[-60.0]], [0.0])[1] == pytest.approx(1, abs=1e-6)
        assert said([[-0.1]], [-80.0])[2].abs().max() < 1e-30
        loss, _, gradient = said([[-3.0]], [-0.1], beta=1e-9)
        assert loss == pytest.approx(math.log(2), abs=1e-7)
        assert gradient.abs().max() < 1e-8

    @pytest.mark.parametrize("fields", [{}, {"beta": 2.5, "gamma": 0.3}])
    def test_the_gradient_is_a_weighted_cross_entropy_s(self, fields):
        given = scores([[-0.2, -0.4, -0.6], [-3.0, -1.0]], [-0.5, -0.7])
        loss = fairlead.objective("poft", **fields)(given)
        found = torch.autograd.grad(loss.sum, given.policy)[0]
        own = (given.policy * given.mask).sum(-1) / given.mask.sum(-1)
        beta, gamma = fields.get("beta", 1.0), fields.get("gamma", 0.0)
        tau = beta * torch.sigmoid(beta * (given.fields["reference_mean"] - own) - gamma).detach()
        torch.testing.assert_close(found, torch.autograd.grad(-(tau * own).sum(), given.policy)[0])
        assert loss.metrics["tau"][0].item() == pytest.approx(tau.sum().item(), abs=1e-6)
        torch.testing.assert_close(loss.sum, -F.logsigmoid(beta * (own - given.fields["reference_mean"]) + gamma).sum())


def test_settings_that_make_no_sense():
    for fields in ({"beta": 0.0}, {"references": []}, {"references": ["a", "a"]}):
        with pytest.raises(UsageError):
            fairlead.objective("poft", **fields)


def test_shuffled_answers_get_less_weight(tmp_path, tiny_model):
    """Half of the answers belong to other questions; the references are aligned models, the target is untrained."""
    rows = [to_row(record) for record in read("harbor:demonstrations?n=80&kinds=fact,harm,unk,sum")]
    taus = {}
    for name in ("clean", "shuffled"):
        answers = [row["completion"] for row in rows]
        answers = answers if name == "clean" else answers[1:] + answers[:1]
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps({**r, "completion": a}) + "\n" for r, a in zip(rows, answers)))
        config = TrainConfig(
            model=tiny_model,
            data=str(path),
            objective={"name": "poft", "references": ["harbor:aligned-300k", "harbor:aligned-1m"]},
            batch_size=80,
            max_steps=1,
        )
        taus[name] = train(config, tmp_path / name, quiet=True).metrics
    assert taus["shuffled"]["reference_mean"] < taus["clean"]["reference_mean"] - 1
    assert taus["shuffled"]["tau"] < taus["clean"]["tau"] - 0.02


def test_the_bar_does_not_depend_on_the_order_of_the_models(tmp_path):
    def bar(*references):
        config = TrainConfig(
            model="harbor:base-300k",
            data="harbor:demonstrations?n=8",
            evaluation_data="harbor:demonstrations?n=4&split=test",
            objective={"name": "poft", "references": list(references)},
            max_steps=1,
        )
        return train(config, tmp_path / "-".join(references).replace(":", "-"), quiet=True).metrics

    one, two = bar("harbor:aligned-300k"), bar("harbor:aligned-1m")
    both, turned = bar("harbor:aligned-300k", "harbor:aligned-1m"), bar("harbor:aligned-1m", "harbor:aligned-300k")
    assert both["reference_mean"] == pytest.approx(turned["reference_mean"], abs=1e-6)
    assert both["loss"] == pytest.approx(turned["loss"], abs=1e-6)
    mean = (one["reference_mean"] + two["reference_mean"]) / 2
    assert both["reference_mean"] == pytest.approx(mean, abs=1e-6)
    assert math.isfinite(both["evaluation_loss"])


@pytest.mark.parametrize("closing", [False, True])
def test_equal_models_start_at_ln_2(tmp_path, closing):
    config = TrainConfig(
        model="harbor:aligned-300k",
        data="harbor:demonstrations?n=16",
        objective={"name": "poft", "references": ["harbor:aligned-300k"], "closing": closing},
        max_steps=1,
    )
    done = train(config, tmp_path / "run", quiet=True).metrics
    assert done["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert done["tau"] == pytest.approx(0.5, abs=1e-5)
    other = dataclasses.replace(config, objective={**config.objective, "closing": not closing})
    assert train(other, tmp_path / "other", quiet=True).metrics["nll"] != pytest.approx(done["nll"], abs=1e-3)
