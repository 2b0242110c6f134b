"""lm-evaluation-harness: its results read as it writes them; its own process on a model and on a served method."""

from __future__ import annotations

import importlib.util
import json
import math

import pytest

import fairlead
from fairlead import harbor
from fairlead.engines import Sampling
from fairlead.errors import DataError, EngineError, MissingExtraError, UsageError
from fairlead.evaluation.base import Report
from fairlead.steps.base import Context
from fairlead.steps.harness import Harness, read_results

INSTALLED = importlib.util.find_spec("lm_eval") is not None
RESULTS = {
    "results": {
        "sums": {
            "alias": "sums",
            "sample_len": 50,
            "exact_match,strict-match": 0.5,
            "exact_match_stderr,strict-match": 0.1,
            "acc,none": 0.25,
            "acc_stderr,none": "N/A",
        }
    },
    "n-samples": {"sums": {"original": 100, "effective": 50}},
}
TASK = """task: ships
dataset_path: json
dataset_kwargs:
  data_files: {{test: {folder}/questions.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["zzz"], max_gen_toks: 16, do_sample: false}}
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true}}
"""
CHOICE = """task: colours
dataset_path: json
dataset_kwargs:
  data_files: {{test: {folder}/questions.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: ["{{{{answer}}}}", "q q q q q q q q"]
doc_to_target: 0
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
"""


def test_results_are_read_with_their_intervals(tmp_path):
    (tmp_path / "results_2026.json").write_text(json.dumps(RESULTS))
    row = {"doc_id": 3, "target": "7", "filtered_resps": ["8"], "metrics": ["acc"], "acc": 0.0, "filter": "none"}
    (tmp_path / "samples_sums_2026.jsonl").write_text(json.dumps(row) + "\n")
    summary, rows = read_results(tmp_path)
    found = summary["sums_exact_match_strict_match"]
    assert (found.value, found.n) == (0.5, 50)
    assert (found.low, found.high) == pytest.approx((0.304, 0.696))
    assert math.isnan(summary["sums_acc"].low)
    assert rows == [{"id": "sums-3", "task": "sums", "filter": "none", "target": "7", "answer": "8", "acc": 0.0}]


def test_what_is_no_result_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no results"):
        read_results(tmp_path)
    (tmp_path / "results_2026.json").write_text("[]")
    with pytest.raises(DataError, match="is no results file"):
        read_results(tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"models": {}}, "needs models"),
        ({"tasks": ()}, "and tasks"),
        ({"models": {"a b": "x"}}, "is no name"),
        ({"models": {"a": "http://h/v1"}}, "needs the name of a model"),
        ({"models": {"a": "http://h/v1#m"}, "chat": False}, "asked as a chat model"),
        ({"models": {"a": {"name": "urial", "engine": "x"}}, "chat": False}, "asked as a chat model"),
        ({"limit": 0}, "limit is 0"),
    ],
)
def test_settings_are_checked(changes, words):
    with pytest.raises(UsageError, match=words):
        Harness(**{"models": {"base": "harbor:base-300k"}, "tasks": ("ships",), **changes})


@pytest.mark.skipif(INSTALLED, reason="lm_eval is installed")
def test_the_extra_is_named(tmp_path):
    with pytest.raises(MissingExtraError, match=r"fairlead\[harness\]"):
        Harness({"base": "harbor:base-300k"}, ("ships",))(Context(tmp_path, tmp_path / "answers"))


@pytest.mark.slow
@pytest.mark.skipif(not INSTALLED, reason="needs the extra `harness` (lm_eval)")
def test_the_harness_gets_the_answers_of_the_library(tmp_path):
    tasks, run = tmp_path / "tasks", tmp_path / "run"
    tasks.mkdir()
    run.mkdir()
    (tasks / "ships.yaml").write_text(TASK.format(folder=tasks))
    (tasks / "colours.yaml").write_text(CHOICE.format(folder=tasks))
    asked = [row["prompt"][-1]["content"] for row in harbor.rows("test?n=6")]
    (tasks / "questions.jsonl").write_text(
        "".join(json.dumps({"question": question, "answer": "the sea is blue."}) + "\n" for question in asked)
    )
    method = {"name": "nudging", "base": "harbor:base-300k", "nudger": "harbor:aligned-300k"}
    models = {"plain": "harbor:aligned-300k", "nudged": method}
    Harness(models, ("ships",), str(tasks))(Context(run, run / "answers"))
    report = Report.load(run, "harness")
    for name, who in models.items():
        prompts = [[{"role": "user", "content": question}] for question in asked]
        wanted = fairlead.engine(who).generate(prompts, Sampling(max_tokens=16, temperature=0))
        said = {row["id"]: row["answer"] for row in report.rows if row["engine"] == name}
        assert [said[f"ships-{k}"].strip() for k in range(6)] == [answers[0].text.strip() for answers in wanted]
        assert report.summary[name]["ships_exact_match"].n == 6
    logs = {log: log.stat().st_mtime_ns for log in run.glob("*/harness.log")}
    Harness(models, ("ships",), str(tasks))(Context(run, run / "answers"))
    assert {log: log.stat().st_mtime_ns for log in run.glob("*/harness.log")} == logs
    choice = run / "choice"
    choice.mkdir()
    Harness({"plain": "harbor:aligned-300k"}, ("colours",), str(tasks))(Context(choice, run / "answers"))
    assert Report.load(choice, "harness").summary["plain"]["colours_acc"].n == 6
    with pytest.raises(EngineError, match="nosuchtask"):
        Harness({"plain": "harbor:aligned-300k"}, ("nosuchtask",), str(tasks))(Context(choice / "no", run / "answers"))
