"""Runs side by side: equal models once, win rates on common prompts, settings that differ, what cannot be compared."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from test_page import EVIL, Page, rewrite

from fairlead.cli import main
from fairlead.errors import DataError, UsageError
from fairlead.estimates import Estimate, estimate_rate
from fairlead.evaluation.base import Report
from fairlead.report import compare
from fairlead.report.comparison import compare_runs

EVALUATION = Path("steps") / "evaluation"


@pytest.fixture
def other(finished_run, tmp_path) -> Path:
    """A run whose DPO model has a higher total on every prompt, trained with another beta."""
    folder = Path(shutil.copytree(finished_run, tmp_path / "other"))
    rewards = Report.load(folder / EVALUATION, "rewards")
    rewards.rows = [row | ({"total": row["total"] + 0.25} if row["engine"] == "dpo" else {}) for row in rewards.rows]
    before = rewards.summary["dpo"]["total"]
    rewards.summary["dpo"]["total"] = Estimate(*(v + 0.25 for v in (before.value, before.low, before.high)), before.n)
    rewards.save(folder / EVALUATION, "rewards")
    config = json.loads((folder / "steps" / "dpo" / "step.json").read_text())["config"]
    config["objective"]["beta"] = 0.7
    rewrite(folder / "steps" / "dpo" / "step.json", config=config, seconds=4000.0)
    return folder


def test_equal_models_are_shown_once(finished_run, other):
    found = compare_runs([finished_run, other])
    (step,) = found.steps
    assert list(step.reports["rewards"].summary) == ["base", "sft", "sample · dpo", "other · dpo"]
    answers = step.samples[0]["answers"]
    assert list(answers) == ["base", "sft", "sample · dpo", "other · dpo"]
    assert step.notes == []


def test_win_rates_are_over_common_prompts(finished_run, other):
    matrix = compare_runs([finished_run, other]).matrices["evaluation"]
    rates = dict(zip(matrix.subjects, matrix.rates))
    one, two = (matrix.subjects.index(name) for name in ("sample · dpo", "other · dpo"))
    assert (matrix.label, matrix.axis) == ("rewards", "total")
    assert (rates["other · dpo"][one].value, rates["sample · dpo"][two].value) == (1.0, 0.0)
    assert rates["base"][matrix.subjects.index("base")] is None
    rows = Report.load(finished_run / EVALUATION, "rewards").rows
    base, sft = ({r["id"]: r["total"] for r in rows if r["engine"] == name} for name in ("base", "sft"))
    points = [0.5 + 0.5 * ((sft[k] > base[k]) - (sft[k] < base[k])) for k in base]
    assert rates["sft"][matrix.subjects.index("base")] == estimate_rate(points)


def test_settings_and_costs(finished_run, other):
    found = compare_runs([finished_run, other])
    assert found.differences == [("dpo.objective.beta", ["0.1", "0.7"])]
    assert found.costs[1].seconds["train"] - found.costs[0].seconds["train"] > 3000
    assert found.costs[0].tokens == found.costs[1].tokens > 0


def test_other_data_is_said_and_not_matched(finished_run, other):
    config = json.loads((other / EVALUATION / "step.json").read_text())["config"]
    rewrite(other / EVALUATION / "step.json", config=config | {"data": "harbor:test?n=7"})
    found = compare_runs([finished_run, other])
    assert found.matrices == {}
    assert "measured on different data (sample: harbor:test?n=" in found.steps[0].notes[0]


def test_names_are_the_shortest_that_differ(finished_run, tmp_path):
    places = [Path(shutil.copytree(finished_run, tmp_path / name / "run")) for name in ("one", "two")]
    assert compare_runs(places).names == ["one/run", "two/run"]


def test_what_cannot_be_compared_is_refused(finished_run, tmp_path):
    with pytest.raises(UsageError, match="two run folders or more"):
        compare_runs([finished_run])
    with pytest.raises(UsageError, match="1 different runs"):
        compare_runs([finished_run, finished_run])
    with pytest.raises(DataError, match="is no run folder"):
        compare_runs([finished_run, tmp_path / "nowhere"])
    bare = Path(shutil.copytree(finished_run, tmp_path / "bare"))
    shutil.rmtree(bare / EVALUATION)
    with pytest.raises(DataError, match=r"sample: evaluation; bare: none"):
        compare_runs([finished_run, bare])


def test_the_command_writes_the_page_and_prints_the_numbers(finished_run, other, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as ended:
        main(["compare", str(finished_run), str(other), "--out", str(tmp_path / "both.html")])
    said = capsys.readouterr()
    assert ended.value.code == 0
    assert said.out.strip() == str(tmp_path / "both.html")
    assert (tmp_path / "both.html").is_file()
    for words in ("evaluation: rewards", "other · dpo", "dpo.objective.beta", "0.7"):
        assert words in said.err


def test_the_page(finished_run, other, tmp_path):
    (line, *_) = (other / EVALUATION / "samples.jsonl").read_text().splitlines()
    sample = json.loads(line)
    sample["answers"]["dpo"] = EVIL
    (other / EVALUATION / "samples.jsonl").write_text(json.dumps(sample) + "\n")
    page = Page(compare([finished_run, other], tmp_path / "page.html").read_text(encoding="utf-8"))
    for words in ("sample · dpo", "other · dpo", "Who wins on total", "dpo.objective.beta", "tokens trained on"):
        assert words in page.text.replace(". ", ".") or words in page.text
    assert len(page.scripts) == 2
    assert "img" not in [tag for tag, _ in page.elements]
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    policy = next(a["content"] for t, a in page.elements if t == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'")
