"""Curves of over-optimisation: all choices counted, ties, a proxy that misleads, and what is refused."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from known import BASE, TUNED, Count, Silent, rows

from fairlead.engines.base import Sampling
from fairlead.errors import UsageError
from fairlead.evaluation.over_optimisation import OverOptimisation, _chosen

SAMPLED = Sampling(max_tokens=12, n=8)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(-5, 5)), min_size=1, max_size=6),
    st.integers(1, 4),
)
def test_every_choice_counts_alike(answers, n):
    proxy, gold = (np.array(column, dtype=float) for column in zip(*answers))
    found = _chosen(proxy, gold, n)
    if n > len(answers):
        assert math.isnan(found)
        return
    total = []
    for choice in itertools.combinations(range(len(answers)), n):
        best = max(proxy[i] for i in choice)
        total.append(np.mean([gold[i] for i in choice if proxy[i] == best]))
    assert found == pytest.approx(np.mean(total))


def test_the_gold_reward_itself_only_gains_and_its_opposite_only_loses():
    proxies = {"gold": Count("aye"), "other": Count("nay")}
    report = OverOptimisation(proxies, Count("aye"), draws=(1, 2, 8), sampling=SAMPLED)(
        {"base": BASE, "tuned": TUNED}, rows(60)
    )
    for axes in report.summary.values():
        assert axes["gold_1"].value == axes["other_1"].value
        assert axes["gold_1"].value < axes["gold_2"].value < axes["gold_8"].value
    assert list(report.figures) == [f"{name}, gold reward of the best of N" for name in ("base", "tuned")]
    assert report.summary["tuned"]["gold_8"].value == pytest.approx(
        np.mean([row["gold_8"] for row in report.rows if row["engine"] == "tuned"])
    )


def test_answers_without_a_value_are_not_chosen():
    proxies = {"p": Count("aye", silent="nay")}
    report = OverOptimisation(proxies, Count("aye"), draws=(1, 4), sampling=SAMPLED)({"base": BASE}, rows(40))
    assert "p or by gold" in report.notes[0]
    assert 0 < report.summary["base"]["p_4"].n < 40
    silent = OverOptimisation({"p": Silent()}, Count("aye"), draws=(1,), sampling=SAMPLED)({"base": BASE}, rows(3))
    assert silent.summary["base"]["p_1"].n == 0


def test_what_makes_no_sense():
    for bad, what in (
        ({"proxies": {}}, "proxies"),
        ({"draws": ()}, "draws"),
        ({"draws": (0,)}, "draws"),
        ({"draws": (99,)}, "too few"),
        ({"sampling": Sampling(temperature=0, n=8), "draws": (4,)}, "greedy"),
    ):
        with pytest.raises(UsageError, match=what):
            OverOptimisation(
                **{"proxies": {"p": Silent()}, "gold": Silent(), "sampling": SAMPLED, "draws": (1, 4)} | bad
            )
