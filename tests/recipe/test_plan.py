"""Recipes: what is accepted, and that every fault is found before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairlead.errors import FairleadError, RecipeError, UnknownFieldError, UnknownNameError, UsageError
from fairlead.recipe import command_recipe, find_recipe, load, plain_config, shipped_recipes, substitute

GOOD = """\
title: A run
seed: 3
steps:
  - id: sft
    train: {model: harbor:base-300k, data: d.jsonl, learning_rate: 1e-3}
  - id: pairs
    generate:
      model: "@sft"
      data: p.jsonl
      n: 4
      reward: {name: harbor, axis: total}
      keep: best_worst
      seed: 8
  - id: evaluation
    evaluate:
      models: {base: harbor:base-300k, sft: "@sft"}
      data: t.jsonl
      evaluators: [{name: rewards, reward: harbor, axes: [total]}, length]
expect:
  - evaluation.rewards.sft.total > evaluation.rewards.base.total
"""


@pytest.fixture
def write(tmp_path):
    def put(text: str) -> Path:
        path = tmp_path / "r.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return put


def test_a_good_recipe(write):
    recipe = load(write(GOOD))
    assert [step.id for step in recipe.steps] == ["sft", "pairs", "evaluation"]
    sft, pairs, _ = (step.config for step in recipe.steps)
    assert sft.learning_rate == 1e-3
    assert (sft.seed, pairs.seed) == (3, 8)  # the recipe's, unless a step says its own
    assert recipe.text.decode() == GOOD
    assert plain_config(recipe.steps[1])["reward"] == {"name": "harbor", "axis": "total"}


@pytest.mark.parametrize(
    ("old", "new", "line", "what", "fix"),
    [
        ("title:", "titel:", 1, "no field 'titel'", "did you mean 'title'"),
        ("seed: 3", "seed: three", 2, "whole number", ""),
        ("learning_rate", "lerning_rate", 5, "no field 'lerning_rate'", "did you mean 'learning_rate'"),
        ("learning_rate: 1e-3", "learning_rate: fast", 5, "learning_rate", "fields of train"),
        ("learning_rate: 1e-3", "epochs: 0", 5, "train.epochs is 0", "> 0"),
        ("learning_rate: 1e-3", "objective: ddpo", 5, "unknown objective 'ddpo'", "did you mean 'dpo'"),
        ("learning_rate: 1e-3", "objective: {name: dpo, betta: 1}", 5, "no field 'betta'", "did you mean 'beta'"),
        ("learning_rate: 1e-3", "objective: {beta: 1}", 5, "needs a name", ""),
        ("    train:", "    trian:", 5, "unknown kind of step 'trian'", "did you mean 'train'"),
        ("- id: pairs", "- id: sft", 6, "two steps are called 'sft'", ""),
        ("- id: pairs", "- id: Pairs!", 6, "cannot be a step's id", "lower-case"),
        ('model: "@sft"\n', 'model: "@stf"\n', 8, "unknown step 'stf'", "did you mean 'sft'"),
        ('model: "@sft"\n', 'model: "@evaluation"\n', 8, "not finished before", "put that step first"),
        ("data: t.jsonl", 'data: "@sft"', 17, "makes model, but data needs data", ""),
        ("keep: best_worst", "keep: worst", 12, "keep", ""),
        ("n: 4", "n: 1", 10, "too few", "2 or more"),
        ("axis: total", "axis: totl", 11, "totl", ""),
        ("axes: [total]", "axes: []", 18, "axes is empty", ""),
        (", length]", ", lenght]", 18, "unknown evaluator 'lenght'", "did you mean 'length'"),
        (", length]", ", rewards]", 18, "'rewards' twice", "labels"),
        ('sft: "@sft"}', "a b: x}", 16, "'a b' is no name", ""),
        (
            "evaluation.rewards.sft.total >",
            "evaluation.reward.sft.total >",
            20,
            "unknown evaluator 'reward'",
            "rewards",
        ),
        (
            "evaluation.rewards.sft.total >",
            "evalution.rewards.sft.total >",
            20,
            "unknown step 'evalution'",
            "evaluation",
        ),
        ("steps:\n", "steps: {}\nother:\n", 4, "no field 'other'", ""),
    ],
)
def test_every_fault_names_line_and_fix(write, old, new, line, what, fix):
    assert GOOD.count(old) >= 1
    path = write(GOOD.replace(old, new, 1))
    with pytest.raises(FairleadError) as caught:
        load(path)
    assert what in str(caught.value)
    assert fix in (caught.value.fix or "")
    assert caught.value.place == f"{path}:{line}", str(caught.value)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("- a\n- b\n", "not a mapping"),
        ("title: x\n", "no steps"),
        ("steps: sft\n", "must be a list"),
        ("steps: [sft]\n", "must be a mapping"),
        ("steps: [{id: a}]\n", "found none"),
        ("steps: [{id: a, train: {}, export: {}}]\n", "found train, export"),
        ("steps: [{id: a, train: x}]\n", "mapping of fields"),
    ],
)
def test_shapes_that_are_no_recipe(write, text, what):
    with pytest.raises(RecipeError, match=what):
        load(write(text))


def test_overrides(write):
    path = write(GOOD)
    recipe = load(path, ["sft.learning_rate=1e-4", "seed=7", "pairs.reward.axis=polite", "sft.objective={name: sft}"])
    sft, pairs, _ = (step.config for step in recipe.steps)
    assert (sft.learning_rate, sft.seed, sft.objective) == (1e-4, 7, {"name": "sft"})
    assert pairs.reward == {"name": "harbor", "axis": "polite"}
    assert recipe.text.decode() == GOOD


@pytest.mark.parametrize(
    ("override", "error", "what"),
    [
        ("stf.epochs=1", UnknownNameError, "did you mean 'sft'"),
        ("sft.epoch=1", UnknownFieldError, "did you mean 'epochs'"),
        ("sft.epochs", RecipeError, "form step.field=value"),
        ("sft.epochs=many", UsageError, "epochs"),
        ("sed=1", UnknownFieldError, "did you mean 'seed'"),
        ("steps=1", UnknownFieldError, "no field 'steps'"),
        ("sft.objective=[", RecipeError, "cannot be read"),
        ("sft.model.x=1", RecipeError, "no fields to set"),
    ],
)
def test_faulty_overrides_name_themselves(write, override, error, what):
    with pytest.raises(error, match=what) as caught:
        load(write(GOOD), [override])
    assert caught.value.place == f"--set {override}"


def test_substitution_reaches_everywhere_and_keeps_suffixes():
    value = {"a": "@sft", "b": ["@pairs?part=train", {"c": "me@sft"}], "d": "@other"}
    replaced = {"a": "M", "b": ["P?part=train", {"c": "me@sft"}], "d": "@other"}
    assert substitute(value, {"sft": "M", "pairs": "P"}) == replaced


def test_a_command_is_a_recipe_of_one_step():
    recipe = command_recipe("train", {"model": "m", "data": "d", "epochs": None}, "fairlead train")
    assert [step.id for step in recipe.steps] == ["train"]
    with pytest.raises(UnknownNameError) as caught:
        command_recipe("train", {"model": "m", "data": "d", "objective": "ddpo"}, "fairlead train")
    assert caught.value.place == "--objective"


def test_the_shipped_recipes_are_sound(monkeypatch):
    monkeypatch.setenv("FAIRLEAD_SHARED_DATA", "data")
    recipes = shipped_recipes()
    assert {"quickstart", "hh_small"} <= set(recipes)
    for name, path in recipes.items():
        recipe = load(path)
        assert recipe.title, name
        assert recipe.about, name
        assert recipe.expect, name
    assert find_recipe("quickstart") == recipes["quickstart"]
    with pytest.raises(UnknownNameError, match="did you mean 'quickstart'"):
        find_recipe("quikstart")
    with pytest.raises(RecipeError, match="no such file"):
        find_recipe("nowhere/r.yaml")
