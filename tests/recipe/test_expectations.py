"""`expect:` lines: arithmetic, comparisons, and what they refuse."""

from __future__ import annotations

import math

import pytest

from fairlead.errors import RecipeError
from fairlead.recipe.expectations import parse

METRICS = {"e.r.sft.total": 0.75, "e.r.base.total": 0.54, "dpo.loss": 0.5, "dpo.odd": math.nan, "dpo.zero": 0.0}


def check(line: str):
    return parse(line, "r.yaml:9").check(METRICS)


@pytest.mark.parametrize(
    ("line", "value", "holds"),
    [
        ("e.r.sft.total - e.r.base.total >= 0.15", 0.21, True),
        ("e.r.sft.total - e.r.base.total >= 0.3", 0.21, False),
        ("0.1 <= dpo.loss <= 0.5", 0.5, True),
        ("0.1 <= dpo.loss < 0.5", 0.5, False),
        ("abs(e.r.base.total - e.r.sft.total) < 0.22", 0.21, True),
        ("max(dpo.loss, e.r.sft.total) == 0.75", 0.75, True),
        ("min(dpo.loss, 0.2) != 0.2", 0.2, False),
        ("2 * dpo.loss ** 2 == 0.5", 0.5, True),
        ("-dpo.loss < 0", -0.5, True),
        ("dpo.loss > 0 and dpo.loss < 0.4", 0.5, False),
        ("0.6 > dpo.loss", 0.5, True),
    ],
)
def test_known_outcomes(line, value, holds):
    checked = check(line)
    assert checked.value == pytest.approx(value)
    assert checked.holds is holds
    assert checked.line == line


@pytest.mark.parametrize(
    "line", ["dpo.odd >= 0", "dpo.odd <= 0", "min(dpo.odd, 1) <= 1", "dpo.loss / dpo.zero > 0", "dpo.zero ** -1 > 0"]
)
def test_what_is_not_defined_does_not_hold(line):
    assert check(line).holds is False


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("dpo.loss", "not a comparison"),
        ("dpo.loss >", "not a comparison"),
        ("dpo.loss >= high", "'high' cannot stand"),
        ("1 < 2", "no metric"),
        ("open('x').read > 1", "cannot stand"),
        ("__import__('os').system('x') > 0", "cannot stand"),
        ("dpo.loss in [1]", "something else"),
        ("dpo['loss'] > 1", "cannot stand"),
        ("dpo.loss > 'a'", "cannot stand"),
        ("dpo.loss > True", "cannot stand"),
        ("dpo.loss > 1 or dpo.loss < 0", "not a comparison"),
        ("(lambda: 1)() > dpo.loss", "cannot stand"),
        (0.5, "must be text"),
    ],
)
def test_anything_else_is_refused(line, what):
    with pytest.raises(RecipeError, match=what) as caught:
        parse(line, "r.yaml:9")
    assert caught.value.place == "r.yaml:9"


def test_an_unknown_metric_names_the_nearest():
    with pytest.raises(RecipeError, match=r"did you mean e\.r\.sft\.total"):
        check("e.r.sft.totl > 0")


def test_metrics_in_order():
    assert parse("b.c - a.b + b.c > abs(d.e.f)", "x").metrics == ("b.c", "a.b", "d.e.f")
