"""What the training benchmark computes without a clock: its data, its checks, its table, and our side of it."""

from __future__ import annotations

import argparse
import importlib.util
import json
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "training.py"
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "vocab_size": 300}  # fmt: skip


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("training_benchmark", FILE)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FILE.parent)  # as for a script
        spec.loader.exec_module(module)
    return module


@pytest.fixture
def small(bench, monkeypatch):
    shapes = {name: {"kind": shape["kind"], **SMALL} for name, shape in bench.SHAPES.items()}
    monkeypatch.setattr(bench, "SHAPES", shapes)
    return bench


@pytest.mark.parametrize("workload", ["dpo", "sft", "kto"])
def test_rows_are_repeatable_and_of_the_stated_lengths(bench, workload):
    rows = bench.make_rows(workload, 400)
    assert rows == bench.make_rows(workload, 400)
    assert rows != bench.make_rows(workload, 400, seed=1)
    prompts = sorted(len(row["prompt"]) for row in rows)
    answers = sorted(len(row[key]) for row in rows for key in ("chosen", "rejected", "completion") if key in row)
    assert (prompts[0], answers[0]) >= (20, 20)
    assert prompts[-1] <= 400
    assert answers[-1] <= 300
    assert 75 < prompts[200] < 105
    assert 95 < answers[len(answers) // 2] < 125


def test_a_pair_counts_its_prompt_twice(bench):
    assert bench.data_tokens([{"prompt": "abc", "chosen": "de", "rejected": "f"}]) == (3 + 2 + 1) + (3 + 1 + 1)
    assert bench.data_tokens([{"prompt": "abc", "completion": "de", "label": True}]) == 6


@pytest.mark.parametrize("name", ["S", "M"])
def test_every_letter_is_a_token_for_either_model(small, name, tmp_path):
    from transformers import AutoTokenizer

    small.write_model(name, tmp_path)
    assert len(AutoTokenizer.from_pretrained(tmp_path)("abcXYZ")["input_ids"]) == 6


def test_a_tokenizer_that_reads_otherwise_is_refused(small, tmp_path, monkeypatch):
    from transformers import AutoTokenizer

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda folder: lambda text: {"input_ids": []})
    with pytest.raises(SystemExit, match="one token per letter"):
        small.write_model("M", tmp_path)


def test_tokens_that_are_not_the_data_are_refused(bench, tmp_path):
    rows = bench.make_rows("sft", 4)
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = argparse.Namespace(data=str(data), steps=2, batch=2)
    whole = bench.data_tokens(rows)
    found = bench.report(options, 1.0, [1.0, 2.0, 5.0], [10, whole - 10, 70])
    assert (found["tokens"], found["seconds"]) == (whole - 10 + 70, 4.0)
    with pytest.raises(SystemExit, match="an epoch had 32 tokens"):
        bench.report(options, 1.0, [1.0, 2.0, 5.0], [16, 16, 16])


def test_a_line_shows_median_spread_and_the_ratio_of_each_turn(bench):
    line = bench.line("dpo: tokens/s", "S", [100.0, 200.0, 110.0], [500.0, 600.0, 550.0], 0, more=True)
    assert line == "| dpo: tokens/s | S | 110 (100-200) | 550 (500-600) | 5.00 (3.00-5.00) | higher is better |"


@pytest.mark.parametrize("workload", ["dpo", "sft", "kto"])
def test_our_side_trains_on_all_of_the_data(small, workload, tmp_path, monkeypatch):
    monkeypatch.setenv("FAIRLEAD_CACHE", str(tmp_path / "cache"))
    folder, data = tmp_path / "S", tmp_path / "rows.jsonl"
    small.write_model("S", folder)
    data.write_text("".join(json.dumps(row) + "\n" for row in small.make_rows(workload, 4)))
    options = argparse.Namespace(
        workload=workload, model="S", folder=str(folder), data=str(data), batch=2, steps=2, work=tmp_path
    )
    found = small.train_fairlead(options)
    assert found["tokens"] > 0
    assert found["peak"] > 0
