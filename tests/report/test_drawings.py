"""Curves out of metrics, and figures made safe to stand inline."""

from __future__ import annotations

import re

from fairlead.report.drawings import inline, training_panels


def lines(count: int) -> list[dict]:
    return [{"step": t + 1, "loss": float(t), "tokens": 8, "note": "text", "grad_norm": None} for t in range(count)]


def test_every_number_gets_a_panel_in_order():
    history = [{"step": 1, "margin": 0.5, "tokens": 9, "loss": 1.0, "learning_rate": 0.1}]
    assert [p.title for p in training_panels(history)] == ["loss", "learning rate", "margin", "tokens"]
    assert [p.title for p in training_panels(lines(3))] == ["loss", "tokens"]


def test_held_out_values_join_their_panel_or_stand_alone():
    history = [*lines(3), {"step": 3, "split": "evaluation", "loss": 0.7, "accuracy": 0.9}]
    panels = {p.title: p.svg for p in training_panels(history)}
    assert "held-out" in panels["loss"]
    assert "accuracy, held-out" in panels


def test_long_runs_are_drawn_as_means_and_say_so():
    short, long = training_panels(lines(400))[0], training_panels(lines(10_000))[0]
    assert short.title == "loss"
    assert long.title == "loss (means of 25 steps)"
    assert len(long.svg) < 2 * len(short.svg)


def test_no_history_has_no_panels():
    assert training_panels([]) == []


def test_ids_get_their_prefix_everywhere():
    svg = training_panels(lines(3))[0].svg
    safe = inline(svg, "here")
    assert safe is not None
    assert set(re.findall(r'\bid="(.*?)"', safe)) == {f"here-{name}" for name in re.findall(r'\bid="(.*?)"', svg)}
    assert all(name.startswith("here-") for name in re.findall(r"url\(#(.*?)\)", safe))
