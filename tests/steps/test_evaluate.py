"""The evaluate step: labels, shared sampling, the cache, and the side-by-side samples."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from fairlead.engines.base import Sampling
from fairlead.errors import UsageError
from fairlead.evaluation.base import Report
from fairlead.steps import evaluate as steps_evaluate
from fairlead.steps.base import Context
from fairlead.steps.evaluate import Evaluate

MODELS = {"base": "harbor:base-300k", "aligned": "harbor:aligned-300k"}


def context(folder: Path) -> Context:
    folder.mkdir(parents=True, exist_ok=True)
    return Context(folder, folder.parent / "answers.sqlite", quiet=True)


def test_reports_metrics_and_samples(tmp_path):
    step = Evaluate(
        models=MODELS,
        data="harbor:test?n=20",
        sampling=Sampling(temperature=0.0, max_tokens=24),
        samples=5,
        evaluators={
            "exact": {"name": "rewards", "reward": "harbor", "axes": ["total", "harmless"]},
            "long": {"name": "length", "sampling": {"temperature": 1.0, "max_tokens": 6}},
        },
    )
    outcome = step(context(tmp_path / "one"))
    report = Report.load(tmp_path / "one", "exact")
    assert outcome.metrics["exact.aligned.total"] == report.summary["aligned"]["total"].value
    assert outcome.metrics["exact.aligned.total"] > outcome.metrics["exact.base.total"]
    assert outcome.metrics["long.base.tokens"] <= 7
    rows = [json.loads(line) for line in (tmp_path / "one/samples.jsonl").read_text().splitlines()]
    assert len(rows) == 5
    assert list(rows[0]["answers"]) == ["base", "aligned"]
    total = next(r["total"] for r in report.rows if r["id"] == rows[0]["id"] and r["engine"] == "aligned")
    assert rows[0]["scores"]["aligned"]["total"] == total
    shown = next(r["answer"] for r in report.rows if r["id"] == rows[0]["id"] and r["engine"] == "aligned")
    assert rows[0]["answers"]["aligned"] == shown
    again = step(context(tmp_path / "two"))
    assert again.metrics == outcome.metrics


def test_pairs_need_no_answers(tmp_path):
    step = Evaluate(
        models=MODELS,
        data="harbor:preferences?n=30",
        evaluators=({"name": "pair_accuracy", "reference": "base"},),
    )
    outcome = step(context(tmp_path / "one"))
    assert outcome.metrics["pair_accuracy.aligned.implicit_reward"] > 0.7
    assert "samples" not in outcome.outputs
    assert not (tmp_path / "one/samples.jsonl").exists()


def test_an_equal_column_of_two_evaluators_keeps_its_label(tmp_path):
    step = Evaluate(
        models={"base": MODELS["base"]},
        data="harbor:test?n=3",
        sampling=Sampling(temperature=0.0, max_tokens=8),
        evaluators={
            "total": {"name": "rewards", "reward": "harbor", "axes": ["total"]},
            "polite": {"name": "rewards", "axes": {"total": {"name": "harbor_proxy"}}},
        },
    )
    step(context(tmp_path / "one"))
    row = json.loads((tmp_path / "one/samples.jsonl").read_text().splitlines()[0])
    assert {"total", "polite.total"} <= set(row["scores"]["base"])


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"models": {}}, "models is empty"),
        ({"models": {"a-b": "m"}}, "'a-b' is no name"),
        ({"evaluators": ()}, "evaluators is empty"),
        ({"evaluators": ("length", "length")}, "'length' twice"),
        ({"limit": 0}, "limit is 0"),
        ({"samples": -1}, "samples is -1"),
    ],
)
def test_settings_that_make_no_sense(values, what):
    with pytest.raises(UsageError, match=what):
        Evaluate(**({"models": MODELS, "data": "d", "evaluators": ("length",)} | values))


SCALE = {
    "name": "attitude_scales",
    "labels": "none",
    "questionnaire": {
        "title": "Colours",
        "options": ["it is red .", "it is blue ."],
        "items": [{"id": "one", "text": "which ?", "dimension": "warm"}],
    },
}
TOXIC = {"name": "bias", "reward": {"name": "harbor", "axis": "harmless"}, "complement": True}


def test_evaluators_with_questions_of_their_own_need_no_data(tmp_path):
    step = Evaluate(models=MODELS, evaluators={"scale": SCALE, "scenes": "bias"})
    assert not [use for use in step.uses() if use.role == "data"]
    (said, *_) = step.preview({}).sentences
    assert "on questions of the evaluators' own, under scale, scenes" in said
    outcome = step(context(tmp_path / "one"))
    assert not (tmp_path / "one/samples.jsonl").exists()
    with_data = Evaluate(models=MODELS, data="harbor:test?n=2", evaluators={"scale": SCALE, "scenes": "bias"})
    assert with_data(context(tmp_path / "two")).metrics == outcome.metrics
    assert outcome.metrics["scale.base.validity"] == 1.0


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"evaluators": (SCALE, "length", "rules")}, "data is not given, and length, rules measures on records"),
        ({"evaluators": {"scale": SCALE, "toxic": TOXIC}}, "and toxic measures on records"),
        ({"evaluators": ({"name": "bias", "templates": "records"},)}, "and bias measures on records"),
        ({"evaluators": ({"name": "values", "behaviour": {"safety": "harbor"}},)}, "values"),
        ({"evaluators": (SCALE,), "limit": 3}, "limit is given without data"),
        ({"evaluators": (SCALE,), "format": "hh"}, "format is given without data"),
    ],
)
def test_what_reads_records_needs_data(values, what):
    with pytest.raises(UsageError, match=what):
        Evaluate(**({"models": MODELS} | values))


def test_a_server_needs_the_name_of_a_model(tmp_path):
    step = Evaluate(models={"far": "http://127.0.0.1:9/v1"}, data="harbor:test?n=2", evaluators=("length",))
    with pytest.raises(UsageError, match="name of a model"):
        step(context(tmp_path / "one"))


JUDGED = {
    "name": "pairwise_judge",
    "baseline": "base",
    "judge": "harbor:base-300k",
    "panel": {"aligned": "harbor:aligned-300k"},
    "text": "judge this. question: {{ question }} answer: {{ a }} or {{ b }}",
}


def answers(path: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT key, answer FROM answers ORDER BY key").fetchall()


def test_models_that_evaluators_name_are_seen_opened_once_and_cached(tmp_path, monkeypatch):
    opened = []
    real = steps_evaluate.open_engine
    monkeypatch.setattr(steps_evaluate, "open_engine", lambda who, dtype: opened.append(who) or real(who, dtype))
    step = Evaluate(
        models=MODELS,
        data="harbor:test?n=3",
        sampling=Sampling(temperature=0.0, max_tokens=8),
        evaluators=({**JUDGED, "judge_sampling": {"temperature": 0, "max_tokens": 8}, "retries": 1},),
    )
    named = {use.keys: use.value for use in step.uses() if use.role == "model"}
    assert named["evaluators", 0, "judge"] == "harbor:base-300k"
    assert named["evaluators", 0, "panel", "aligned"] == "harbor:aligned-300k"
    outcome = step(context(tmp_path / "one"))
    assert opened == ["harbor:base-300k", "harbor:aligned-300k"]
    assert outcome.metrics["pairwise_judge.aligned.judged"] < 1
    assert "no verdict" in " ".join(outcome.notes)
    kept = answers(tmp_path / "answers.sqlite")
    again = step(context(tmp_path / "two"))
    assert again.metrics.keys() == outcome.metrics.keys()
    assert answers(tmp_path / "answers.sqlite") == kept
    assert isinstance(step.evaluators[0]["judge"], str)


def test_a_file_that_an_evaluator_names_is_data():
    spec = {"name": "pairwise_judge", "baseline": "gold", "judge": "harbor:base-300k", "reference": "gold.jsonl"}
    step = Evaluate(models=MODELS, data="harbor:test?n=3", evaluators={"judged": spec})
    assert ("evaluators", "judged", "reference") in [use.keys for use in step.uses() if use.role == "data"]
