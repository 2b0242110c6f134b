"""Mean rewards per axis: means, gains, abstentions, break-downs and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from known import BASE, TUNED, Count, Silent, rows

from fairlead.engines.base import Sampling
from fairlead.errors import DataError, UnknownFieldError, UnknownNameError, UsageError
from fairlead.evaluation.rewards import RewardAxes

ENGINES = {"base": BASE, "tuned": TUNED}
SAMPLED = Sampling(max_tokens=30)


def test_means_are_the_means_of_the_answers():
    report = RewardAxes({"aye": Count("aye")}, sampling=SAMPLED)(ENGINES, rows(200))
    for name in ENGINES:
        counted = [row["answer"].split().count("aye") for row in report.rows if row["engine"] == name]
        assert report.summary[name]["aye"].value == pytest.approx(np.mean(counted))
    assert report.summary["base"]["aye"].value == pytest.approx(2.0, abs=0.4)  # 2 ayes are expected before the end
    assert report.summary["tuned"]["aye"].value == pytest.approx(3.0, abs=0.5)


def test_the_gain_over_the_baseline_is_paired():
    report = RewardAxes({"aye": Count("aye")}, baseline="base", sampling=SAMPLED)(ENGINES, rows(200))
    gain = report.summary["tuned"]["aye_gain"]
    assert gain.value == pytest.approx(report.summary["tuned"]["aye"].value - report.summary["base"]["aye"].value)
    assert 0 < gain.low < gain.high < 2
    assert "aye_gain" not in report.summary["base"]


def test_several_samples_of_a_prompt_count_as_one():
    report = RewardAxes({"aye": Count("aye")}, sampling=Sampling(max_tokens=30, n=3))({"base": BASE}, rows(20))
    assert report.summary["base"]["aye"].n == 20
    assert len(report.rows) == 60
    assert [row["sample"] for row in report.rows[:4]] == [0, 1, 2, 0]


def test_abstentions_are_left_out_and_noted():
    report = RewardAxes({"aye": Count("aye", silent="nay")}, sampling=SAMPLED)(ENGINES, rows(100))
    silent = sum("nay" in row["answer"].split() for row in report.rows if row["engine"] == "base")
    assert 0 < silent < 100
    assert report.summary["base"]["aye"].n == 100 - silent
    assert f"base {silent}" in report.notes[0]


def test_a_reward_that_never_speaks_gives_nan_and_a_note():
    report = RewardAxes({"silent": Silent()})(ENGINES, rows(3))
    assert math.isnan(report.summary["base"]["silent"].value)
    assert report.summary["base"]["silent"].n == 0
    assert "abstained" in report.notes[0]
    assert all("<svg" in svg for svg in report.figures.values())


def test_a_column_breaks_the_axes_down():
    records = rows(4, extra={"task": "fact"}) + rows(6, extra={"task": "list"})
    report = RewardAxes({"aye": Count("aye")}, by="task", sampling=SAMPLED)({"base": BASE}, records)
    found = report.summary["base"]
    assert (found["aye.fact"].n, found["aye.list"].n) == (4, 6)
    assert 0.4 * found["aye.fact"].value + 0.6 * found["aye.list"].value == pytest.approx(found["aye"].value)
    assert {row["group"] for row in report.rows} == {"fact", "list"}
    with pytest.raises(UsageError, match="no column 'kind'"):
        RewardAxes({"aye": Count("aye")}, by="kind")({"base": BASE}, records)


@pytest.mark.parametrize(
    ("fields", "error", "match"),
    [
        ({"axes": []}, UsageError, "empty"),
        ({"axes": ["total"]}, UsageError, "needs a reward"),
        ({"axes": {"total": "harbor"}, "reward": "harbor"}, UsageError, "needs a reward"),
        ({"axes": {"answer": Silent()}}, UsageError, "cannot be called"),
        ({"axes": {"a.b": Silent()}}, UsageError, "cannot be called"),
        ({"axes": {"x": "harbour"}}, UnknownNameError, "harbor"),
        ({"axes": ["total"], "reward": {"name": "harbor", "axes": 3}}, UnknownFieldError, "axes"),
        ({"axes": ["total"], "reward": Silent()}, UsageError, "catalog name"),
    ],
)
def test_fields_that_cannot_be(fields, error, match):
    with pytest.raises(error, match=match):
        RewardAxes(**fields)


def test_what_cannot_be_answered_is_an_error():
    evaluator = RewardAxes({"silent": Silent()}, baseline="bose")
    with pytest.raises(UnknownNameError, match="base"):
        evaluator(ENGINES, rows(2))
    evaluator = RewardAxes({"silent": Silent()})
    with pytest.raises(DataError, match="no record"):
        evaluator(ENGINES, [])
    with pytest.raises(UsageError, match="no engine"):
        evaluator({}, rows(2))
    whole = rows(1, kind="conversation")
    object.__setattr__(whole[0], "prompt", ())
    with pytest.raises(DataError, match="record r0"):
        evaluator(ENGINES, whole)
