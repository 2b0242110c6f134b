"""Generalised knowledge distillation: what it counts, through the loop, and what it refuses."""

from __future__ import annotations

import dataclasses
import shutil

import pytest
import torch
from transformers import AutoTokenizer

import fairlead
from fairlead.errors import UsageError
from fairlead.forward.divergence import Divergence
from fairlead.training.config import TrainConfig
from fairlead.training.loop import train
from fairlead.training.objectives.base import Scores

TRAIN = {
    "model": "harbor:base-300k",
    "data": "harbor:demonstrations?n=24",
    "batch_size": 8,
    "max_steps": 6,
    "learning_rate": 1e-3,
}


def scores(divergence, mask):
    mask = torch.tensor(mask, dtype=torch.bool)
    values = torch.where(mask, -1.0, 0.0)
    return Scores(
        values.clone().requires_grad_(),
        mask,
        torch.arange(len(mask)),
        teacher=2 * values,
        divergence=torch.tensor(divergence, requires_grad=True),
    )


def test_the_mean_is_over_trained_tokens():
    loss = fairlead.objective("gkd")(scores([[0.1, 0.2, 9.0], [0.3, 9.0, 9.0]], [[1, 1, 0], [1, 0, 0]]))
    assert (loss.sum / loss.count).item() == pytest.approx(0.2)
    assert float(loss.count) == 3
    assert float(loss.metrics["nll"][0] / loss.metrics["nll"][1]) == 1.0
    assert float(loss.metrics["teacher_nll"][0] / loss.metrics["teacher_nll"][1]) == 2.0


def test_its_fields_are_the_divergence_s():
    needs = fairlead.objective("gkd", teacher="t", kind="reverse", temperature=2.0, top_k=7, tail="bucket").needs
    assert needs.teacher == "t"
    assert needs.divergence == Divergence("reverse", 0.5, 2.0, 7, "bucket")


@pytest.mark.parametrize("fields", [{"beta": 1.0}, {"temperature": 0.0}, {"top_k": 1}])
def test_settings_that_make_no_sense(fields):
    with pytest.raises(UsageError):
        fairlead.objective("gkd", **fields)


@pytest.mark.parametrize("fields", [{}, {"kind": "forward"}, {"kind": "reverse"}, {"kind": "reverse", "top_k": 20}])
def test_training_brings_the_student_nearer(fields, tmp_path):
    config = TrainConfig(**TRAIN, objective={"name": "gkd", "teacher": "harbor:aligned-1m", **fields})
    before = train(dataclasses.replace(config, learning_rate=0.0), tmp_path / "before", quiet=True).metrics
    after = train(dataclasses.replace(config, max_steps=18), tmp_path / "after", quiet=True).metrics
    assert 0 < after["loss"] < 0.8 * before["loss"]


def test_a_model_has_nothing_to_learn_from_itself(tmp_path):
    config = TrainConfig(**TRAIN, objective={"name": "gkd", "teacher": "harbor:base-300k", "kind": "forward"})
    done = train(dataclasses.replace(config, max_steps=1), tmp_path, quiet=True).metrics
    assert done["loss"] == pytest.approx(0, abs=1e-6)
    assert done["grad_norm"] == pytest.approx(0, abs=1e-4)


def test_a_teacher_of_another_vocabulary(tmp_path, tiny_model):
    other = tmp_path / "teacher"
    shutil.copytree(tiny_model, other)
    tokenizer = AutoTokenizer.from_pretrained(other)
    tokenizer.add_tokens(["brigantine"])
    tokenizer.save_pretrained(other)
    config = TrainConfig(**TRAIN, objective={"name": "gkd", "teacher": str(other)})
    with pytest.raises(UsageError, match="another vocabulary"):
        train(config, tmp_path / "run", quiet=True)
