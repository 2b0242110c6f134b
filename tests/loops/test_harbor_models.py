from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

from fairlead.errors import UnknownNameError
from fairlead.loops import harbor_models


@pytest.fixture
def short(monkeypatch):
    """The smallest size with a handful of steps and questions."""
    settings = replace(harbor_models.SETTINGS["300k"], steps=4, demonstrations=32, prompts=8)
    monkeypatch.setitem(harbor_models.SETTINGS, "300k", settings)
    monkeypatch.setattr(harbor_models, "measure", lambda model: {"measured_model_exists": 1.0})


def test_the_same_seed_builds_the_same_models_and_curves(short, tmp_path):
    built = [harbor_models.build("300k", tmp_path / f"run{i}", tmp_path / f"out{i}", quiet=True) for i in (0, 1)]
    assert set(built[0]) == {"base-300k", "aligned-300k"}
    for name, path in built[0].items():
        other = built[1][name]
        assert (path / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
        assert (path / "curve.json").read_text() == (other / "curve.json").read_text()
    curves = json.loads((built[0]["aligned-300k"] / "curve.json").read_text())["loss"]
    assert set(curves) == {"sft", "dpo"}
    model = AutoModelForCausalLM.from_pretrained(built[0]["base-300k"])
    assert model.dtype == torch.bfloat16


def test_an_unknown_size_suggests_the_nearest(tmp_path):
    with pytest.raises(UnknownNameError, match="300k"):
        harbor_models.build("30k", tmp_path, tmp_path)


@pytest.mark.slow
def test_measure_gives_the_figures_that_ship_with_a_model():
    from fairlead import harbor

    path = harbor.model_path("aligned-300k")
    shipped = json.loads((path / "curve.json").read_text())["measured"]
    assert harbor_models.measure(str(path)) == pytest.approx(shipped, abs=0.02)
