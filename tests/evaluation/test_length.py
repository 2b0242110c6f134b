"""Lengths of answers against their expected values."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from known import BASE, END, Unigram, rows

from fairlead.engines.base import Sampling
from fairlead.evaluation.length import Length


def test_lengths_meet_the_expected_ones():
    report = Length(Sampling(max_tokens=60))({"base": BASE}, rows(600))
    found = report.summary["base"]
    assert found["tokens"].value == pytest.approx(5.0, abs=0.5)  # the end comes with chance 1/5
    assert found["words"].value == pytest.approx(found["tokens"].value - 1)
    assert found["empty"].value == pytest.approx(0.2, abs=0.05)
    assert found["cut"].value == 0
    assert found["cut"].high > 0


def test_a_cut_answer_is_counted_as_cut():
    endless = Unigram({"aye": 1.0, END: 1e-12})
    report = Length(Sampling(max_tokens=3))({"endless": endless}, rows(4))
    assert report.summary["endless"]["cut"].value == 1
    assert {row["finish_reason"] for row in report.rows} == {"length"}
    assert {row["tokens"] for row in report.rows} == {3}


@dataclass(frozen=True)
class Wordy(Unigram):
    def generate(self, prompts, sampling):
        return [[replace(c, token_ids=None) for c in group] for group in super().generate(prompts, sampling)]


def test_an_engine_that_hides_its_tokens_is_noted():
    report = Length(Sampling(max_tokens=20))({"server": Wordy(BASE.weights)}, rows(7))
    assert math.isnan(report.summary["server"]["tokens"].value)
    assert np.isfinite(report.summary["server"]["words"].value)
    assert "7 answers" in report.notes[0]
