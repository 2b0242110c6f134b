"""What a step needs: the models, methods and files of an answerer, those of its own answerers included."""

from __future__ import annotations

from fairlead.recipe import load
from fairlead.recipe.identity import identify
from fairlead.steps.base import Use, model_uses

RECIPE = """\
title: t
steps:
  - id: answers
    generate:
      model:
        name: rewriter
        engine: {{name: guidelines, engine: harbor:base-300k, library: {folder}/rules.jsonl}}
        rewriter: harbor:aligned-300k
        template: {folder}/ask.jinja
      data: harbor:prompts?n=2
"""


def test_a_decoder_brings_its_engines_and_its_files():
    inner = {"name": "guidelines", "engine": "harbor:base-300k", "library": ["be brief."], "template": "lead.jinja"}
    outer = {"name": "rewriter", "engine": inner, "rewriter": "http://host#m", "template": "{{ prompt }}"}
    assert list(model_uses(("model",), outer)) == [
        Use(("model",), "decoder", outer),
        Use(("model", "engine"), "decoder", inner),
        Use(("model", "engine", "template"), "data", "lead.jinja"),
        Use(("model", "engine", "engine"), "model", "harbor:base-300k"),
        Use(("model", "rewriter"), "model", "http://host#m"),
    ]


def test_a_trained_retriever_is_no_data():
    who = {"name": "guidelines", "engine": "harbor:base-300k", "retriever": "trained"}
    who |= {"library": "@rules", "embedder": "@found"}
    uses = [use for use in model_uses(("model",), who) if use.role != "decoder"]
    assert uses == [
        Use(("model", "library"), "data", "@rules"),
        Use(("model", "embedder"), "retriever", "@found"),
        Use(("model", "engine"), "model", "harbor:base-300k"),
    ]


def test_a_step_is_another_one_when_a_file_of_its_decoder_changes(tmp_path):
    rules, ask, path = tmp_path / "rules.jsonl", tmp_path / "ask.jinja", tmp_path / "r.yaml"
    path.write_text(RECIPE.format(folder=tmp_path), encoding="utf-8")

    def of(rule: str, text: str) -> str:
        rules.write_text(f'{{"text": "{rule}"}}\n', encoding="utf-8")
        ask.write_text(text, encoding="utf-8")
        return identify(load(path).steps)["answers"].fingerprint

    first = of("be brief.", "{{ prompt }}")
    assert of("be brief.", "{{ prompt }}") == first
    assert len({first, of("be kind.", "{{ prompt }}"), of("be brief.", "Mend: {{ prompt }}")}) == 3
