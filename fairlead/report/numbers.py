"""How numbers, times, sizes and hashes are written for people."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

from fairlead.estimates import Estimate

__all__ = ["brief", "count", "duration", "interval", "moment", "number", "setting", "short", "signed", "size"]

_ABSENT = "–"  # noqa: RUF001 - a dash stands for "no value" in tables


def number(value: Any) -> str:
    """Write a number so that columns line up: three decimals below 10, fewer above; a dash for none."""
    if not isinstance(value, int | float) or isinstance(value, bool) or math.isnan(value):
        return _ABSENT
    if isinstance(value, int):
        return f"{value:,}"
    if 0 < abs(value) < 0.001:
        return f"{value:.1e}"
    decimals = 3 if abs(value) < 10 else 2 if abs(value) < 100 else 1 if abs(value) < 1000 else 0
    return f"{value:,.{decimals}f}"


def brief(value: float) -> str:
    """Write a number as short as three figures allow."""
    return f"{value:.3g}"


def count(value: Any) -> str:
    """Write a number that may be a count: whole ones without decimals."""
    whole = isinstance(value, float) and math.isfinite(value) and value == int(value)
    return number(int(value) if whole else value)


def signed(value: float) -> str:
    """Write a difference with its sign."""
    return number(value) if math.isnan(value) else f"{'+' if value >= 0 else '−'}{number(abs(value))}"  # noqa: RUF001


def interval(estimate: Estimate) -> str:
    """Write an estimate's interval; empty where it has none."""
    if math.isnan(estimate.low) or math.isnan(estimate.high):
        return ""
    return f"{number(float(estimate.low))} to {number(float(estimate.high))}"


def duration(seconds: Any) -> str:
    """Write a time span."""
    if not isinstance(seconds, int | float) or math.isnan(seconds):
        return _ABSENT
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def moment(text: Any) -> str:
    """Write an ISO time as date and minute, in the zone it was given in."""
    try:
        return datetime.fromisoformat(str(text)).strftime("%Y-%m-%d %H:%M %Z").strip()
    except ValueError:
        return _ABSENT


def size(value: Any) -> str:
    """Write a number of bytes."""
    if not isinstance(value, int | float):
        return _ABSENT
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if value >= 100 or unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def short(digest: Any) -> str:
    """Write the first twelve characters of a hash."""
    return str(digest or "")[:12] or _ABSENT


def setting(value: Any) -> str:
    """Write a setting's value on one line."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: _ABSENT}[value]
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(setting(v) for v in value) or _ABSENT
    if isinstance(value, dict):
        return ", ".join(f"{k}: {setting(v)}" for k, v in value.items()) or _ABSENT
    return str(value)
