"""The rule that ends rounds: what a gain is, patience, and the best round."""

from __future__ import annotations

import math

import pytest

from fairlead.errors import UsageError
from fairlead.recipe.stopping import Loop, Stop

NAN = math.nan


def ends(values, **how):
    stop = Stop("a.b", **how)
    return [stop.ends(values[:count]) for count in range(1, len(values) + 1)]


def test_rounds_end_with_the_first_that_does_not_rise():
    assert ends([0.90, 1.06, 1.08, 0.93]) == [False, False, False, True]
    assert ends([0.9, 0.9]) == [False, True]
    assert Stop("a.b").best([0.90, 1.06, 1.08, 0.93]) == 2


def test_a_gain_is_measured_from_the_last_gain():
    assert ends([1.0, 1.01, 1.02, 1.03], by=0.015, patience=2) == [False, False, False, False]
    assert ends([1.0, 1.01, 1.012, 1.03], by=0.015, patience=2) == [False, False, True, False]
    assert ends([1.0, 1.01, 1.02], by=0.05) == [False, True, True]
    assert Stop("a.b", by=0.05).best([1.0, 1.01]) == 1


def test_lower_may_be_better():
    assert ends([3.0, 2.0, 2.5], goal="lowest") == [False, False, True]
    assert Stop("a.b", goal="lowest").best([3.0, 2.0, 2.0]) == 1


def test_what_is_no_number_is_no_gain():
    assert ends([NAN, 1.0, NAN, 2.0], patience=2) == [False, False, False, False]
    assert ends([NAN, NAN], patience=2) == [False, True]
    assert ends([math.inf, 1.0]) == [True, False]
    assert Stop("a.b").best([NAN, 1.0]) == 1
    assert Stop("a.b").best([NAN, NAN]) == 0


def test_published_rounds():
    """AlpacaEval of Qwen-1.5 72B over rounds 1, 2, 3, 5, 6: the fifth is the best, and the sixth ends them."""
    assert ends([6.64, 9.06, 10.51, 11.83, 11.60]) == [False, False, False, False, True]
    assert Stop("a.b").best([6.64, 9.06, 10.51, 11.83, 11.60]) == 3


def test_names_of_rounds():
    loop = Loop("sheep", ("made", "tuned"), 12, Stop("tuned.loss", patience=3), "r.yaml:3")
    assert (loop.round_of("sheep11_tuned"), loop.round_of("sheep13_tuned"), loop.round_of("made")) == (11, 0, 0)
    assert (loop.certain, loop.aliases) == (4, {"sheep_made": "made", "sheep_tuned": "tuned"})
    assert Loop("sheep", ("made",), 2, Stop("made.rows", patience=3), "here").certain == 2


@pytest.mark.parametrize("how", [{"metric": "rows"}, {"metric": "a.b", "by": NAN}, {"metric": "a.b", "patience": 0}])
def test_rules_that_make_no_sense(how):
    with pytest.raises(UsageError, match=r"stop\."):
        Stop(**how)
