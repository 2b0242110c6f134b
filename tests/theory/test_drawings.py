"""Figures of the theory hold the lines that they promise, and the same bytes each time."""

from __future__ import annotations

import numpy as np
import pytest
from finite_problems import P, R

from fairlead.theory import drawings
from fairlead.theory.audit import audit_groups
from fairlead.theory.samples import tilt_curve


def frontier(kl=1.0):
    return drawings.draw_frontier(P, R, kl=kl, marks={"mine": (0.3, 1.6)})


def estimates():
    rewards = np.random.default_rng(0).choice(R, p=P, size=(20, 64))
    return drawings.draw_estimates({"best of N": ([0.0, 0.5], [0.8, 1.9])}, tilt_curve(rewards))


def gaps():
    found = audit_groups([1.0, 0.0] * 20, ["a", "b"] * 20, [f"p{i}" for i in range(40)])
    return drawings.draw_gaps(found)


FIGURES = {
    "frontier": (frontier, ("tilt", "best of N", "mine")),
    "frontier to the end": (lambda: frontier(2.302585), ("tilt", "best of N")),
    "rate": (lambda: drawings.draw_rate(P, R, 0.5), ("rate (nats)",)),
    "estimates": (estimates, ("tilt", "best of N")),
    "gaps": (gaps, (">a<", ">b<")),
    "amplification": (lambda: drawings.draw_amplification([0.51, 0.7]), ("51%", "70%")),
    "poisoning": (lambda: drawings.draw_poisoning(0.6, 0.1), ("replaced", "flipped", "noise")),
    "cost": (lambda: drawings.draw_cost([0.01, 0.1], 0.01, 1e6, budget=70, most=90), ("epsilon 0.01", "budget")),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_names_its_lines(name):
    draw, names = FIGURES[name]
    svg = draw()
    assert svg.startswith("<svg")
    assert all(text in svg for text in names)
    assert "nan" not in svg.lower()


def test_equal_input_gives_equal_bytes():
    assert frontier() == frontier()
