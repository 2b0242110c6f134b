"""The report on files of judged pairs."""

from __future__ import annotations

import math
import re
import time
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from fairlead.errors import DataError
from fairlead.estimates import Estimate
from fairlead.evaluation.base import Report
from fairlead.evaluation.preferences import (
    LengthReference,
    Verdicts,
    read_verdicts,
    reference_places,
    summarise,
    win_rate,
)
from fairlead.evaluation.preferences.drawings import fits, leaderboard, matrix

FAST = {"resamples": 50}


def made(n=60, models=("x", "y"), judges=("",), seed=0, baseline="base", orders=False, strength=0.6):
    rng = np.random.default_rng(seed)
    keys = [(f"i{i}", model, baseline, judge) for judge in judges for model in models for i in range(n)]
    size = len(keys)
    wins = np.array([strength - 0.2 * models.index(model) for _, model, *_ in keys])
    straight, swapped = ((rng.random(size) < wins).astype(float) for _ in range(2))
    lengths, other = rng.integers(20, 400, size).astype(float), rng.integers(20, 400, size).astype(float)
    nothing = np.full(size, np.nan)
    columns = [list(column) for column in zip(*keys)]
    both = (straight + swapped) / 2
    sides = (both, straight, swapped) if orders else (straight, nothing, nothing)
    return Verdicts(*columns, *sides, lengths, other, np.sign(rng.integers(-1, 2, size)).astype(float))


def test_a_leaderboard():
    verdicts = made()
    report = summarise(verdicts, **FAST)
    points = {name: verdicts.points[[i for i, m in enumerate(verdicts.model) if m == name]] for name in "xy"}
    for name in "xy":
        axes = report.summary[name]
        assert axes["rate"] == win_rate(points[name]).rate
        assert set(axes) >= {"discrete", "length_controlled", "length", "elo"}
        assert axes["length"].n == 60
        rows = [row["rate"] for row in report.rows if row["engine"] == name]
        assert axes["rate"].value == pytest.approx(np.mean(rows))
    lead = report.summary["x"]["lead"]
    assert lead.value == pytest.approx(points["x"].mean() - points["y"].mean())
    assert lead.low <= lead.value <= lead.high
    assert 0 < report.summary["x"]["lead_p"].value < 1
    assert "lead" not in report.summary["y"]
    assert report.summary["base"]["elo"].value == 1000
    assert report.summary["judge"].keys() == {"prefers_longer", "prefers_list"}
    assert set(report.figures) == {"leaderboard", "length and verdict", "who beats whom"}
    assert all(ET.fromstring(svg).get("role") == "img" for svg in report.figures.values())


def test_intervals_hold_their_estimates_and_calls_repeat(tmp_path):
    verdicts = made(orders=True, judges=("a", "b"))
    report, again = summarise(verdicts, **FAST), summarise(verdicts, **FAST)
    assert repr(report.summary) == repr(again.summary)
    assert report.figures == again.figures
    for axes in report.summary.values():
        for e in axes.values():
            assert math.isnan(e.low) or e.low <= e.value <= e.high
    report.save(tmp_path, "verdicts")
    assert repr(Report.load(tmp_path, "verdicts").summary) == repr(report.summary)


def test_the_order_of_rows_does_not_matter():
    verdicts = made(orders=True)
    order = np.random.default_rng(1).permutation(len(verdicts))
    names = {k: [getattr(verdicts, k)[i] for i in order] for k in ("item", "model", "baseline", "judge")}
    arrays = ("points", "straight", "swapped", "length", "baseline_length", "lists")
    shuffled = Verdicts(**names, **{k: getattr(verdicts, k)[order] for k in arrays})
    one, two = summarise(verdicts, **FAST), summarise(shuffled, **FAST)
    assert one.metrics().keys() == two.metrics().keys()
    assert two.metrics() == pytest.approx(one.metrics(), abs=1e-6)


def test_biases_of_both_orders():
    verdicts = made(orders=True)
    axes = summarise(verdicts, **FAST).summary["judge"]
    same = verdicts.straight == verdicts.swapped
    assert axes["consistent"].value == pytest.approx(same.mean())
    firsts = np.concatenate([1 - verdicts.straight, verdicts.swapped])
    assert axes["first_slot"].value == pytest.approx(firsts.mean())
    assert axes["first_slot"].n == 2 * len(verdicts)


def test_what_is_missing_is_told():
    verdicts = made(orders=True)
    verdicts.points[:5] = np.nan
    kept = np.ones(len(verdicts), dtype=bool)
    kept[-7:] = False
    report = summarise(verdicts.where(kept), **FAST)
    assert "x: 5 of 60 verdicts are missing" in report.notes
    assert "y: 7 of 60 items were not judged" in report.notes
    assert report.summary["x"]["rate"].n == 55
    verdicts.length[:60] = np.nan
    report = summarise(verdicts, **FAST)
    assert "x: 60 of 60 pairs have no texts, so no lengths" in report.notes
    assert "length_controlled" not in report.summary["x"]
    assert "length_controlled" in report.summary["y"]


@pytest.mark.parametrize("points", [[], [1.0], [math.nan], [1.0, 1.0, 1.0], [0.0, math.nan]])
def test_little_and_one_sided(points):
    n = len(points)
    nothing = np.full(n, np.nan)
    lengths = np.arange(float(n))
    names = [[f"i{i}" for i in range(n)], ["x"] * n, ["base"] * n, [""] * n]
    report = summarise(Verdicts(*names, np.array(points), nothing, nothing, lengths, lengths, nothing), **FAST)
    if points:
        found = report.summary["x"]["rate"]
        assert found.n == sum(not math.isnan(p) for p in points)
    if points == [1.0, 1.0, 1.0]:
        assert any("never" in note for note in report.notes)
        assert math.isfinite(report.summary["x"]["elo"].value)


