"""Reports in a folder: what is saved comes back, what is broken says so."""

from __future__ import annotations

import json
import math

import pytest

from fairlead.errors import DataError, UsageError
from fairlead.estimates import Estimate
from fairlead.evaluation.base import Report


def report() -> Report:
    return Report(
        {"a": {"x": Estimate(0.5, 0.25, 0.75, 8)}, "b": {"x": Estimate(1.0, 0.5, 2.0, 4)}},
        [{"id": "1", "x": 0.5}, {"id": "2", "x": None, "only_here": "é"}],
        {"One / two": "<svg>1</svg>", "one two": "<svg>2</svg>"},
        ["a note"],
    )


def test_a_report_comes_back_as_it_was_saved(tmp_path):
    report().save(tmp_path / "deep" / "er", "rewards")
    back = Report.load(tmp_path / "deep" / "er", "rewards")
    assert back.summary == report().summary
    assert back.figures == report().figures
    assert back.notes == ["a note"]
    assert back.rows == [{"id": "1", "x": 0.5, "only_here": None}, {"id": "2", "x": None, "only_here": "é"}]
    assert {p.suffix for p in (tmp_path / "deep" / "er").iterdir()} == {".json", ".parquet", ".svg"}


def test_nan_is_null_in_the_file_and_nan_again_after(tmp_path):
    Report({"a": {"x": Estimate(math.nan, math.nan, math.nan, 0)}}).save(tmp_path, "r")
    assert json.loads((tmp_path / "r.json").read_text())["summary"]["a"]["x"]["value"] is None
    back = Report.load(tmp_path, "r")
    assert math.isnan(back.summary["a"]["x"].value)
    assert back.rows == []


def test_metrics_are_flat():
    assert report().metrics() == {"a.x": 0.5, "b.x": 1.0}


@pytest.mark.parametrize("text", [None, "{", "[]", '{"summary": {}}', '{"summary": {"a": {"x": 1}}, "figures": {}}'])
def test_a_broken_report_is_an_error_that_names_the_file(tmp_path, text):
    report().save(tmp_path, "r")
    (tmp_path / "r.json").unlink() if text is None else (tmp_path / "r.json").write_text(text)
    with pytest.raises(DataError, match=r"r\.json"):
        Report.load(tmp_path, "r")


def test_a_lost_figure_or_table_is_an_error(tmp_path):
    report().save(tmp_path, "r")
    (tmp_path / "r.parquet").unlink()
    with pytest.raises(DataError, match="no whole report"):
        Report.load(tmp_path, "r")


def test_a_column_of_two_types_is_an_error_that_names_it(tmp_path):
    with pytest.raises(UsageError, match="'x'"):
        Report({}, [{"x": "text"}, {"x": 1.5}]).save(tmp_path, "r")
