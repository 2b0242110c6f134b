"""Runs: folders, going on, refusing what has changed, expectations, and what a failure leaves."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fairlead.errors import DataError, ExpectationError, ModelError, RecipeError
from fairlead.models import load_model
from fairlead.recipe import explain, load, run

ROOT = Path(__file__).resolve().parents[2]

RECIPE = """\
title: Tiny
steps:
  - id: new
    new_model: {data: TEXT, vocab_size: 300, layers: 1, hidden: 32, max_positions: 128}
  - id: sft
    train: {model: "@new", data: ROWS, batch_size: 4, epochs: EPOCHS, learning_rate: 1e-2, save_every: 1}
  - id: out
    export: {model: "@sft", dtype: float32}
  - id: evaluation
    evaluate:
      models: {new: "@new", sft: "@out"}
      data: ROWS
      sampling: {temperature: 0, max_tokens: 4}
      evaluators: [length]
expect:
  - sft.loss < LIMIT
  - out.largest_logit_difference == 0
"""


@pytest.fixture
def recipe(tmp_path):
    """Write the recipe with other values: recipe(EPOCHS=2)."""
    (tmp_path / "t.txt").write_text("the ship carries salt and the harbour is calm.\n" * 50)
    rows = [
        {
            "id": f"r{i}",
            "prompt": [{"role": "user", "content": f"say {i}"}],
            "completion": [{"role": "assistant", "content": "salt"}],
        }
        for i in range(16)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def write(**values) -> Path:
        text = RECIPE
        defaults = {"TEXT": tmp_path / "t.txt", "ROWS": tmp_path / "rows.jsonl", "EPOCHS": 1, "LIMIT": 100}
        for name, value in (defaults | values).items():
            text = text.replace(name, str(value))
        path = tmp_path / "tiny.yaml"
        path.write_text(text)
        return path

    return write


def events(folder: Path) -> list[tuple[str, str]]:
    lines = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    return [(line["step"], line["event"]) for line in lines]


def state(folder: Path, name: str) -> dict:
    return json.loads((folder / "steps" / name / "step.json").read_text())


def test_a_run_and_its_folder(recipe, tmp_path):
    path, folder = recipe(), tmp_path / "run"
    result = run(path, folder, quiet=True)
    assert (folder / "recipe.yaml").read_bytes() == path.read_bytes()
    about = json.loads((folder / "run.json").read_text())
    assert (about["status"], about["title"], about["error"]) == ("finished", "Tiny", None)
    assert {"fairlead", "torch", "python"} <= set(about["versions"])
    assert about["machine"]["cores"] >= 1
    assert [e["holds"] for e in about["expectations"]] == [True, True]
    assert result.report.is_file()
    assert (result.outputs["out"]["model"] / "config.json").is_file()
    assert result.metrics["sft.loss"] == state(folder, "sft")["metrics"]["loss"]
    assert "evaluation.length.sft.words" in result.metrics
    sft = state(folder, "sft")
    assert sft["config"]["model"] == "@new"
    assert sft["config"]["weight_decay"] == 0.0  # defaults are written down
    assert {i["name"] for i in sft["inputs"]} == {"@new", str(tmp_path / "rows.jsonl")}
    samples = [json.loads(line) for line in (folder / "steps/evaluation/samples.jsonl").read_text().splitlines()]
    assert len(samples) == 16
    assert set(samples[0]["answers"]) == {"new", "sft"}
    assert "words" in samples[0]["scores"]["sft"]


def test_finished_steps_are_not_repeated(recipe, tmp_path):
    path, folder = recipe(), tmp_path / "run"
    run(path, folder, quiet=True)
    before = {file: file.stat().st_mtime_ns for file in (folder / "steps").rglob("*") if file.is_file()}
    again = run(path, folder, quiet=True)
    assert {file: file.stat().st_mtime_ns for file in (folder / "steps").rglob("*") if file.is_file()} == before
    assert events(folder)[-4:] == [(name, "skip") for name in ("new", "sft", "out", "evaluation")]
    assert again.metrics["sft.loss"] == state(folder, "sft")["metrics"]["loss"]


def test_changed_settings_are_refused_then_forced(recipe, tmp_path):
    folder = tmp_path / "run"
    run(recipe(), folder, quiet=True)
    changed = recipe(EPOCHS=2)
    old = (folder / "steps/sft/model/model.safetensors").read_bytes()
    with pytest.raises(RecipeError, match=r"step 'sft' was run before .* epochs was 1.0, is 2.0") as caught:
        run(changed, folder, quiet=True)
    assert "--force" in caught.value.fix
    assert caught.value.place.endswith("tiny.yaml:5")
    assert (folder / "steps/sft/model/model.safetensors").read_bytes() == old
    run(changed, folder, force=True, quiet=True)
    assert (folder / "replaced/sft-1/model/model.safetensors").read_bytes() == old
    assert {p.name for p in (folder / "replaced").iterdir()} == {"sft-1", "out-1", "evaluation-1"}  # not `new`
    assert (folder / "steps/sft/model/model.safetensors").read_bytes() != old
    assert state(folder, "sft")["config"]["epochs"] == 2.0


def test_changed_content_of_an_input_is_seen(recipe, tmp_path):
    folder = tmp_path / "run"
    run(recipe(), folder, quiet=True)
    rows = tmp_path / "rows.jsonl"
    rows.write_text(rows.read_text().replace("salt", "rope"))
    with pytest.raises(RecipeError, match=r"rows\.jsonl has changed"):
        run(recipe(), folder, quiet=True)


def test_moved_inputs_of_equal_content_are_the_same(recipe, tmp_path):
    folder = tmp_path / "run"
    run(recipe(), folder, quiet=True)
    (tmp_path / "rows.jsonl").rename(tmp_path / "moved.jsonl")
    run(recipe(ROWS=tmp_path / "moved.jsonl"), folder, quiet=True)
    assert events(folder)[-4:] == [(name, "skip") for name in ("new", "sft", "out", "evaluation")]


def test_a_lost_output_is_seen(recipe, tmp_path):
    folder = tmp_path / "run"
    run(recipe(), folder, quiet=True)
    (folder / "steps/new/model").rename(tmp_path / "elsewhere")
    with pytest.raises(RecipeError, match="its model is gone"):
        run(recipe(), folder, quiet=True)


def test_an_expectation_that_does_not_hold(recipe, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(ExpectationError, match=r"1 of 2 expectations do not hold:\n  sft.loss < 0.0001   \(measured"):
        run(recipe(LIMIT="0.0001"), folder, quiet=True)
    about = json.loads((folder / "run.json").read_text())
    assert about["status"] == "finished"
    assert [e["holds"] for e in about["expectations"]] == [False, True]
    assert about["expectations"][0]["value"] > 0
    assert (folder / "report.html").is_file()


def test_an_unknown_metric_at_the_end(recipe, tmp_path):
    path = recipe()
    path.write_text(path.read_text().replace("sft.loss", "sft.los"))
    with pytest.raises(RecipeError, match=r"did you mean sft\.loss"):
        run(path, tmp_path / "run", quiet=True)
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "failed"


def test_a_failing_step_leaves_a_report_and_goes_on_when_mended(recipe, tmp_path):
    folder, rows = tmp_path / "run", tmp_path / "rows.jsonl"
    good = rows.read_text()
    rows.write_text(good + "{broken\n")
    with pytest.raises(DataError, match="line 17") as caught:
        run(recipe(), folder, quiet=True)
    assert "in: step sft" in caught.value.__notes__[0]
    about = json.loads((folder / "run.json").read_text())
    assert about["status"] == "failed"
    assert "line 17" in about["error"]
    assert state(folder, "sft")["status"] == "failed"
    assert events(folder)[-1] == ("sft", "fail")
    assert (folder / "report.html").is_file()
    rows.write_text(good)
    with pytest.raises(RecipeError, match=r"rows\.jsonl has changed"):
        run(recipe(), folder, quiet=True)
    run(recipe(), folder, force=True, quiet=True)
    assert events(folder).count(("new", "start")) == 1


def test_inputs_that_are_not_there_stop_before_the_first_step(recipe, tmp_path):
    with pytest.raises(DataError, match="no such file"):
        run(recipe(ROWS=tmp_path / "none.jsonl"), tmp_path / "run", quiet=True)
    path = recipe()
    path.write_text(path.read_text().replace('model: "@sft"', f"model: {tmp_path}/no/model"))
    with pytest.raises(ModelError):
        run(path, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_folders_that_cannot_be_used(recipe, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(RecipeError, match="is a file"):
        run(recipe(), tmp_path / "file", quiet=True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("x")
    with pytest.raises(RecipeError, match="holds no run"):
        run(recipe(), tmp_path / "full", quiet=True)
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["mine.txt"]


def test_two_runs_in_one_folder(recipe, tmp_path):
    folder = tmp_path / "run"
    (folder / "steps").mkdir(parents=True)
    with (folder / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(RecipeError, match="another run is at work"):
            run(recipe(), folder, quiet=True)


def _start(path: Path, folder: Path) -> subprocess.Popen:
    program = "import sys; from fairlead.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    arguments = ["run", str(path), "--out", str(folder), "--quiet"]
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments], env=environment, stderr=subprocess.PIPE, text=True
    )


def _wait_for_steps(process: subprocess.Popen, folder: Path, least: int) -> None:
    metrics, deadline = folder / "steps/sft/metrics.jsonl", time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if metrics.exists() and metrics.read_bytes().count(b"\n") >= least:
            return
        time.sleep(0.002)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_stopped_inside_a_step_it_goes_on_to_the_same_bytes(recipe, tmp_path, how):
    path, folder = recipe(EPOCHS=8), tmp_path / "run"
    process = _start(path, folder)
    _wait_for_steps(process, folder, 3)
    process.send_signal(how)
    _, error = process.communicate(timeout=60)
    assert process.returncode == (-signal.SIGKILL if how == signal.SIGKILL else 130), error
    if how == signal.SIGINT:
        assert "the same command goes on" in error
        assert "Traceback" not in error
        assert json.loads((folder / "run.json").read_text())["error"] == "stopped by the user"
        assert (folder / "report.html").is_file()
    run(path, folder, quiet=True)
    assert ("sft", "resume") in events(folder)
    assert events(folder).count(("new", "start")) == 1
    run(path, tmp_path / "whole", quiet=True)
    name = "steps/sft/model/model.safetensors"
    assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_plan_in_sentences(recipe):
    new, sft, out, evaluation = explain(load(recipe()))
    assert "untrained Llama" in new.sentences[1]
    assert "16 conversation records" in sft.sentences[0]
    assert "at most 4 steps of 4 groups" in sft.sentences[1]
    assert new.parameters == sft.parameters
    assert "no weight is frozen" in " ".join(sft.sentences)
    assert "float32" in out.sentences[0]
    assert "16 conversation records" in evaluation.sentences[0]


def test_a_plan_on_a_model_that_is_there_and_data_that_is_not_yet(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("""
title: pairs on a shipped model
steps:
  - id: pairs
    generate: {model: harbor:base-300k, data: "harbor:prompts?n=9", n: 2, reward: harbor, keep: best_worst}
  - id: dpo
    train: {model: harbor:base-300k, data: "@pairs", objective: dpo, batch_size: 3}
""")
    _, dpo = explain(load(path))
    assert dpo.parameters == sum(p.numel() for p in load_model("harbor:base-300k", device="cpu").parameters())
    assert "at most 9 preference records" in dpo.sentences[0]
