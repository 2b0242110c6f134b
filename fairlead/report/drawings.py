"""Pictures of a page: training curves drawn from a run's metrics, and evaluators' figures made safe to put inline."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fairlead.figures import curves

__all__ = ["Panel", "inline", "training_panels"]

_POINTS = 400
_FIRST = ("reward", "loss", "learning_rate", "grad_norm")
_LAST = ("tokens", "tokens_per_second", "padding", "seconds")
_SIZE = (3.3, 1.7)
_COLOURS = ("", "training", "held-out")
_NOT_CURVES = ("step", "split", "epoch")
_ELEMENTS = {"svg", "g", "path", "defs", "use", "text", "tspan", "clipPath", "rect", "circle", "line", "polygon"}
_ELEMENTS |= {"polyline", "linearGradient", "stop", "ellipse"}


@dataclass(frozen=True)
class Panel:
    """One picture with its caption."""

    title: str
    """What it shows."""
    svg: str
    """SVG text."""


def training_panels(history: Sequence[Mapping[str, Any]]) -> list[Panel]:
    """Draw one panel per metric of metrics.jsonl over the steps; held-out values join the training ones.

    Long runs are drawn as means of equal stretches of steps, and the caption says so.
    """
    training = [line for line in history if line.get("split", "train") == "train"]
    held_out = [line for line in history if line.get("split") == "evaluation"]
    keys = dict.fromkeys(key for line in history for key, value in line.items() if _is_number(value))
    inner = [key for key in keys if key not in (*_FIRST, *_LAST, *_NOT_CURVES)]
    panels = []
    for key in [*_FIRST, *inner, *_LAST]:
        lines = {name: _line(part, key) for name, part in (("training", training), ("held-out", held_out))}
        lines = {name: line for name, line in lines.items() if line[0]}
        if not lines:
            continue
        thinned = {name: _thin(*line) for name, line in lines.items()}
        stretch = max(stretch for _, _, stretch in thinned.values())
        title = key.replace("_", " ") + (f" (means of {stretch} steps)" if stretch > 1 else "")
        if list(lines) == ["held-out"]:
            title += ", held-out"
        drawn = {name: (x, y) for name, (x, y, _) in thinned.items()}
        panels.append(Panel(title, curves(drawn, x="step", y=title, size=_SIZE, order=_COLOURS, labelled=False)))
    return panels


def inline(svg: str, prefix: str) -> str | None:
    """Return an SVG text that can stand in a page: ids made unique by `prefix`; None when it holds more than shapes.

    A report folder may come from anywhere, so scripts, handlers, styles, images and outside references are refused.
    """
    if re.search(r"<[!?]", svg):
        return None
    try:
        root = ET.fromstring(svg)
    except ET.ParseError:
        return None
    for element in root.iter():
        if str(element.tag).rpartition("}")[2] not in _ELEMENTS or not all(map(_is_tame, element.attrib.items())):
            return None
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'href="#', f'href="#{prefix}-', svg)
    return re.sub(r"url\(#", f"url(#{prefix}-", svg)


def _is_tame(attribute: tuple[str, str]) -> bool:
    name, value = attribute[0].rpartition("}")[2].lower(), attribute[1]
    if name.startswith("on") or (name == "href" and not value.startswith("#")):
        return False
    return not re.search(r"url\((?!#)|@import|expression|javascript:", value, re.IGNORECASE)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _line(lines: Sequence[Mapping[str, Any]], key: str) -> tuple[list[float], list[float]]:
    points = [(line["step"], line[key]) for line in lines if _is_number(line.get(key)) and _is_number(line.get("step"))]
    return [float(x) for x, _ in points], [float(y) for _, y in points]


def _thin(x: list[float], y: list[float]) -> tuple[list[float], list[float], int]:
    """Return means of equal stretches, at most `_POINTS` of them, and the length of a stretch."""
    stretch = math.ceil(len(x) / _POINTS)
    if stretch <= 1:
        return x, y, 1
    cuts = range(0, len(x), stretch)
    means = [[math.fsum(part) / len(part) for part in (v[c : c + stretch] for c in cuts)] for v in (x, y)]
    return means[0], means[1], stretch
