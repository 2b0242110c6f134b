"""Verdicts that are there already: files of judged pairs, read into columns.

Two forms are known by their columns. AlpacaEval's annotations: `preference` (1 first, 2 second, 1.5 or 0 a tie, null
none), `generator_1`, `generator_2`, `output_1`, `output_2`, and `id`, `index` or `instruction`; `annotator` or `judge`
says who judged, `order` ("12", "21") in which order the pair was shown, with the preference mapped back. And the rows
of Fairlead's own reports: `id`, `engine`, `rate`, with `points` and `points_swapped` where both orders were judged.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fairlead.errors import DataError, FairleadError
from fairlead.evaluation.preferences.bias import has_list
from fairlead.evaluation.preferences.style_control import STYLES, style_difference
from fairlead.evaluation.preferences.win_rates import as_points, both_orders, points_of_preferences
from fairlead.records.check import Problem
from fairlead.records.sources import Located, open_rows

__all__ = ["Verdicts", "read_verdicts"]

_ALPACA = ("generator_1", "generator_2", "preference")
_OWN = ("engine", "id", "rate")
_JUDGES = ("judge", "annotator", "annotator_index")


@dataclass(frozen=True, eq=False)
class Verdicts:
    """N judged pairs, one row per item, model, baseline and judge; both orders of a pair are one row."""

    item: list[str]
    """What the pair was about [N]."""
    model: list[str]
    """Whose points these are [N]."""
    baseline: list[str]
    """The other side [N]."""
    judge: list[str]
    """Who judged [N]; empty where the file does not say."""
    points: np.ndarray
    """Points of the model [N]; NaN where there is no verdict."""
    straight: np.ndarray
    """Points of the model where it was shown second [N]; NaN where that is not known."""
    swapped: np.ndarray
    """Points of the model where it was shown first [N]; NaN where that is not known."""
    length: np.ndarray
    """Characters of the model's answer [N]; NaN where the text is not there."""
    baseline_length: np.ndarray
    """Characters of the baseline's answer [N]."""
    lists: np.ndarray
    """1 where the model's answer alone has a list, -1 where the baseline's alone has, 0 else [N]; NaN without texts."""
    notes: tuple[str, ...] = ()
    """What a reader must know."""
    style: np.ndarray | None = None
    """How the style of the model's answer differs from the baseline's [N, 4], see `style_difference`; NaN without
    texts; None where it is not known of any."""

    def __len__(self) -> int:
        return len(self.item)

    def where(self, kept: np.ndarray) -> Verdicts:
        """Return the rows of a mask [N]."""
        places = np.flatnonzero(kept)
        named = {k: [getattr(self, k)[i] for i in places] for k in ("item", "model", "baseline", "judge")}
        arrays = {
            k: getattr(self, k)[places] for k in ("points", "straight", "swapped", "length", "baseline_length", "lists")
        }
        style = None if self.style is None else self.style[places]
        return Verdicts(**named, **arrays, notes=self.notes, style=style)


@dataclass(frozen=True)
class _Row:
    key: tuple[str, str, str, str]
    place: str
    points: float
    order: str
    straight: float
    swapped: float
    texts: tuple[str, str] | None


def read_verdicts(sources: str | Sequence[str]) -> Verdicts:
    """Read judged pairs from files: JSON Lines, a JSON list, Parquet, CSV; `.gz` of these.

    Raises:
        DataError: a row that cannot be read, lacks a column or has a value that is no verdict; a pair that is judged
            twice by one judge in one order. The message names the file and the row.
    """
    paths = [sources] if isinstance(sources, str) else list(sources)
    rows = [row for path in paths for row in _rows_of(path)]
    if not rows:
        raise DataError("there is no verdict", place=", ".join(paths), fix="give a file of judged pairs")
    groups: dict[tuple[str, str, str, str], list[_Row]] = {}
    for row in rows:
        groups.setdefault(row.key, []).append(row)
    joined = [_join(group) for group in groups.values()]
    both = any(len(group) == 2 for group in groups.values())
    single = sum(len(group) == 1 and bool(group[0].order) for group in groups.values()) if both else 0
    notes = (f"{single} pairs were judged in one order only, others in both; they count as they are",) if single else ()
    columns = np.array([row[:-1] for row in joined], dtype=np.float64).reshape(len(joined), 3).T
    texts = [row[-1] for row in joined]
    names = zip(*groups)
    return Verdicts(
        *map(list, names),  # type: ignore[arg-type]
        *columns,
        length=np.array([math.nan if pair is None else len(pair[1]) for pair in texts], dtype=np.float64),
        baseline_length=np.array([math.nan if pair is None else len(pair[0]) for pair in texts], dtype=np.float64),
        lists=np.array(
            [math.nan if pair is None else has_list(pair[1]) - has_list(pair[0]) for pair in texts], dtype=np.float64
        ),
        notes=notes,
        style=np.array(
            [np.full(len(STYLES), math.nan) if pair is None else style_difference(*pair[::-1]) for pair in texts]
        ),
    )


