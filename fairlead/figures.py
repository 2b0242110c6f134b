"""Figures as SVG text: one palette, light and dark, no window system.

Every colour is written as a CSS variable with a fallback (`var(--series-2, #2f6fb3)`), so that a file looks right by
itself and takes the page's theme where it is put into one. Text stays text. Equal input gives equal bytes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import ArrayLike

from fairlead.estimates import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "PALETTE",
    "THEME",
    "Canvas",
    "add_legend",
    "colour_of",
    "curves",
    "distribution",
    "intervals",
    "shares",
]

PALETTE = ("#7d8ba1", "#2f6fb3", "#e08a2e", "#1f9e89", "#b5528f", "#7160c4", "#8f6f45", "#c64b4b")
"""Colours of the subjects in their order; a ninth starts again."""

THEME = {
    "ink": "#1e2a3a",
    "soft": "#5d6b7e",
    "grid": "#dde3ea",
    "good": "#2a9d6e",
    "even": "#c3ccd6",
    "bad": "#cf5c4f",
    **{f"series-{i + 1}": colour for i, colour in enumerate(PALETTE)},
}
"""CSS variable -> its light colour; every colour of every figure is one of these."""

_WIDTH = 4.6
_LEGEND_LETTERS = 13  # per inch
_JOINS = "stroke-linejoin: round; stroke-linecap: butt"
_STYLE = {
    "svg.fonttype": "none",
    "font.size": 9.0,
    "text.color": THEME["ink"],
    "axes.edgecolor": THEME["grid"],
    "axes.labelcolor": THEME["soft"],
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "grid.color": THEME["grid"],
    "grid.linewidth": 0.8,
    "xtick.color": THEME["grid"],
    "ytick.color": THEME["grid"],
    "xtick.labelcolor": THEME["soft"],
    "ytick.labelcolor": THEME["soft"],
    "ytick.major.size": 0,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


def intervals(
    summary: Mapping[str, Mapping[str, Estimate]],
    axes: Sequence[str],
    *,
    label: str,
    order: Sequence[str] | None = None,
) -> str:
    """Draw horizontal bars with their intervals, grouped by axis, one colour per subject.

    `order` lists all subjects where some are left out here, so that each keeps its colour.
    """
    subjects, order = list(summary), list(order or summary)
    thick = 0.8 / max(1, len(subjects))
    with Canvas(0.5 + 0.03 * len(subjects) + len(axes) * (0.16 + 0.17 * len(subjects)), label) as canvas:
        plot = canvas.plot
        for i, subject in enumerate(subjects):
            found = [summary[subject].get(axis) for axis in axes]
            places = np.arange(len(axes)) - 0.4 + thick * (i + 0.5)
            kept = [(place, e) for place, e in zip(places, found) if e is not None and np.isfinite(e.value)]
            heights = [e.value for _, e in kept]
            plot.barh([p for p, _ in kept], heights, thick * 0.86, color=colour_of(order.index(subject)), label=subject)
            whiskers = [(p, e) for p, e in kept if np.isfinite(e.low) and np.isfinite(e.high)]
            plot.hlines([p for p, _ in whiskers], [e.low for _, e in whiskers], [e.high for _, e in whiskers],
                        color=THEME["ink"], linewidth=1.1)  # fmt: skip
        plot.axvline(0, color=THEME["soft"], linewidth=0.8)
        plot.set_yticks(range(len(axes)), [axis.replace("_", " ") for axis in axes])
        plot.tick_params(axis="y", labelcolor=THEME["ink"])
        plot.set_ylim(len(axes) - 0.4, -0.6)
        plot.grid(axis="y", visible=False)
        plot.set_xlabel(label)
        add_legend(canvas.figure, plot)
        return canvas.svg()


def distribution(
    values: Mapping[str, Sequence[float]], *, label: str, unit: str, order: Sequence[str] | None = None
) -> str:
    """Draw one histogram strip per subject over common bins, each scaled to its highest bar.

    `order` lists all subjects where some are left out here, so that each keeps its colour.
    """
    order = list(order or values)
    present = [float(v) for found in values.values() for v in found if v is not None and np.isfinite(v)]
    edges = _bins(present)
    with Canvas(0.5 + 0.52 * max(1, len(values)), f"{label}: {unit}") as canvas:
        plot = canvas.plot
        for i, (name, found) in enumerate(values.items()):
            counts, _ = np.histogram([v for v in found if v is not None and np.isfinite(v)], edges)
            heights = 0.82 * counts / max(1, counts.max())
            foot = np.full(len(heights), float(len(values) - 1 - i))
            plot.bar(
                edges[:-1],
                heights,
                np.diff(edges) * 0.94,
                bottom=foot,
                align="edge",
                color=colour_of(order.index(name)),
            )
            plot.axhline(foot[0], color=THEME["grid"], linewidth=0.8)
        plot.set_yticks(np.arange(len(values))[::-1] + 0.3, list(values))
        plot.tick_params(axis="y", labelcolor=THEME["ink"])
        plot.set_ylim(-0.05, max(1, len(values)))
        plot.grid(axis="y", visible=False)
        plot.set_xlabel(f"{label} (height: {unit})")
        return canvas.svg()


def shares(parts: Mapping[str, Mapping[str, float]], *, label: str) -> str:
    """Draw one stacked bar per subject out of its shares in [0, 1], such as won, tied and lost."""
    names = list(next(iter(parts.values()), {}))
    tones = [THEME["good"], THEME["even"], THEME["bad"]]
    with Canvas(0.75 + 0.36 * max(1, len(parts)), label) as canvas:
        plot = canvas.plot
        left = np.zeros(len(parts))
        for name, tone in zip(names, tones):
            widths = np.nan_to_num([found[name] for found in parts.values()])
            plot.barh(range(len(parts)), widths, 0.62, left=left, color=tone, label=name)
            left = left + widths
        plot.set_yticks(range(len(parts)), list(parts))
        plot.tick_params(axis="y", labelcolor=THEME["ink"])
        plot.set_ylim(len(parts) - 0.5, -0.5)
        plot.set_xlim(0, 1)
        plot.axvline(0.5, color=THEME["ink"], linewidth=0.8, linestyle=(0, (3, 3)))
        plot.grid(axis="y", visible=False)
        plot.set_xlabel(label)
        add_legend(canvas.figure, plot)
        return canvas.svg()


def curves(
    lines: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    x: str,
    y: str,
    size: tuple[float, float] = (_WIDTH, 2.0),
    order: Sequence[str] | None = None,
    labelled: bool = True,
) -> str:
    """Draw lines, name -> (x values, y values); several lines get a legend, a single point gets a dot.

    `order` lists all subjects where some are left out here, so that each keeps its colour. `labelled` tells whether
    the y axis bears its name, which a caption may already give; `size` is width and height in inches.
    """
    order = list(order or lines)
    with Canvas(size[1], f"{y} by {x}", size[0]) as canvas:
        plot = canvas.plot
        for name, (along, up) in lines.items():
            marker = "o" if np.size(along) < 2 else None
            plot.plot(
                along, up, color=colour_of(order.index(name)), linewidth=1.4, marker=marker, markersize=4, label=name
            )
        plot.margins(x=0.02)
        plot.locator_params(axis="x", integer=True)
        plot.set_xlabel(x)
        if labelled:
            plot.set_ylabel(y)
        if len(lines) > 1:
            add_legend(canvas.figure, plot)
        return canvas.svg()


class Canvas:
    """A context with `figure` and its one `plot` in Fairlead's style, without pyplot's global state."""

    def __init__(self, height: float, label: str, width: float = _WIDTH):
        self.size, self.label = (width, height), label

    def __enter__(self) -> Canvas:
        import matplotlib
        from matplotlib.figure import Figure

        style: dict[Any, Any] = {**_STYLE, "svg.hashsalt": self.label}
        self._style = matplotlib.rc_context(style)
        self._style.__enter__()
        self.figure: Figure = Figure(figsize=self.size)
        self.plot: Axes = self.figure.subplots()
        return self

    def __exit__(self, *error: Any) -> None:
        self._style.__exit__(*error)

    def svg(self) -> str:
        """Return the figure as an svg element."""
        buffer = io.StringIO()
        meta = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        self.figure.savefig(buffer, format="svg", transparent=True, metadata=meta)
        return _theme(buffer.getvalue(), self.label)


def _theme(svg: str, label: str) -> str:
    """Keep the svg element alone, name it, and turn its colours and fonts into CSS variables."""
    head = f'<svg role="img" aria-label={quoteattr(label)} style="{_JOINS}" '
    svg = svg[svg.index("<svg") :].replace("<svg ", head, 1)
    svg = re.sub(r"<!--.*?-->\s*|<metadata>.*?</metadata>\s*|<style.*?</style>\s*", "", svg, flags=re.DOTALL)
    for name, colour in THEME.items():
        svg = svg.replace(colour, f"var(--{name}, {colour})")
    svg = re.sub(r"font-family: [^;\"]+", "font-family: var(--font, system-ui, sans-serif)", svg)
    return re.sub(r"(font: [\d.]+px) [^;\"]+", r"\1 var(--font, system-ui, sans-serif)", svg)


def add_legend(figure: Figure, plot: Axes) -> None:
    """Put the plot's legend above it, in as many columns as fit."""
    handles, labels = plot.get_legend_handles_labels()
    longest = max((len(label) for label in labels), default=1)
    columns = max(1, min(len(labels), int(_LEGEND_LETTERS * figure.get_figwidth() / (longest + 5))))
    figure.legend(handles, labels, loc="outside upper left", ncols=columns, fontsize=9, handlelength=1,
                  handleheight=1, columnspacing=1.2, handletextpad=0.5, borderaxespad=0.1)  # fmt: skip


def _bins(values: Sequence[float]) -> np.ndarray:
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if low == high:
        return np.array([low - 0.5, high + 0.5])
    whole = all(v == int(v) for v in values)
    if whole and high - low <= 40:
        return np.arange(low - 0.5, high + 1.0)
    return np.linspace(low, high, 31)


def colour_of(i: int) -> str:
    """Return the colour of subject number i."""
    return PALETTE[i % len(PALETTE)]
