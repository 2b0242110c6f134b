"""Rounds: which steps they stand for, what is carried, and that faults are named at their line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fairlead.errors import FairleadError, RecipeError, UnknownFieldError
from fairlead.recipe import explain, load, plain_config, run

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


TALE = """\
title: Rounds that end
steps:
  - id: loop
    repeat: 5
    stop: {metric: kept.rows, by: 1, goal: lowest}
    carry: {pool: {first: POOL, then: "@kept"}}
    steps:
      - id: kept
        select: {selector: {name: random, keep: 0.5}, data: "@pool"}
  - id: after
    select: {selector: {name: random, keep: 1}, data: "@loop_kept"}
expect:
  - loop.rounds == 4
  - loop.best == 4
  - loop_kept.rows == 1
  - after.rows == 1
"""


@pytest.fixture
def tale(tmp_path, write):
    (tmp_path / "pool.jsonl").write_text(
        "".join(json.dumps({"id": f"r{k}", "prompt": f"question {k}", "completion": "yes"}) + "\n" for k in range(16))
    )

    def put(*changes: tuple[str, str]) -> Path:
        text = TALE.replace("POOL", f"{tmp_path}/pool.jsonl")
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        return write(text)

    return put


def test_rounds_end_where_a_metric_gains_no_more(tale, tmp_path):
    """8, 4, 2, 1 rows: the fourth round is less by no more than one, so there is no fifth."""
    found = run(tale(), tmp_path / "run", quiet=True)
    assert sorted(p.name for p in (tmp_path / "run" / "steps").iterdir()) == [
        "after", "loop1_kept", "loop2_kept", "loop3_kept", "loop4_kept"
    ]  # fmt: skip
    state = json.loads((tmp_path / "run" / "run.json").read_text())
    assert state["steps"] == ["loop1_kept", "loop2_kept", "loop3_kept", "loop4_kept", "after"]
    assert state["loops"][0]["values"] == [8, 4, 2, 1]
    said = "loop: 4 of at most 5 rounds, ended: no gain of more than 1 in 1 round; kept.rows 8, 4, 2, 1; round 4 stands"
    assert said in found.report.read_text()
    assert found.outputs["loop_kept"] == found.outputs["loop4_kept"]
    assert found.metrics["loop_kept.rows"] == 1


def test_ended_rounds_are_gone_over_again_to_the_same_end(tale, tmp_path):
    run(tale(), tmp_path / "run", quiet=True)
    before = (tmp_path / "run" / "steps" / "after" / "step.json").read_bytes()
    run(tale(), tmp_path / "run", quiet=True)
    assert (tmp_path / "run" / "steps" / "after" / "step.json").read_bytes() == before
    events = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    assert [e["event"] for e in events if e["step"] == "after"] == ["start", "finish", "skip"]
    with pytest.raises(RecipeError, match=r"'after' was run before .* @loop_kept has changed"):
        run(tale(("by: 1,", "by: 3,")), tmp_path / "run", quiet=True)


def test_the_best_round_stands_for_all_of_them(tale, tmp_path):
    """More rows are better: the first round is the best, and the second, which gains nothing, the last."""
    path = tale(
        ("goal: lowest", "goal: highest"), ("loop.rounds == 4", "loop.rounds == 2"),
        ("loop.best == 4", "loop.best == 1"), ("loop_kept.rows == 1", "loop_kept.rows == 8"),
    )  # fmt: skip
    found = run(path, tmp_path / "run", quiet=True)
    assert found.outputs["loop_kept"] == found.outputs["loop1_kept"]
    row = json.loads((tmp_path / "run" / "steps" / "after" / "records.jsonl").read_text().splitlines()[0])
    assert row["id"] in (tmp_path / "run" / "steps" / "loop1_kept" / "records.jsonl").read_text()


def test_rounds_that_gain_to_the_last_are_all_done(tale, tmp_path):
    path = tale(
        ("repeat: 5", "repeat: 3"), ("loop.rounds == 4", "loop.rounds == 3"),
        ("loop.best == 4", "loop.best == 3"), ("loop_kept.rows == 1", "loop_kept.rows == 2"),
    )  # fmt: skip
    found = run(path, tmp_path / "run", quiet=True)
    assert "3 of at most 3 rounds, all were done" in found.report.read_text()


def test_the_plan_says_when_a_round_is_begun(tale):
    told = [preview.sentences[-1] for preview in explain(load(tale()))]
    assert "Round" not in told[0] + told[1] + told[5]
    assert told[2] == (
        "Round 3 is begun only if the round before was a gain: kept.rows below that of the last gain by more than 1."
    )
    patient = [p.sentences[-1] for p in explain(load(tale(("by: 1,", "patience: 2,"))))]
    assert "Round" not in patient[2]
    assert "if one of the 2 rounds before was a gain: kept.rows below that of the last gain." in patient[3]


@pytest.mark.parametrize(
    ("old", "new", "line", "what"),
    [
        ("kept.rows, by", "rows, by", 5, "stop.metric is 'rows'"),
        ("kept.rows, by", "keep.rows, by", 5, "of no step of the round"),
        ("by: 1,", "by: -1,", 5, "stop.by is -1"),
        ("by: 1,", "patience: 0,", 5, "stop.patience is 0"),
        ("by: 1,", "bye: 1,", 5, "no field 'bye'"),
        ("goal: lowest", "goal: least", 5, "goal"),
        ("{metric: kept.rows, by: 1, goal: lowest}", "kept.rows", 5, "stop is not a mapping"),
        ('"@loop_kept"', '"@loop3_kept"', 11, "@loop3_kept is of a round that stop: may leave out"),
        ("- loop_kept.rows", "- loop5_kept.rows", 15, "is of a round that stop: may leave out"),
        ("- id: after", "- id: loop_kept", 10, "two steps are called 'loop_kept'"),
        ("- loop.rounds", "- loop.number", 13, "loop"),
    ],
)
def test_faults_of_the_rule_are_named_at_their_line(tale, old, new, line, what):
    with pytest.raises(FairleadError, match=what) as error:
        load(tale((old, new)))
    assert f"r.yaml:{line}" in str(error.value)


def test_rounds_that_are_done_in_any_case_may_be_named(tale):
    load(tale(('"@loop_kept"', '["@loop1_kept", "@loop2_kept"]')))


def test_a_metric_that_rounds_do_not_measure_is_told(tale, tmp_path):
    with pytest.raises(RecipeError, match=r"loop1_kept\.shoes was not measured") as error:
        run(tale(("kept.rows, by", "kept.shoes, by")), tmp_path / "run", quiet=True)
    assert "rows" in str(error.value)


def test_the_rule_is_set_from_outside(tale):
    assert load(tale(), ["loop.stop.patience=2"]).loops[0].stop.patience == 2
