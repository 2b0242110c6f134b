"""The train_retriever step: what it needs, says and leaves, in a recipe whose next step uses what it made."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from fairlead.errors import RecipeError
from fairlead.recipe import explain, load, run
from fairlead.steps.base import Context, Use
from fairlead.steps.train_retriever import TrainRetriever

STEP = TrainRetriever(
    model="harbor:base-300k",
    library="harbor:guidelines?n=60",
    pooling="mean",
    similarity="cosine",
    epochs=2,
    learning_rate=1e-3,
    held_out=0.2,
)
RECIPE = """\
title: t
steps:
  - id: found
    train_retriever:
      model: harbor:base-300k
      library: "{folder}/rules.jsonl"
      pooling: mean
      similarity: cosine
      epochs: 6
      learning_rate: 3e-3
      batch_size: 8
      warmup_steps: 0
  - id: answers
    generate:
      model:
        name: guidelines
        engine: harbor:base-300k
        library: "{folder}/rules.jsonl"
        retriever: trained
        embedder: "@found"
        k: 1
        template: "{{{{ guidelines[0].text }}}}"
      data: harbor:prompts?n=6&kinds=harm,ben
      temperature: 0
      max_tokens: 24
"""


def test_the_folder_and_the_figures(tmp_path):
    outcome = STEP(Context(tmp_path, tmp_path / "c", quiet=True))
    assert outcome.outputs == {"retriever": "retriever"}
    assert (tmp_path / "retriever" / "retriever.json").is_file()
    for name in ("trained", "lexical", "untrained"):
        assert 0 < outcome.metrics[f"{name}.mrr"] <= 1
        assert outcome.metrics[f"{name}.recall_1"] <= outcome.metrics[f"{name}.recall_3"]
    assert outcome.metrics["held_out"] == round(0.2 * (outcome.metrics["held_out"] + outcome.metrics["questions"]))
    assert outcome.metrics["steps"] == 4
    assert outcome.notes == ()


def test_what_a_reader_must_know_is_noted(tmp_path):
    rows = [{"prompt": "sink it", "guidelines": ["Danger: be polite, safe and honest."]}]
    rows += [{"prompt": "what else", "guidelines": ["quite another rule"]}]
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    step = replace(STEP, evaluation_data=str(tmp_path / "asked.jsonl"), max_length=8, baselines=())
    notes = step(Context(tmp_path, tmp_path / "c", quiet=True)).notes
    assert any("cut at 8 tokens" in note for note in notes)
    assert "1 held-out requests left out: the library has none of their guidelines" in notes


def test_what_it_needs_and_says():
    assert STEP.uses() == (
        Use(("model",), "model", "harbor:base-300k"),
        Use(("library",), "data", "harbor:guidelines?n=60"),
    )
    first, second = STEP.preview({}).sentences
    assert "two encoders" in first
    assert "20% of its requests, beside lexical, untrained" in second
    inline = TrainRetriever(model="m", library=["a", "b"], encoders="one", evaluation_data="x.jsonl", baselines=())
    assert inline.uses()[1:] == (Use(("evaluation_data",), "data", "x.jsonl"),)
    assert "one encoder that begins as m to find the guidelines of 2 guidelines" in inline.preview({}).sentences[0]


@pytest.fixture
def recipe(tmp_path):
    asked = {"sink": "be polite, safe and honest.", "sink the anchor of": "just answer."}
    rules = [
        {
            "text": rule,
            "sources": [f"how do i {act} the {ship}?" for ship in ("didomol", "rijofok", "nuturor", "zesohuk")],
        }
        for act, rule in asked.items()
    ]
    (tmp_path / "rules.jsonl").write_text("".join(json.dumps(rule) + "\n" for rule in rules))
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE.format(folder=tmp_path))
    return path


def test_the_next_step_uses_what_it_made(recipe, tmp_path):
    assert len(explain(load(recipe))) == 2
    result = run(recipe, tmp_path / "run", quiet=True)
    rows = [json.loads(line) for line in result.outputs["answers"]["records"].read_text().splitlines()]
    assert len(rows) == 6
    said = [row["completion"][0]["content"] for row in rows]
    assert any("cannot help" in text for text in said)
    assert result.metrics["found.questions"] + result.metrics["found.held_out"] == 8
    changed = load(recipe, ["found.seed=5"])
    with pytest.raises(RecipeError, match="'found' was run before"):
        run(changed, tmp_path / "run", quiet=True)


def test_a_retriever_is_no_model_and_a_model_no_retriever(recipe):
    text = recipe.read_text()
    recipe.write_text(text.replace("engine: harbor:base-300k", 'engine: "@found"'))
    with pytest.raises(RecipeError, match=r"@found makes retriever, but model\.engine needs model"):
        load(recipe)
    first = "title: t\nsteps:\n  - id: made\n    new_model: {data: harbor:prompts, parameters: 200K}\n"
    recipe.write_text(first + text.partition("steps:\n")[2].replace('"@found"', '"@made"'))
    with pytest.raises(RecipeError, match=r"@made makes model, but model\.embedder needs retriever"):
        load(recipe)
