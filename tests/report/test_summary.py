"""The terminal's summary of a run: verdict, numbers, expectations, what is missing."""

from __future__ import annotations

import io
import json

from rich.console import Console

from fairlead.evaluation.base import Report
from fairlead.report import terminal
from fairlead.report.numbers import number


def printed(folder, width: int = 80) -> str:
    stream = io.StringIO()
    terminal(folder, Console(file=stream, width=width))
    return stream.getvalue()


def test_the_summary_holds_verdict_numbers_and_times(finished_run):
    text = printed(finished_run)
    report = Report.load(finished_run / "steps" / "evaluation", "rewards")
    for found in report.summary.values():
        assert number(found["total"].value) in text
    for words in ("All 2 expectations hold", "evaluation: win_rate", "holds", "sft 11.8 s"):
        assert words in text
    assert max(map(len, text.splitlines())) <= 80


def test_brackets_in_names_are_not_markup(run_folder):
    state = json.loads((run_folder / "run.json").read_text())
    line = {"line": "max([red]x[/red])", "value": None, "holds": False}
    (run_folder / "run.json").write_text(json.dumps(state | {"title": "[bold]t", "expectations": [line]}))
    text = printed(run_folder)
    assert "[bold]t" in text
    assert "max([red]x[/red])" in text
    assert "1 of 1 expectations do not hold" in text


def test_a_failed_run_is_summed_up_too(run_folder):
    state = json.loads((run_folder / "run.json").read_text())
    (run_folder / "run.json").write_text(json.dumps(state | {"status": "failed", "error": "sft: boom"}))
    (run_folder / "steps" / "evaluation" / "rewards.json").unlink()
    text = printed(run_folder, 200)
    assert "This run failed" in text
    assert "sft: boom" in text
    assert "missing: evaluation: rewards" in text


def test_an_empty_folder_is_summed_up(tmp_path):
    assert "no step has begun" in printed(tmp_path)


def test_a_narrow_terminal_cuts_nothing(finished_run):
    text = printed(finished_run, 50)
    report = Report.load(finished_run / "steps" / "evaluation", "rewards")
    assert "…" not in text
    for engine, found in report.summary.items():
        e = found["total"]
        assert f"total          {engine:7} {number(e.value)}  {e.low:.2f}..{e.high:.2f}" in text
