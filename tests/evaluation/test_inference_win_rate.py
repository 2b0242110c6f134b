"""Win rates of one draw and of the best and worst of n: exact ones met, ranks, KL, ties, and what is refused."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from known import BASE, TUNED, Count, Row, Silent, rows

from fairlead.engines.base import Sampling
from fairlead.errors import UnknownNameError, UsageError
from fairlead.evaluation.inference_win_rate import InferenceWinRate
from fairlead.theory.win_rates import finite_win_rate, sample_win_rate

SAMPLED = Sampling(max_tokens=1, n=8)
"""One word each: TUNED says aye, nay and nothing with chances .6, .2, .2; BASE with .4, .4, .2."""
CHANCES = {"tuned": (0.4, 0.6), "base": (0.6, 0.4)}


def found(engines, count=300, **changes):
    return InferenceWinRate(Count("aye"), "base", sampling=SAMPLED, **changes)(engines, rows(count))


def test_win_rates_are_those_of_the_distributions():
    report = found({"base": BASE, "tuned": TUNED}, draws=(2, 3))
    axes = report.summary["tuned"]
    for axis, n, keep in (
        ("standard", 1, "best"),
        ("best_of_2", 2, "best"),
        ("best_of_3", 3, "best"),
        ("worst_of_2", 2, "worst"),
        ("worst_of_3", 3, "worst"),
    ):
        exact = finite_win_rate(CHANCES["tuned"], CHANCES["base"], (0, 1), n, keep=keep)
        assert axes[axis].low - 0.01 < exact < axes[axis].high + 0.01, axis
        assert axes[axis].high - axes[axis].low < 0.1
    assert axes["ties"].value == pytest.approx(0.48, abs=0.02)
    assert axes["rank"].value == pytest.approx(axes["standard"].value)
    exact = 0.6 * math.log(0.6 / 0.4) + 0.2 * math.log(0.2 / 0.4)
    assert axes["kl"].low < exact < axes["kl"].high
    assert list(report.figures) == ["rank", "best of 3 by KL", "worst of 3 by KL"]


def test_a_row_is_the_estimate_of_its_prompt():
    report = InferenceWinRate(Count("aye"), "base", sampling=Sampling(max_tokens=9, n=6))(
        {"base": BASE, "tuned": TUNED}, rows(5)
    )
    for row, record in zip(report.rows, rows(5), strict=True):
        ours, theirs = (
            [
                answer.text.split().count("aye")
                for answer in engine.generate([record.prompt], Sampling(max_tokens=9, n=6, seed=seed))[0]
            ]
            for engine, seed in ((TUNED, 0), (BASE, 1))
        )
        assert row["best_of_4"] == pytest.approx(sample_win_rate(ours, theirs, 4))
        assert row["worst_of_2"] == pytest.approx(sample_win_rate(ours, theirs, 2, keep="worst"))
        assert row["ties"] == pytest.approx(np.mean([a == b for a in ours for b in theirs]))


def test_a_double_of_the_base_wins_half():
    axes = found({"base": BASE, "double": BASE}, 150).summary["double"]
    for axis in ("standard", "best_of_4", "worst_of_4", "rank"):
        assert axes[axis].low - 0.02 < 0.5 < axes[axis].high + 0.02
    assert axes["kl"].value == pytest.approx(0)


def rollouts(folder, records, engine, n=40):
    sampling = Sampling(max_tokens=9, n=n, seed=7)
    said = engine.generate([record.prompt for record in records], sampling)
    lines = [
        {"id": f"{record.id}-{i}", "prompt": record.prompt, "completion": f"{answer.text} ."}
        for record, group in zip(records, said)
        for i, answer in enumerate(group)
    ]
    path = folder / "rollouts.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return str(path)


def test_rollouts_of_the_base_are_told_from_others(tmp_path):
    records = [Row(str(i), f"question {i}") for i in range(60)]
    gaps = {}
    for name, engine in {"base": BASE, "other": TUNED}.items():
        (tmp_path / name).mkdir()
        path = rollouts(tmp_path / name, records, engine)
        sampling = Sampling(max_tokens=9, n=10)
        report = InferenceWinRate(Count("aye"), "base", sampling=sampling, rollouts=path)(
            {"base": BASE, "tuned": TUNED}, records
        )
        gaps[name] = report.summary["base"]["uniform_distance"].value
        if name == "base":
            assert report.summary["base"]["rank"].value == pytest.approx(0.5, abs=0.05)
            assert report.summary["tuned"]["rank"].value > 0.6
            assert 0 < report.summary["tuned"]["saturated"].value < 0.5
    assert gaps["base"] < 0.08 < 0.12 < gaps["other"]


def test_the_kl_of_shaped_draws_is_not_known():
    evaluator = InferenceWinRate(Count("aye"), "base", sampling=Sampling(max_tokens=5, n=4, temperature=0.7))
    report = evaluator({"base": BASE, "tuned": TUNED}, rows(4))
    assert "kl" not in report.summary["tuned"]
    assert "temperature" in report.notes[0]
    assert list(report.figures) == ["rank"]


def test_answers_without_a_reward_are_left_out_and_counted():
    report = InferenceWinRate(Count("aye", silent="nay"), "base", sampling=Sampling(max_tokens=3, n=8))(
        {"base": BASE, "tuned": TUNED}, rows(40)
    )
    assert "have no reward" in report.notes[0]
    assert 0 < report.summary["tuned"]["best_of_4"].n < report.summary["tuned"]["standard"].n <= 40
    silent = InferenceWinRate(Silent(), "base", sampling=SAMPLED)({"base": BASE, "tuned": TUNED}, rows(3))
    assert math.isnan(silent.summary["tuned"]["best_of_4"].value)


def test_what_cannot_be_measured_is_an_error():
    with pytest.raises(UnknownNameError, match="base"):
        InferenceWinRate(Silent(), "bass")({"base": BASE, "tuned": TUNED}, rows(2))
    for bad, what in (
        ({"draws": ()}, "draws"),
        ({"draws": (1,)}, "draws"),
        ({"draws": (99,)}, "too few"),
        ({"sampling": Sampling(temperature=0, n=8)}, "greedy"),
    ):
        with pytest.raises(UsageError, match=what):
            InferenceWinRate(Silent(), "base", **bad)
