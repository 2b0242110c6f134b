"""The select step: what it reads beside its data, and a report that lacks nothing."""

from __future__ import annotations

import json

from fairlead import recipe, run
from fairlead.report.folder import read_run
from fairlead.steps.select import Select


def test_data_that_a_method_reads_is_an_input():
    one = Select({"name": "decontaminate", "against": "harbor:test?n=5"}, "harbor:pool?n=5")
    assert ("selector", "against") in {use.keys for use in one.uses() if use.role == "data"}
    several = Select({"name": "decontaminate", "against": ["a.jsonl", "@test"]}, "harbor:pool?n=5")
    assert [(u.keys[1:], u.value) for u in several.uses() if u.keys[0] == "selector" and u.role == "data"] == [
        (("against", 0), "a.jsonl"),
        (("against", 1), "@test"),
    ]
    assert {use.role for use in Select("random", "harbor:pool?n=5").uses()} == {"data", "selector"}


def test_test_sets_of_earlier_steps_and_a_whole_report(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "title: t\nsteps:\n"
        "  - {id: test, select: {selector: {name: random, keep: 3}, data: 'harbor:prompts?n=12'}}\n"
        "  - {id: clean, select: {selector: {name: decontaminate, against: '@test'}, data: 'harbor:prompts?n=12'}}\n"
    )
    run(recipe.load(path), tmp_path / "run")
    step = json.loads((tmp_path / "run/steps/clean/step.json").read_text())
    assert step["metrics"]["contaminated"] >= 1
    assert step["metrics"]["rows"] == 12 - step["metrics"]["contaminated"]
    assert all(not step.missing for step in read_run(tmp_path / "run").steps)
