"""Figures: well-formed, themed, escaped, the same bytes each time."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import matplotlib
import numpy as np

from fairlead.estimates import Estimate
from fairlead.figures import THEME, curves, distribution, intervals, shares

NAN = float("nan")
SUMMARY = {
    "a<b>": {"x": Estimate(1.0, 0.5, 1.5, 9), "y": Estimate(-1.0, -2.0, 0.0, 9)},
    "c & d": {"x": Estimate(NAN, NAN, NAN, 0), "y": Estimate(2.0, NAN, NAN, 1)},
}


def every_figure() -> list[str]:
    return [
        intervals(SUMMARY, ["x", "y", "absent"], label="mean <reward>"),
        distribution({"a": [1, 2, 2], "b": [], "c": [NAN]}, label="words", unit="share"),
        distribution({"a": list(np.linspace(0, 1, 50))}, label="value", unit="share"),
        distribution({}, label="nothing", unit="share"),
        shares({"a": {"won": 0.5, "tied": 0.2, "lost": 0.3}, "b": {"won": NAN, "tied": NAN, "lost": NAN}}, label="s"),
        curves({"loss": ([1, 2, 3], [3.0, NAN, 1.0])}, x="step", y="loss"),
        curves({"a": ([1], [1.0]), "b": ([], [])}, x="step", y="KL"),
    ]


def test_every_figure_is_well_formed_and_holds_text():
    for svg in every_figure():
        root = ET.fromstring(svg)
        assert root.get("role") == "img"
        assert root.get("aria-label")
        assert root.findall(".//{*}text")


def test_names_are_escaped():
    svg = every_figure()[0]
    assert "a&lt;b&gt;" in svg
    assert "c &amp; d" in svg


def test_every_colour_is_a_variable_of_the_theme():
    for svg in every_figure():
        bare = re.sub(r"var\(--[\w-]+, #[0-9a-f]{6}\)", "", svg)
        assert not re.findall(r"(?:fill|stroke): ?#[0-9a-f]{6}", bare)
        assert set(re.findall(r"var\(--([\w-]+), #", svg)) <= set(THEME)


def test_equal_input_gives_equal_bytes_and_no_global_state():
    before = dict(matplotlib.rcParams)
    assert every_figure() == every_figure()
    assert dict(matplotlib.rcParams) == before


def test_a_subject_keeps_its_colour_when_others_are_left_out():
    full = distribution({"a": [1.0], "b": [2.0]}, label="x", unit="u")
    part = distribution({"b": [2.0]}, label="x", unit="u", order=["a", "b"])
    assert "--series-2" in full
    assert "--series-2" in part
    assert "--series-1" not in part
