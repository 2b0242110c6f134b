"""Figures of verdicts: a leaderboard of dots with intervals, curves with what they fit, and who beats whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from fairlead.estimates import Estimate
from fairlead.figures import THEME, Canvas, add_legend, colour_of

__all__ = ["fits", "leaderboard", "matrix"]

_ROOM = 0.11


def leaderboard(series: Mapping[str, Mapping[str, Estimate]], subjects: Sequence[str], *, label: str) -> str:
    """Draw one row per subject, best first, with a dot and its interval per series: name -> subject -> estimate."""
    step = 0.5 / max(1, len(series))
    with Canvas(0.75 + len(subjects) * (0.14 + _ROOM * len(series)), label) as canvas:
        plot = canvas.plot
        for k, (name, found) in enumerate(series.items()):
            kept = [(i, found[s]) for i, s in enumerate(subjects) if s in found and np.isfinite(found[s].value)]
            places = [i + step * (k - (len(series) - 1) / 2) for i, _ in kept]
            colour = colour_of(k + 1)
            plot.hlines(places, [e.low for _, e in kept], [e.high for _, e in kept], color=colour, linewidth=1.6)
            plot.plot([e.value for _, e in kept], places, "o", color=colour, markersize=4.5, label=name)
        plot.set_yticks(range(len(subjects)), list(subjects))
        plot.tick_params(axis="y", labelcolor=THEME["ink"])
        plot.set_ylim(max(1, len(subjects)) - 0.5, -0.5)
        plot.axvline(0.5, color=THEME["ink"], linewidth=0.8, linestyle=(0, (3, 3)))
        plot.set_xlim(left=0)
        plot.grid(axis="y", visible=False)
        plot.set_xlabel(label)
        add_legend(canvas.figure, plot)
        return canvas.svg()


def fits(
    lines: Mapping[str, tuple[ArrayLike, ArrayLike]],
    dots: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    x: str,
    y: str,
) -> str:
    """Draw a curve per subject, name -> (x, y), and what it was fitted to as dots of its colour."""
    with Canvas(2.4, f"{y} by {x}") as canvas:
        plot = canvas.plot
        for i, (name, (along, up)) in enumerate(lines.items()):
            plot.plot(along, up, color=colour_of(i + 1), linewidth=1.5, label=name)
            if name in dots:
                plot.plot(*dots[name], "o", color=colour_of(i + 1), markersize=3, alpha=0.75)
        plot.axvline(0, color=THEME["ink"], linewidth=0.8, linestyle=(0, (3, 3)))
        plot.margins(x=0.02)
        plot.set_xlabel(x)
        plot.set_ylabel(y)
        add_legend(canvas.figure, plot)
        return canvas.svg()


def matrix(rates: np.ndarray, names: Sequence[str], *, label: str) -> str:
    """Draw shares [K, K] in [0, 1], row against column, as a grid of numbers; NaN is empty."""
    size = len(names)
    with Canvas(0.9 + 0.27 * size, label) as canvas:
        plot = canvas.plot
        for i in range(size):
            for j in range(size):
                if i == j or not np.isfinite(rates[i, j]):
                    continue
                tone = THEME["good"] if rates[i, j] > 0.5 else THEME["bad"] if rates[i, j] < 0.5 else THEME["even"]
                depth = 0.08 + 0.55 * abs(2 * rates[i, j] - 1)
                plot.fill([j - 0.47, j + 0.47, j + 0.47, j - 0.47], [i - 0.46, i - 0.46, i + 0.46, i + 0.46],
                          color=tone, alpha=depth, linewidth=0)  # fmt: skip
                plot.text(j, i, f"{100 * rates[i, j]:.0f}", ha="center", va="center", color=THEME["ink"], fontsize=8)
        plot.set_yticks(range(size), list(names))
        plot.set_xticks(range(size), list(names), rotation=35, ha="right", rotation_mode="anchor")
        plot.tick_params(labelcolor=THEME["ink"])
        plot.set_xlim(-0.5, size - 0.5)
        plot.set_ylim(size - 0.5, -0.5)
        plot.grid(visible=False)
        plot.set_title(label, fontsize=9, color=THEME["soft"])
        return canvas.svg()
