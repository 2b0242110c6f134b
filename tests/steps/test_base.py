"""What a step needs: the models, methods and files of an answerer, those of its own answerers included."""

from __future__ import annotations

import pytest

from fairlead.errors import UnknownNameError
from fairlead.recipe import load
from fairlead.recipe.identity import identify
from fairlead.steps.base import Use, model_uses, reward_uses

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


EVALUATION = """\
title: t
steps:
  - id: sft
    train: {{model: harbor:base-300k, data: "harbor:demonstrations?n=9", learning_rate: {rate}}}
  - id: evaluation
    evaluate:
      models: {{base: harbor:base-300k, other: harbor:aligned-300k}}
      data: harbor:test?n=2
      evaluators: [{{name: pairwise_judge, baseline: base, judge: "{judge}", text: {text}}}]
"""


def test_an_evaluation_is_another_one_when_its_judge_changes(tmp_path):
    text, path = tmp_path / "ask.jinja", tmp_path / "r.yaml"

    def of(judge: str, rate: str = "1e-3", asked: str = "{{ a }} or {{ b }}?") -> str:
        text.write_text(asked, encoding="utf-8")
        path.write_text(EVALUATION.format(rate=rate, judge=judge, text=text), encoding="utf-8")
        return identify(load(path).steps)["evaluation"].fingerprint

    shipped, trained = of("harbor:base-300k"), of("@sft")
    assert of("harbor:base-300k", rate="2e-3") == shipped != trained
    assert len({shipped, trained, of("@sft", rate="2e-3"), of("@sft", asked="{{ b }} or {{ a }}?")}) == 4


def test_a_judge_that_is_not_there_is_found_before_anything_runs(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(EVALUATION.format(rate="1e-3", judge="@sftt", text="null"), encoding="utf-8")
    with pytest.raises(UnknownNameError, match=r"r\.yaml:9: unknown step 'sftt'"):
        load(path)


REWARDED = """\
title: t
steps:
  - id: drafts
    generate:
      model: {{name: best_of_n, engine: harbor:base-300k, reward: &bleu {{name: bleu, references: {file}}}}}
      data: harbor:prompts?n=2
      reward: {{name: combined, rewards: [{{name: format}}, *bleu]}}
  - id: evaluation
    evaluate:
      models: {{base: harbor:base-300k}}
      data: harbor:test?n=2
      evaluators: [{{name: rewards, axes: {{bleu: *bleu}}}}]
"""


def test_what_a_reward_reads_is_found_however_deep_it_is_named():
    bleu = {"name": "bleu", "references": ["a.jsonl", "@step"]}
    spec = {"name": "combined", "rewards": ["harbor", bleu, {"name": "rouge_l", "references": "b.jsonl"}]}
    place = ("reward", "rewards")
    assert list(reward_uses(("reward",), spec)) == [
        Use((*place, 1, "references", 0), "data", "a.jsonl"),
        Use((*place, 1, "references", 1), "data", "@step"),
        Use((*place, 2, "references"), "data", "b.jsonl"),
    ]
    assert not list(reward_uses((), {"name": "bleu", "references": {"q": "a"}}))
    learned = {
        "name": "reward_ensemble",
        "members": [{"name": "model", "model": "@rm"}, {"name": "model", "model": "m"}],
    }
    assert list(reward_uses((), learned)) == [
        Use(("members", 0, "model"), "model", "@rm"),
        Use(("members", 1, "model"), "model", "m"),
    ]


def test_a_step_is_another_one_when_a_file_of_its_reward_changes(tmp_path):
    file, path = tmp_path / "good.jsonl", tmp_path / "r.yaml"
    path.write_text(REWARDED.format(file=file), encoding="utf-8")

    def of(answer: str) -> list[str]:
        file.write_text(f'{{"prompt": "q", "completion": "{answer}"}}\n', encoding="utf-8")
        return [one.fingerprint for one in identify(load(path).steps).values()]

    first = of("a")
    assert of("a") == first
    assert not set(of("b")) & set(first)
