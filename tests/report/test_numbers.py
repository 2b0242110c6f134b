"""How numbers, times, sizes, hashes and settings are written."""

from __future__ import annotations

import math

import pytest

from fairlead.estimates import Estimate
from fairlead.report.numbers import brief, count, duration, interval, moment, number, setting, short, signed, size


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.9333, "0.933"), (-1.0, "-1.000"), (12.345, "12.35"), (123.45, "123.5"), (12345.6, "12,346"), (3200, "3,200"),
     (2e-4, "2.0e-04"), (0.0, "0.000"), (math.nan, "–"), (None, "–"), (True, "–"), ("x", "–"), (math.inf, "inf")],
)  # fmt: skip
def test_number(value, text):
    assert number(value) == text


def test_counts_are_whole_and_briefs_short():
    assert [count(v) for v in (800.0, 0.5, None)] == ["800", "0.500", "–"]
    assert [brief(v) for v in (1.0, 0.71, 1.2345)] == ["1", "0.71", "1.23"]


def test_differences_bear_their_sign():
    assert [signed(v) for v in (0.5, -0.25, 0.0)] == ["+0.500", "−0.250", "+0.000"]
    assert signed(math.nan) == "–"


def test_intervals():
    assert interval(Estimate(0.5, 0.25, 0.75, 9)) == "0.250 to 0.750"
    assert interval(Estimate(0.5, math.nan, math.nan, 1)) == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(7.84, "7.8 s"), (59.4, "59.4 s"), (125, "2 min 05 s"), (3725, "1 h 02 min"), (None, "–")]
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_moments_sizes_and_hashes():
    assert moment("2026-11-21T09:02:11+00:00") == "2026-11-21 09:02 UTC"
    assert moment(None) == "–"
    assert [size(v) for v in (512, 1536, 25276502016, None)] == ["512 B", "1.5 KiB", "23.5 GiB", "–"]
    assert short("0123456789abcdef") == "0123456789ab"
    assert short(None) == "–"


def test_settings():
    found = {"beta": 0.1, "on": True, "none": None, "betas": [0.9, 0.99]}
    assert setting(found) == "beta: 0.1, on: yes, none: –, betas: 0.9, 0.99"
