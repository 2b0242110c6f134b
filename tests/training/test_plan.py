"""The plan is what the run then does."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from fairlead.models import load_model
from fairlead.training.config import TrainConfig
from fairlead.training.loop import train
from fairlead.training.plan import plan


def test_plan_and_run_agree(tiny_model, tmp_path):
    config = TrainConfig(
        model=tiny_model, data="harbor:preferences?n=40", objective="dpo", batch_size=8, epochs=2, micro_tokens=200
    )
    planned = plan(config)
    result = train(config, tmp_path / "run", quiet=True)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    lengths = json.loads((tmp_path / "run" / "lengths.json").read_text())
    assert planned.steps == result.steps == len(lines)
    assert planned.computed_tokens * 2 == sum(line["tokens"] for line in lines)
    assert planned.trained_tokens == lengths["trained_tokens"]
    assert (planned.groups, planned.completions) == (lengths["records"], lengths["completions"])
    assert planned.parameters == planned.trainable == sum(p.numel() for p in load_model(tiny_model).parameters())
    assert planned.passes_per_step > 1
    text = " ".join(planned.sentences)
    for word in ("40 records", "10 steps", "none is frozen", "once and kept on disk", "float32"):
        assert word in text


def test_an_adapter_leaves_the_rest_frozen(tiny_model):
    pytest.importorskip("peft")
    config = TrainConfig(model=tiny_model, data="harbor:demonstrations?n=8")
    whole, adapted = plan(config), plan(replace(config, adapter={"type": "lora", "r": 4}))
    assert adapted.trainable == adapted.parameters - whole.parameters
    assert 0 < adapted.trainable < whole.parameters
    assert adapted.memory < whole.memory
    assert "stay frozen" in " ".join(adapted.sentences)