def test_several_baselines_and_judges_have_names_of_their_own():
    one, two = made(judges=("a", "b")), made(judges=("a", "b"), baseline="other", seed=1)
    joined = Verdicts(*(getattr(one, k) + getattr(two, k) for k in ("item", "model", "baseline", "judge")),
                      *(np.concatenate([getattr(one, k), getattr(two, k)]) for k in
                        ("points", "straight", "swapped", "length", "baseline_length", "lists")))  # fmt: skip
    report = summarise(joined, **FAST)
    assert {"x against base, judged by a", "y against other, judged by b", "x, judged by a"} <= set(report.summary)
    assert {"judge a", "judge b", "judges a and b"} <= set(report.summary)
    assert report.summary["judges a and b"]["agreement"].n == 240


def test_a_judge_that_is_a_model_beside_other_judges():
    verdicts = made(judges=("x", "a"))
    mine = np.array([m == "x" and j == "x" for m, j in zip(verdicts.model, verdicts.judge)])
    theirs = np.array([m == "x" and j == "a" for m, j in zip(verdicts.model, verdicts.judge)])
    verdicts.points[mine], verdicts.points[theirs] = 1.0, 0.5
    report = summarise(verdicts, **FAST)
    assert report.summary["judge x"]["self_preference"].value == pytest.approx(0.5)
    assert "self_preference" not in report.summary["judge a"]


def test_beside_people_in_either_order_of_the_models():
    judge = made(models=("x", "y", "z"))
    people = made(models=("x", "y", "z"), judges=("p", "q"), seed=5)
    points = dict(zip(zip(judge.item, judge.model), judge.points))
    people.points[:] = [points[key] for key in zip(people.item, people.model)]
    found = summarise(judge, people=people, **FAST)
    axes = found.summary["judge"]
    assert axes["with_people"].value == axes["with_majority"].value == axes["among_people"].value == 1
    assert axes["kappa"].value == pytest.approx(1)
    assert axes["spearman"].value == pytest.approx(1)
    assert "judge: 180 of 180 pairs were judged by people, too" in found.notes
    swapped = replace(people, model=people.baseline, baseline=people.model, points=1 - people.points)
    assert repr(summarise(judge, people=swapped, **FAST).summary["judge"]) == repr(axes)
    strangers = made(models=("u",), judges=("p",))
    assert "0 of 180 pairs were judged by people" in summarise(judge, people=strangers, **FAST).notes[-1]


def reference_of(verdicts):
    rng = np.random.default_rng(0)
    part = verdicts.baseline_length[:60]
    return LengthReference(rng.normal(size=60), part, part - 10, part + 200, (-1.0, 1.0))


def test_a_reference_is_joined_by_item():
    verdicts = made()
    verdicts.baseline_length[60:] = verdicts.baseline_length[:60]
    reference = reference_of(verdicts)
    assert reference_places(verdicts, reference) == {f"i{i}": i for i in range(60)}
    kept = np.ones(120, dtype=bool)
    kept[60:65] = False
    report = summarise(verdicts.where(kept), reference=reference, **FAST)
    assert report.summary["y"]["length_controlled"].n == 55
    with pytest.raises(DataError, match="no model has all 60 items"):
        summarise(verdicts.where(np.arange(120) >= 65), reference=reference, **FAST)
    verdicts.item[70] = "stranger"
    with pytest.raises(DataError, match="item stranger is none of the reference's"):
        summarise(verdicts, reference=reference, **FAST)


def test_alpaca_eval(shared_data):
    folder = shared_data / "alpaca_eval"
    verdicts = read_verdicts(str(folder / "preferences.jsonl.gz"))
    report = summarise(verdicts, reference=LengthReference.read(folder / "lc_reference.csv"), resamples=20)
    rates = {
        "alpaca-7b": 5.875,
        "claude": 27.244,
        "text_davinci_001": 6.478,
        "text_davinci_003": 4.579,
        "vicuna-7b": 6.277,
    }
    for name, rate in rates.items():
        assert 100 * report.summary[name]["length_controlled"].value == pytest.approx(rate, abs=0.001)
    assert "text_davinci_001: 2 of 805 items were not judged" in report.notes


def test_ten_thousand_verdicts_take_seconds():
    verdicts = made(n=2000, models=("a", "b", "c", "d", "e"), strength=0.9)
    start = time.process_time()
    summarise(verdicts)
    assert time.process_time() - start < 5


def test_figures_of_nothing_and_of_strange_names():
    nan = Estimate(math.nan, math.nan, math.nan, 0)
    svgs = [
        leaderboard({}, [], label="win rate"),
        leaderboard({"as <judged>": {"a&b": nan}}, ["a&b"], label="win rate"),
        fits({}, {}, x="x", y="y"),
        fits({"a&b": ([0, 1], [0.1, 0.2])}, {}, x="x", y="y"),
        matrix(np.array([[math.nan]]), ["a&b"], label="in %"),
    ]
    for svg in svgs:
        assert ET.fromstring(svg).get("role") == "img"
        assert not re.findall(r"(?:fill|stroke): ?#[0-9a-f]{6}", re.sub(r"var\(--[\w-]+, #[0-9a-f]{6}\)", "", svg))
    assert "a&amp;b" in svgs[1]
