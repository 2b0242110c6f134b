"""Two ranks, data parallel and sharded, write the curve and the model of one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import DistributedType
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from fairlead.errors import UnsupportedError, UsageError
from fairlead.fields import to_plain
from fairlead.training.config import TrainConfig
from fairlead.training.loop import train
from fairlead.training.ranks import settle

SHARDED = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
}
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def configs(tiny_model) -> dict[str, TrainConfig]:
    def config(data, **changes):
        return TrainConfig(
            tiny_model,
            f"harbor:{data}?n=16",
            batch_size=8,
            max_steps=4,
            micro_tokens=160,
            learning_rate=1e-3,
            **changes,
        )

    return {
        "sft:2": config("demonstrations", save_every=1),
        "adapter": config("preferences", objective="dpo", adapter="lora", reference="live"),
        "head": config("preferences", objective="reward_model", adapter="dora"),
        "virtual": config("demonstrations", adapter={"type": "prefix", "num_virtual_tokens": 4}),
        "survey": config("feedback", objective="kto"),
        "memory": config("feedback", objective="bco"),
    }


@pytest.fixture(scope="module")
def alone(configs, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAIRLEAD_CACHE", str(folder / "cache"))
        for name, config in configs.items():
            train(config, folder / name, quiet=True)
    return folder


def curve(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(next((folder / "model").glob("*.safetensors")))


@pytest.mark.parametrize("variables", [{}, SHARDED], ids=["data_parallel", "sharded"])
def test_two_ranks_train_as_one(variables, configs, alone, tmp_path):
    (tmp_path / "configs.json").write_text(json.dumps({name: to_plain(c) for name, c in configs.items()}))
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"),
        *(str(Path(__file__).with_name("rank_worker.py")), str(tmp_path / "configs.json"), str(tmp_path)),
    ]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", **variables}
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    for name in configs:
        assert curve(tmp_path / name) == pytest.approx(curve(alone / name), abs=TOLERANCE), name
        both, one = weights(tmp_path / name), weights(alone / name)
        assert both.keys() == one.keys(), name
        for key, tensor in both.items():
            torch.testing.assert_close(tensor, one[key], atol=TOLERANCE, rtol=0, msg=f"{name} {key}")
    AutoModelForCausalLM.from_pretrained(tmp_path / "sft:2" / "model")


def test_the_example_asks_for_what_the_loop_keeps():
    from accelerate.commands.config.config_args import load_config_from_file

    example = Path(__file__).parents[2] / "examples" / "accelerate" / "fsdp2.yaml"
    config = load_config_from_file(str(example))
    assert config.distributed_type == DistributedType.FSDP
    names = {name.upper(): str(value).lower() for name, value in config.fsdp_config.items()}
    assert names == {name: value.lower() for name, value in SHARDED.items() if name != "ACCELERATE_USE_FSDP"}


def accelerator(kind: DistributedType, **plugin) -> SimpleNamespace:
    state = SimpleNamespace(fsdp_plugin=SimpleNamespace(**plugin))
    return SimpleNamespace(distributed_type=kind, state=state, mixed_precision="no")


def test_ways_that_do_not_fit_are_refused():
    with pytest.raises(UnsupportedError, match="global count"):
        settle(accelerator(DistributedType.DEEPSPEED))
    with pytest.raises(UsageError, match="FSDP version 1"):
        settle(accelerator(DistributedType.FSDP, fsdp_version=1))
    with pytest.raises(UsageError, match="cpu_ram_efficient_loading"):
        settle(accelerator(DistributedType.FSDP, fsdp_version=2, cpu_ram_efficient_loading=True))
    settle(accelerator(DistributedType.FSDP, fsdp_version=2, cpu_ram_efficient_loading=False))
