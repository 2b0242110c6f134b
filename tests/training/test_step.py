"""A step's loss and gradients do not depend on how its batch was split: passes, ranks, layouts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from worker import one_step

from fairlead import catalog
from fairlead.fields import to_plain
from fairlead.training.config import TrainConfig
from fairlead.training.rollout_config import RolloutConfig

DATA = {
    "conversation": "harbor:demonstrations?n=8",
    "preference": "harbor:preferences?n=8",
    "feedback": "harbor:feedback?n=8&seed=4",
    "ranking": "harbor:rankings?n=8",
    "prompt": "harbor:prompts?n=8",
}
SAMPLES = {"bialign": "harbor:shots?n=4", "weak_to_strong": "harbor:safety?n=8"}
"""Data of objectives that ask more of a record than its kind."""
LENGTH = {"name": "harbor_proxy", "proxy": "length", "noise": 1.0}
OBJECTIVES = {entry.name: entry.name for entry in catalog.entries("objective")}
ROLLOUT = RolloutConfig(rewards={"wordy": LENGTH, "brief": LENGTH}, n=4, max_tokens=12, steps=2, temperature=1.0)
OBJECTIVES |= {
    "bialign": {"name": "bialign", "teacher": "harbor:base-1m"},
    "dpo sorted over the step": {"name": "dpo", "loss": "aot_unpaired"},
    "dpo weighted by the policy": {"name": "dpo", "weighting": True},
    "ppo": "ppo",
    "rloo": "rloo",
    "safe_rlhf": {"name": "safe_rlhf", "cost": "wordy"},
    "pama with value heads": {"name": "pama", "baseline": "value", "scale": "whiten"},
    "mixture_of_instructions": {"name": "mixture_of_instructions", "column": "style"},
}


def config_for(objective, model, **changes) -> TrainConfig:
    spec = OBJECTIVES[objective]
    data = SAMPLES.get(objective) or DATA[catalog.from_spec("objective", spec).needs.record]
    online = catalog.from_spec("objective", spec).needs.record == "prompt"
    changes |= {"rollout": ROLLOUT} if online else {}
    return TrainConfig(model=model, data=data, objective=spec, batch_size=8, **changes)


def assert_same(one, other, tolerance=1e-6):
    assert one["loss"] == pytest.approx(other["loss"], abs=tolerance, rel=1e-6)
    assert one["gradients"].keys() == other["gradients"].keys()
    for name, gradient in one["gradients"].items():
        torch.testing.assert_close(gradient, other["gradients"][name], atol=tolerance, rtol=1e-5, msg=name)


@pytest.fixture(scope="module")
def start(tiny_model, tmp_path_factory):
    """Where each objective starts: reward models from a head that is no longer zero, so that all weights matter."""
    from fairlead.training.loop import train

    config = config_for("reward_model", tiny_model, learning_rate=1e-2, max_steps=2)
    trained = train(config, tmp_path_factory.mktemp("reward") / "run", quiet=True)
    scored = {name for name, spec in OBJECTIVES.items() if catalog.from_spec("objective", spec).needs.score_head}
    # A random model hardly tells demonstrations apart, and a ranking loss divides rounding by what it tells.
    spread = {"bialign": "harbor:base-300k"}
    return {name: str(trained.model) if name in scored else spread.get(name, tiny_model) for name in OBJECTIVES}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_passes(objective, start, tmp_path):
    together = one_step(config_for(objective, start[objective]), tmp_path)
    apart = one_step(config_for(objective, start[objective], micro_tokens=1), tmp_path)
    assert_same(together, apart)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_layouts(objective, layout, start, tmp_path):
    shared = one_step(config_for(objective, start[objective], layout="shared"), tmp_path)
    other = one_step(config_for(objective, start[objective], layout=layout), tmp_path)
    assert_same(shared, other, tolerance=1e-5)


def test_gradient_checkpointing(tiny_model, tmp_path):
    plain = one_step(config_for("dpo", tiny_model), tmp_path)
    saving = one_step(config_for("dpo", tiny_model, gradient_checkpointing=True), tmp_path)
    assert_same(plain, saving)


def test_bfloat16_is_close(tiny_model, tmp_path):
    high = one_step(config_for("sft", tiny_model), tmp_path)
    low = one_step(config_for("sft", tiny_model, dtype="bfloat16"), tmp_path)
    assert low["loss"] == pytest.approx(high["loss"], rel=0.01)
    assert all(g.dtype == torch.float32 for g in low["gradients"].values())


def test_two_ranks(start, tmp_path):
    configs = {objective: config_for(objective, start[objective]) for objective in OBJECTIVES}
    alone = {objective: one_step(config, tmp_path) for objective, config in configs.items()}
    (tmp_path / "configs.json").write_text(json.dumps({k: to_plain(c) for k, c in configs.items()}))
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"),
        *(str(Path(__file__).with_name("worker.py")), str(tmp_path / "configs.json"), str(tmp_path / "out.pt")),
    ]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    both = torch.load(tmp_path / "out.pt")
    for objective in OBJECTIVES:
        assert both[objective]["ranks"] == 2
        assert_same(alone[objective], both[objective])
