"""Whole runs: killed and resumed to the same bytes, stopped politely, the best kept, folders protected."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from fairlead import catalog
from fairlead.errors import DataError, TrainingError, UsageError
from fairlead.fields import to_plain
from fairlead.training.config import TrainConfig
from fairlead.training.loop import train
from fairlead.training.setup import gather

RUN = (
    "import json, sys, torch; torch.set_num_threads(1); from fairlead.fields import build;"
    "from fairlead.training.config import TrainConfig; from fairlead.training.loop import train;"
    "train(build(TrainConfig, json.loads(sys.argv[1]), owner='train'), sys.argv[2], quiet=True)"
)


@pytest.fixture
def sft(tiny_model) -> TrainConfig:
    return TrainConfig(model=tiny_model, data="harbor:demonstrations?n=96", batch_size=8, learning_rate=3e-3)


@pytest.fixture
def dpo(tiny_model) -> TrainConfig:
    return TrainConfig(
        model=tiny_model, data="harbor:preferences?n=96", objective="dpo", batch_size=8, learning_rate=1e-3
    )


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weights(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


def kill_at(config: TrainConfig, folder: Path, step: int) -> None:
    """Start the run in a process of its own and kill -9 it once it has done `step` steps."""
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, json.dumps(to_plain(config)), str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
    )
    journal = folder / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if journal.is_file() and journal.read_text().count("\n") >= step:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return
        time.sleep(0.002)
    process.kill()
    raise AssertionError(f"not killed at step {step}: {process.stderr.read().decode()[-2000:]}")


@pytest.mark.parametrize("objective", ["sft", "dpo"])
def test_kill_and_resume_gives_the_same_bytes(objective, request, tmp_path):
    config = replace(request.getfixturevalue(objective), save_every=3, epochs=2)
    whole = train(config, tmp_path / "whole", quiet=True)
    steps = sorted(random.Random(objective).sample(range(1, whole.steps - 4), 2))
    for step in steps:
        kill_at(config, tmp_path / "broken", step)
        assert not (tmp_path / "broken" / "result.json").exists()
    resumed = train(config, tmp_path / "broken", quiet=True)
    assert resumed.steps == whole.steps == 24
    assert weights(tmp_path / "broken") == weights(tmp_path / "whole")
    losses = [[(line["step"], line["loss"]) for line in lines(tmp_path / name)] for name in ("whole", "broken")]
    assert losses[0] == losses[1]
    assert [step for step, _ in losses[0]] == list(range(1, 25))


def test_learns_and_leaves_a_plain_model(sft, tmp_path):
    result = train(replace(sft, epochs=6), tmp_path / "run", quiet=True)
    losses = [line["loss"] for line in lines(tmp_path / "run")]
    assert losses[-1] < 0.6 * losses[0]
    model = AutoModelForCausalLM.from_pretrained(result.model)
    assert all(torch.isfinite(p).all() for p in model.parameters())
    card = (result.model / "README.md").read_text()
    for word in (sft.model, "harbor:demonstrations?n=96", "learning_rate: 0.003", "| loss |"):
        assert word in card
    lengths = json.loads((tmp_path / "run" / "lengths.json").read_text())
    assert lengths["records"] == lengths["completions"] == 96
    assert lengths["dropped"]["count"] == lengths["truncated"]["count"] == 0
    shown = json.loads((tmp_path / "run" / "rendered.json").read_text())
    assert len(shown) == 3
    for row in shown:
        trained = "".join(text for text, counts in row["parts"] if counts)
        assert "<|end|>" in trained
        assert "<|user|>" not in trained


def test_memorises_eight_pairs(dpo, tmp_path):
    config = replace(dpo, limit=8, epochs=30, learning_rate=5e-3, schedule="constant")
    result = train(config, tmp_path / "run", quiet=True)
    assert result.metrics["accuracy"] == 1.0
    assert lines(tmp_path / "run")[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)


def test_a_finished_run_is_not_repeated(sft, tmp_path):
    first = train(sft, tmp_path / "run", quiet=True)
    began = (first.model / "model.safetensors").stat().st_mtime_ns
    assert train(sft, tmp_path / "run", quiet=True) == first
    assert (first.model / "model.safetensors").stat().st_mtime_ns == began


def test_another_runs_folder_is_refused(sft, tmp_path):
    train(replace(sft, max_steps=1), tmp_path / "run", quiet=True)
    with pytest.raises(TrainingError, match="other settings"):
        train(replace(sft, max_steps=2), tmp_path / "run", quiet=True)
    assert train(replace(sft, max_steps=2), tmp_path / "run", resume=False, quiet=True).steps == 2
    assert len(lines(tmp_path / "run")) == 2


def test_interrupt_saves_and_goes_on(sft, tmp_path, monkeypatch):
    from fairlead.training.run import Run

    whole = train(sft, tmp_path / "whole", quiet=True)
    step = Run.step

    def interrupted(run):
        if run.progress.step == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return step(run)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(replace(sft, save_every=100), tmp_path / "broken", quiet=True)
    assert len(lines(tmp_path / "broken")) == 5
    train(replace(sft, save_every=100), tmp_path / "broken", quiet=True)
    assert weights(tmp_path / "broken") == weights(whole.model.parent)


def test_an_objectives_memory_is_reduced_checkpointed_and_restored(sft, tmp_path, monkeypatch):
    from fairlead.training.run import Run

    entry = catalog.Entry("remembering", "objective", "remembering:Remembering", "", "counts tokens")
    monkeypatch.setattr(catalog, "ENTRIES", (*catalog.ENTRIES, entry))
    config = replace(sft, objective="remembering", micro_tokens=60, save_every=100)
    train(config, tmp_path / "whole", quiet=True)
    step = Run.step

    def interrupted(run):
        if run.progress.step == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return step(run)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "broken", quiet=True)
    train(config, tmp_path / "broken", quiet=True)
    seen = [[line["seen"] for line in lines(tmp_path / name)] for name in ("whole", "broken")]
    assert seen[0] == seen[1]
    assert seen[0][0] == 0
    trained = json.loads((tmp_path / "whole" / "lengths.json").read_text())["trained_tokens"]
    assert 0 < seen[0][1] < seen[0][-1] < trained


def test_best_weights_are_kept(sft, tmp_path):
    config = replace(
        sft, limit=8, epochs=40, learning_rate=2e-2, evaluation_data="harbor:demonstrations?n=32&seed=5", keep="best"
    )
    result = train(config, tmp_path / "run", quiet=True)
    held_out = [line for line in lines(tmp_path / "run") if line.get("split") == "evaluation"]
    best = min(held_out, key=lambda line: line["loss"])
    assert best["step"] < held_out[-1]["step"], "the run must overfit for this test to say anything"
    assert result.metrics["evaluation_loss"] == pytest.approx(best["loss"])
    again = train(
        replace(config, model=str(result.model), max_steps=1, learning_rate=0.0), tmp_path / "look", quiet=True
    )
    assert again.metrics["evaluation_loss"] == pytest.approx(best["loss"], abs=1e-5)


@pytest.mark.parametrize("reference", ["stored", "live"])
def test_adapter(reference, dpo, tmp_path):
    pytest.importorskip("peft")
    config = replace(dpo, adapter={"type": "lora", "r": 4}, learning_rate=1e-2, reference=reference)
    result = train(config, tmp_path / "run", quiet=True)
    assert (result.model / "adapter_config.json").is_file()
    losses = [line["loss"] for line in lines(tmp_path / "run")]
    assert losses[0] == pytest.approx(math.log(2), abs=1e-4)
    assert losses[-1] < losses[0]


def test_stored_and_live_reference_give_one_result(dpo, tmp_path):
    pytest.importorskip("peft")
    losses = []
    for reference in ("stored", "live"):
        config = replace(dpo, adapter={"type": "lora", "r": 4}, learning_rate=1e-2, reference=reference)
        train(config, tmp_path / reference, quiet=True)
        losses.append([line["loss"] for line in lines(tmp_path / reference)])
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_reference_is_read_back_and_keyed_by_tokens(dpo, tmp_path):
    train(replace(dpo, max_steps=1), tmp_path / "a", quiet=True)
    stored = list((tmp_path / "cache" / "logprobs").glob("*.npy"))
    assert len(stored) == 1
    train(replace(dpo, max_steps=2), tmp_path / "b", quiet=True)
    assert list((tmp_path / "cache" / "logprobs").glob("*.npy")) == stored
    train(replace(dpo, max_steps=1, limit=40), tmp_path / "c", quiet=True)
    assert len(list((tmp_path / "cache" / "logprobs").glob("*.npy"))) == 2


def test_text_in_blocks(tiny_model, tmp_path):
    config = TrainConfig(model=tiny_model, data="harbor:documents?n=40", block_length=64, batch_size=4, max_steps=3)
    train(config, tmp_path / "run", quiet=True)
    assert lines(tmp_path / "run")[0]["tokens"] <= 4 * 64


def test_too_long(sft, tmp_path):
    limited = replace(sft, max_length=18)
    with pytest.raises(DataError, match="longer than max_length 18"):
        train(limited, tmp_path / "error", quiet=True)
    reports = {}
    for policy in ("drop", "truncate_prompt", "truncate_end"):
        train(replace(limited, too_long=policy, max_steps=1), tmp_path / policy, quiet=True)
        reports[policy] = json.loads((tmp_path / policy / "lengths.json").read_text())
    assert reports["drop"]["dropped"]["count"] == 96 - reports["drop"]["records"] > 0
    for policy in ("truncate_prompt", "truncate_end"):
        cut, gone = reports[policy]["truncated"]["count"], reports[policy]["dropped"]["count"]
        assert cut + gone == reports["drop"]["dropped"]["count"]
        assert cut > 0


def test_refusals(sft, dpo, tmp_path):
    with pytest.raises(DataError, match="preference"):
        train(replace(sft, objective="dpo"), tmp_path / "a", quiet=True)
    with pytest.raises(UsageError, match="positions"):
        train(replace(sft, max_length=100_000), tmp_path / "b", quiet=True)
    with pytest.raises(UsageError, match="evaluation"):
        replace(sft, keep="best")
    with pytest.raises(UsageError, match="live"):
        replace(dpo, reference="live")


def test_trackers_are_not_left_out_silently(sft, tmp_path):
    with pytest.raises(UsageError, match="did you mean 'tensorboard'"):
        train(replace(sft, trackers=("tensorbord",)), tmp_path / "a", quiet=True)
    if importlib.util.find_spec("tensorboard") is None:
        with pytest.raises(UsageError, match="not installed"):
            train(replace(sft, trackers=("tensorboard",)), tmp_path / "b", quiet=True)
    else:
        train(replace(sft, trackers=("tensorboard",), max_steps=2), tmp_path / "b", quiet=True)
        assert list((tmp_path / "b").rglob("events.out.tfevents.*"))


def test_a_loss_that_is_not_finite_stops_before_the_step(sft, tmp_path):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(sft.model), AutoTokenizer.from_pretrained(sft.model)
    model.model.norm.weight.data[0] = math.nan
    model.save_pretrained(tmp_path / "broken")
    tokenizer.save_pretrained(tmp_path / "broken")
    config = replace(sft, model=str(tmp_path / "broken"), layout="shared")
    with pytest.raises(TrainingError, match=r"records demonstrations.*step 1") as error:
        train(config, tmp_path / "run", quiet=True)
    assert "learning rate" in error.value.fix


def test_a_number_that_is_not_finite_names_its_record(sft, tmp_path):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(sft.model), AutoTokenizer.from_pretrained(sft.model)
    groups = gather(replace(sft, limit=8)).groups
    seen = [set(np.concatenate([g.prompt, g.branches[0].ids]).tolist()) for g in groups]
    token = next(iter(seen[5] - set.union(*(s for k, s in enumerate(seen) if k != 5))))
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    model.config.tie_word_embeddings = False
    model.model.embed_tokens.weight.data[token] = math.nan
    model.save_pretrained(tmp_path / "broken")
    tokenizer.save_pretrained(tmp_path / "broken")
    config = replace(sft, model=str(tmp_path / "broken"), limit=8, layout="shared")
    with pytest.raises(TrainingError) as error:
        train(config, tmp_path / "run", quiet=True)
    assert error.value.place == f"records {groups[5].id}"
