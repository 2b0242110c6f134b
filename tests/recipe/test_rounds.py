"""Rounds: which steps they stand for, what is carried, and that faults are named at their line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fairlead.errors import FairleadError, RecipeError, UnknownFieldError
from fairlead.recipe import load, plain_config, run

GOOD = """\
title: Rounds
seed: 4
steps:
  - id: begin
    select: {selector: random, data: "harbor:demonstrations?n=40"}
  - id: loop
    repeat: 3
    carry:
      model: {first: harbor:base-300k, then: "@tuned"}
      pool: {first: "@begin", then: "@made"}
    steps:
      - id: made
        select: {selector: {name: random, keep: 0.5}, data: ["@pool", "x.jsonl"]}
      - id: drawn
        generate: {model: "@model", data: p.jsonl}
      - id: tuned
        train: {model: "@model", data: "@made?part=train", learning_rate: 1e-3}
  - id: test
    evaluate:
      models: {start: harbor:base-300k, last: "@loop3_tuned"}
      data: t.jsonl
      evaluators: [length]
expect:
  - test.length.last.tokens > 0
"""


@pytest.fixture
def write(tmp_path):
    def put(text: str) -> Path:
        path = tmp_path / "r.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return put


def test_the_steps_of_every_round(write):
    recipe = load(write(GOOD))
    names = [f"loop{k}_{step}" for k in (1, 2, 3) for step in ("made", "drawn", "tuned")]
    assert [step.id for step in recipe.steps] == ["begin", *names, "test"]
    config = {step.id: plain_config(step) for step in recipe.steps}
    assert [config[f"loop{k}_made"]["data"] for k in (1, 2, 3)] == [
        ["@begin", "x.jsonl"], ["@loop1_made", "x.jsonl"], ["@loop2_made", "x.jsonl"],
    ]  # fmt: skip
    assert [config[f"loop{k}_tuned"]["model"] for k in (1, 2, 3)] == [
        "harbor:base-300k", "@loop1_tuned", "@loop2_tuned",
    ]  # fmt: skip
    assert config["loop2_tuned"]["data"] == "@loop2_made?part=train"
    assert [config[f"loop{k}_drawn"]["seed"] for k in (1, 2, 3)] == [4, 5, 6]
    assert all(step.place.endswith((":12", ":14", ":16")) for step in recipe.steps if step.id.startswith("loop"))


def test_a_step_keeps_its_own_seed(write):
    recipe = load(write(GOOD.replace("data: p.jsonl}", "data: p.jsonl, seed: 9}")))
    assert [step.config.seed for step in recipe.steps if step.id.endswith("drawn")] == [9, 9, 9]


def test_rounds_are_set_from_outside(write):
    path = write(GOOD.replace('last: "@loop3_tuned"', "last: harbor:base-300k"))
    changed = ["loop.repeat=2", "loop.made.selector.keep=5", "loop.carry.model.first=harbor:base-1m"]
    recipe = load(path, changed)
    config = {step.id: plain_config(step) for step in recipe.steps}
    assert len(recipe.steps) == 8
    assert config["loop2_made"]["selector"]["keep"] == 5
    assert config["loop1_tuned"]["model"] == "harbor:base-1m"


@pytest.mark.parametrize(
    ("old", "new", "line", "what"),
    [
        ("repeat: 3", "repeat: 0", 7, "repeat is 0"),
        ("repeat: 3", "repeat: many", 7, "repeat is 'many'"),
        ("    carry:", "    carries:", 8, "no field 'carries'"),
        ('then: "@tuned"}', "later: x}", 9, "carry.model is not of the form"),
        ("      pool:", "      made:", 10, "carry.made is not of the form"),
        ("      - id: made\n", "      - id2: made\n", 6, "repeat needs steps"),
        ("  - id: loop\n    repeat", "  - repeat", 6, "repeat has no id"),
        ('"@pool", "x.jsonl"', '"@tuned"', 13, "is not finished before this step"),
        ('"@pool", "x.jsonl"', '"@poll"', 13, "poll"),
    ],
)
def test_faults_are_named_at_their_line(write, old, new, line, what):
    assert old in GOOD
    with pytest.raises((RecipeError, UnknownFieldError, FairleadError), match=what.replace("(", r"\(")) as error:
        load(write(GOOD.replace(old, new)))
    assert f":{line}" in str(error.value)


def test_rounds_run_and_go_on(tmp_path, write):
    (tmp_path / "pool.jsonl").write_text(
        "".join(json.dumps({"id": f"r{k}", "prompt": f"question {k}", "completion": "yes"}) + "\n" for k in range(16))
    )
    path = write(
        f"""\
title: Halves
steps:
  - id: half
    repeat: 3
    carry: {{pool: {{first: {tmp_path}/pool.jsonl, then: "@kept"}}}}
    steps:
      - id: kept
        select: {{selector: {{name: random, keep: 0.5}}, data: "@pool"}}
expect:
  - half3_kept.rows == 2
"""
    )
    run(path, tmp_path / "run", quiet=True)
    again = run(path, tmp_path / "run", quiet=True)
    kept = [
        (tmp_path / "run" / "steps" / f"half{k}_kept" / "records.jsonl").read_text().splitlines() for k in (1, 2, 3)
    ]
    assert [len(rows) for rows in kept] == [8, 4, 2]
    assert all(held.holds for held in again.expectations)
