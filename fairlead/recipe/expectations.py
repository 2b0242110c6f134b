"""`expect:` lines: small comparisons over the metrics of a run, such as `dpo.accuracy >= 0.9`.

A line may use numbers, `+ - * / **`, `abs`, `min`, `max`, comparisons and `and`. Anything else is an error; nothing is
ever executed as code.
"""

from __future__ import annotations

import ast
import difflib
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fairlead.errors import RecipeError

__all__ = ["Checked", "Expectation", "parse"]

_BINARY: dict[type, Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_UNARY: dict[type, Callable[[float], float]] = {ast.USub: operator.neg, ast.UAdd: operator.pos}
_COMPARE: dict[type, Callable[[float, float], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_CALLS: dict[str, Any] = {"abs": abs, "min": min, "max": max}
_FIX = "write it like: evaluation.rewards.dpo.total - evaluation.rewards.base.total >= 0.3"


@dataclass(frozen=True)
class Checked:
    """How an expectation came out."""

    line: str
    """The line as written."""
    value: float
    """Its first side that depends on a metric, as a number; NaN when it is not defined."""
    holds: bool
    """Whether the line is true."""


@dataclass(frozen=True)
class Expectation:
    """One line of `expect:`."""

    line: str
    """As written."""
    place: str
    """Where it stands: "file:line"."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The dotted names of the metrics that the line speaks of, in order."""
        names: list[str] = []
        _collect(self._tree, names)
        return tuple(dict.fromkeys(names))

    def check(self, metrics: Mapping[str, float]) -> Checked:
        """Work the line out.

        Raises:
            RecipeError: a metric that the run does not have; the nearest names are shown.
        """
        for name in self.metrics:
            if name not in metrics:
                close = difflib.get_close_matches(name, metrics, n=3, cutoff=0.3)
                near = f"did you mean {' or '.join(close)}?" if close else "see metrics in steps/*/step.json"
                raise RecipeError(f"{self.line!r} speaks of {name}, which no step measured", place=self.place, fix=near)
        comparisons = self._tree.values if isinstance(self._tree, ast.BoolOp) else [self._tree]
        try:
            outcomes = [_compare(c, metrics) for c in comparisons]
        except (ZeroDivisionError, OverflowError, TypeError):
            return Checked(self.line, math.nan, False)
        return Checked(self.line, outcomes[0][0], all(holds for _, holds in outcomes))

    @property
    def _tree(self) -> Any:
        return ast.parse(self.line.strip(), mode="eval").body


def parse(line: Any, place: str) -> Expectation:
    """Read one `expect:` line, checking its form."""
    if not isinstance(line, str):
        raise RecipeError(f"an expectation must be text, found {line!r}", place=place, fix=_FIX)
    try:
        tree = ast.parse(line.strip(), mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise RecipeError(f"{line!r} is not a comparison", place=place, fix=_FIX) from error
    parts = tree.values if isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.And) else [tree]
    for part in parts:
        if not isinstance(part, ast.Compare):
            raise RecipeError(f"{ast.unparse(part)!r} is not a comparison", place=place, fix=_FIX)
        for operation in part.ops:
            if type(operation) not in _COMPARE:
                raise RecipeError(f"{line!r} compares by something else than < <= > >= == !=", place=place, fix=_FIX)
        for side in (part.left, *part.comparators):
            _check_side(side, line, place)
    expectation = Expectation(line.strip(), place)
    if not expectation.metrics:
        raise RecipeError(f"{line!r} speaks of no metric", place=place, fix=_FIX)
    return expectation


def _check_side(node: ast.AST, line: str, place: str) -> None:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return
    if _path(node) is not None:
        return
    inner: list[ast.expr] | None = None
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        inner = [node.left, node.right]
    elif isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
        inner = [node.operand]
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _CALLS and node.args:
        inner = None if node.keywords else node.args
    if inner is None:
        raise RecipeError(f"{ast.unparse(node)!r} cannot stand in an expectation", place=place, fix=_FIX)
    for part in inner:
        _check_side(part, line, place)


def _path(node: ast.AST) -> str | None:
    """Return `a.b.c` for a dotted name of at least two parts."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name) or not parts:
        return None
    return ".".join([node.id, *reversed(parts)])


def _collect(node: ast.AST, names: list[str]) -> None:
    path = _path(node)
    if path is not None:
        names.append(path)
        return
    for child in ast.iter_child_nodes(node):
        _collect(child, names)


def _compare(node: Any, metrics: Mapping[str, float]) -> tuple[float, bool]:
    sides = [node.left, *node.comparators]
    values = [_value(side, metrics) for side in sides]
    found: list[list[str]] = [[] for _ in sides]
    for side, names in zip(sides, found, strict=True):
        _collect(side, names)
    shown = next((value for value, names in zip(values, found, strict=True) if names), values[0])
    steps = zip(node.ops, values[:-1], values[1:], strict=True)
    return float(shown), all(_COMPARE[type(op)](left, right) for op, left, right in steps)


def _value(node: Any, metrics: Mapping[str, float]) -> float:
    if isinstance(node, ast.Constant):
        return float(str(node.value))
    path = _path(node)
    if path is not None:
        return float(metrics[path])
    if isinstance(node, ast.BinOp):
        value = _BINARY[type(node.op)](_value(node.left, metrics), _value(node.right, metrics))
        return value if isinstance(value, float) else math.nan
    if isinstance(node, ast.UnaryOp):
        return _UNARY[type(node.op)](_value(node.operand, metrics))
    arguments = [_value(a, metrics) for a in node.args]
    if any(math.isnan(a) for a in arguments):
        return math.nan
    return float(_CALLS[node.func.id](*arguments) if len(arguments) > 1 or node.func.id == "abs" else arguments[0])
