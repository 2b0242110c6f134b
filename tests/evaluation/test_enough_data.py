"""Scores over data: the curve through engines, the prediction of those held out, and what gives no curve."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
from known import Row

from fairlead.engines.base import Completion, FinishReason
from fairlead.errors import UnknownNameError, UsageError
from fairlead.evaluation.enough_data import EnoughData

RECORDS = [Row(f"r{i}", [{"role": "user", "content": f"question {i}"}], extra={}) for i in range(4)]
LENGTH = {"name": "length_limit", "at_least": 100000}
"""Words / 100,000."""


@dataclass(frozen=True)
class Writer:
    """Answers everything with the given number of words."""

    words: int
    answer: Completion = field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "answer", Completion("a " * self.words, None, None, FinishReason.STOP))

    def generate(self, prompts, sampling):
        return [[self.answer] for _ in prompts]


def trained(n: float) -> Writer:
    return Writer(round(9000 - 8000 * math.exp(-n / 100) + 40 * math.cos(n)))


SIZES = {"n0": 0, "n25": 25, "n50": 50, "n100": 100, "n200": 200, "n400": 400}
ENGINES = {name: trained(n) for name, n in SIZES.items()}


@pytest.fixture(scope="module")
def found():
    engines = ENGINES | {"all": trained(1600), "off": Writer(4000), "other": Writer(10)}
    return EnoughData(SIZES, LENGTH, held_out={"all": 1600, "off": 1600})(engines, RECORDS)


def test_the_curve_and_what_is_enough(found):
    fit = found.summary["fit"]
    assert fit["plateau"].value == 1
    assert fit["ceiling"].value == pytest.approx(0.09, abs=0.001)
    assert fit["rate"].value == pytest.approx(0.01, rel=0.05)
    assert fit["rate"].low < fit["rate"].value < fit["rate"].high
    assert fit["enough"].value == pytest.approx(300, rel=0.06)
    assert fit["half"].value == pytest.approx(100 * math.log(2), rel=0.06)
    assert "<svg" in found.figures["reward by records"]


def test_held_out_engines_are_predicted(found):
    assert found.summary["all"]["inside"].value == 1
    assert found.summary["off"]["inside"].value == 0
    assert found.summary["all"]["predicted"].low < 0.09 < found.summary["all"]["predicted"].high
    assert found.summary["other"].keys() == {"reward"}
    assert len(found.rows) == 9 * 4 + 1
    assert any(note.startswith("off (1600 records): predicted 0.0") for note in found.notes)


def test_too_few_sizes_are_noted_and_claim_nothing():
    few = dict(list(SIZES.items())[:3])
    report = EnoughData(few, LENGTH)(ENGINES, RECORDS)
    assert report.summary["fit"].keys() == {"plateau"}
    assert report.summary["fit"]["plateau"].value == 0
    assert "3 trainings" in report.notes[0]


def test_a_line_has_no_ceiling():
    engines = {name: Writer(round(10 * n)) for name, n in SIZES.items()}
    fit = EnoughData(SIZES, LENGTH)(engines, RECORDS).summary["fit"]
    assert fit["plateau"].value == 0
    assert np.isnan([fit["ceiling"].value, fit["enough"].value]).all()


def test_names_and_fields():
    with pytest.raises(UnknownNameError, match="n1000"):
        EnoughData({"n1000": 1000}, LENGTH)(ENGINES, RECORDS)
    with pytest.raises(UsageError, match="both fitted and held out"):
        EnoughData({"a": 1}, LENGTH, held_out={"a": 1})
    with pytest.raises(UsageError, match="has -1 records"):
        EnoughData({"a": -1}, LENGTH)
    with pytest.raises(UsageError, match="share"):
        EnoughData({"a": 1}, LENGTH, share=1.0)
    with pytest.raises(UsageError, match="called 'fit'"):
        EnoughData({"fit": 1}, LENGTH)({"fit": Writer(1)}, RECORDS)