def _rows_of(path: str) -> list[_Row]:
    found = []
    for place, row in _located(path):
        where = f"{path}, {place}"
        if isinstance(row, Problem):
            raise DataError(f"{row.found} where {row.expected} belongs", place=f"{path}, {row.place}", fix=row.fix)
        form = next((read for columns, read in _FORMS if all(column in row for column in columns)), None)
        if form is None:
            near = min((c for c, _ in _FORMS), key=lambda columns: sum(column not in row for column in columns))
            lacking = ", ".join(column for column in near if column not in row)
            fix = f"give {', '.join(_ALPACA)} with an id or instruction; or {', '.join(_OWN)}"
            raise DataError(f"no column {lacking} (there are {', '.join(row)})", place=where, fix=fix)
        try:
            found.append(form(row, where))
        except FairleadError as error:
            raise DataError(error.what, place=where, fix=error.fix) from error
        except (TypeError, ValueError) as error:
            fix = "a verdict is a number, or null where there is none"
            raise DataError(f"a value is not what its column holds ({error})", place=where, fix=fix) from error
    return found


def _located(path: str) -> Iterable[Located]:
    """Yield rows with their places; an empty cell of a CSV file, which its reader leaves out, is None."""
    rows = open_rows(path)
    if not path.lower().removesuffix(".gz").endswith(".csv"):
        return rows
    found = list(rows)
    header = dict.fromkeys(column for _, row in found if not isinstance(row, Problem) for column in row)
    return [(place, row if isinstance(row, Problem) else {**header, **row}) for place, row in found]


def _alpaca(row: Mapping[str, Any], place: str) -> _Row:
    order = str(row.get("order") or "")
    if order not in ("", "12", "21"):
        raise DataError(f"order {order!r}", fix='use "12" (baseline shown first) or "21"')
    points = float(points_of_preferences(_number(row["preference"])))
    texts = _texts(row, "output_1", "output_2")
    key = (_item(row), str(row["generator_2"]), str(row["generator_1"]), _judge(row))
    straight, swapped = (points if order == which else math.nan for which in ("12", "21"))
    return _Row(key, place, points, order, straight, swapped, texts)


def _own(row: Mapping[str, Any], place: str) -> _Row:
    sample = f", sample {row['sample']}" if row.get("sample") else ""
    key = (f"{row['id']}{sample}", str(row["engine"]), str(row.get("baseline") or "baseline"), _judge(row))
    values = (_number(row.get(k)) for k in ("rate", "points", "points_swapped"))
    points, straight, swapped = (float(as_points(value)) for value in values)
    return _Row(key, place, points, "", straight, swapped, _texts(row, "baseline_answer", "answer"))


_FORMS: tuple[tuple[tuple[str, ...], Callable[[Mapping[str, Any], str], _Row]], ...] = (
    (_ALPACA, _alpaca),
    (_OWN, _own),
)


def _join(group: list[_Row]) -> tuple[float, float, float, tuple[str, str] | None]:
    """Return points, points in either order, and texts of one pair."""
    first = group[0]
    if len(group) == 1:
        return first.points, first.straight, first.swapped, first.texts
    orders = sorted(row.order for row in group)
    if orders != ["12", "21"]:
        item, model, baseline, judge = first.key
        by = f" by {judge}" if judge else ""
        what = f"{model} against {baseline} on {item} is judged {len(group)} times{by}"
        places = " and ".join(row.place for row in group[:2])
        raise DataError(what, place=places, fix='keep one row, or give the two orders as order "12" and "21"')
    straight, swapped = (next(row.points for row in group if row.order == order) for order in ("12", "21"))
    return float(both_orders(straight, swapped)), straight, swapped, first.texts


def _item(row: Mapping[str, Any]) -> str:
    for column in ("id", "index"):
        if row.get(column) is not None:
            return str(row[column])
    if not row.get("instruction"):
        raise DataError("nothing says which item this is", fix="give an id, an index or the instruction")
    return hashlib.sha256(str(row["instruction"]).encode("utf-8", "surrogatepass")).hexdigest()[:12]


def _judge(row: Mapping[str, Any]) -> str:
    return next((str(row[column]) for column in _JUDGES if row.get(column) is not None), "")


def _texts(row: Mapping[str, Any], baseline: str, model: str) -> tuple[str, str] | None:
    pair = (row.get(baseline), row.get(model))
    return None if pair[0] is None or pair[1] is None else (str(pair[0]), str(pair[1]))


def _style(texts: tuple[str, str] | None) -> np.ndarray:
    return np.full(len(STYLES), math.nan) if texts is None else style_difference(texts[1], texts[0])


def _number(value: Any) -> float:
    """Return a verdict as a number, NaN for null; CSV cells are text."""
    if isinstance(value, bool):
        raise DataError(f"{value} is no verdict", fix="give a number")
    return math.nan if value is None else float(value)
