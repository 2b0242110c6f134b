"""Win rates against a baseline: points, ties, margins and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from known import BASE, END, TUNED, Count, Silent, Unigram, rows

from fairlead.engines.base import Sampling
from fairlead.errors import UnknownNameError, UsageError
from fairlead.evaluation.win_rate import WinRate

SAMPLED = Sampling(max_tokens=30)


def test_points_follow_the_rewards_of_each_pair():
    report = WinRate(Count("aye"), "base", sampling=SAMPLED)({"base": BASE, "tuned": TUNED}, rows(200))
    for row in report.rows:
        assert row["margin"] == row["reward"] - row["baseline_reward"]
        assert row["rate"] == 0.5 + 0.5 * np.sign(row["margin"])
    found = report.summary["tuned"]
    assert list(report.summary) == ["tuned"]
    assert found["rate"].value == pytest.approx(np.mean([row["rate"] for row in report.rows]))
    assert found["rate"].value == pytest.approx(found["wins"].value + found["ties"].value / 2)
    assert found["wins"].value + found["ties"].value + found["losses"].value == pytest.approx(1)
    assert found["rate"].low > 0.5


def test_an_engine_ties_with_its_double():
    report = WinRate(Count("aye"), "base")({"base": BASE, "double": BASE}, rows(30))
    assert report.summary["double"]["rate"].value == 0.5
    assert report.summary["double"]["ties"].value == 1.0


def test_the_tie_margin_widens_ties():
    engines = {"base": BASE, "tuned": TUNED}
    strict, wide = (WinRate(Count("aye"), "base", m, SAMPLED)(engines, rows(100)) for m in (0.0, 1.0))
    near = sum(abs(row["margin"]) <= 1 for row in strict.rows)
    assert wide.summary["tuned"]["ties"].value == near / 100 > strict.summary["tuned"]["ties"].value


def test_always_winning_is_one_with_an_open_interval():
    mute = Unigram({"nay": 1.0, END: 1.0})
    loud = Unigram({"aye": 99.0, "nay": 1.0, END: 1.0})
    report = WinRate(Count("aye"), "mute")({"mute": mute, "loud": loud}, rows(20))
    rate = report.summary["loud"]["rate"]
    assert rate.value == rate.high == 1.0
    assert 0.8 < rate.low < 1.0


def test_silence_on_either_side_is_no_comparison():
    report = WinRate(Silent(), "base")({"base": BASE, "tuned": TUNED}, rows(5))
    assert math.isnan(report.summary["tuned"]["rate"].value)
    assert report.rows[0]["outcome"] is None
    assert "5 of 5" in report.notes[0]


def test_what_cannot_be_compared_is_an_error():
    with pytest.raises(UnknownNameError, match="base"):
        WinRate(Silent(), "bass")({"base": BASE, "tuned": TUNED}, rows(2))
    with pytest.raises(UsageError, match="compare"):
        WinRate(Silent(), "base")({"base": BASE}, rows(2))
    with pytest.raises(UsageError, match="tie_margin"):
        WinRate(Silent(), "base", tie_margin=-1)
