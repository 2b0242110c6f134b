"""Audits: arithmetic on paper, coverage on populations whose values are known, verdicts, what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fairlead.errors import DataError, UnknownNameError, UsageError
from fairlead.estimates import Estimate
from fairlead.theory.audit import (
    MET,
    SMALL,
    UNKNOWN,
    VIOLATED,
    absolute,
    audit_groups,
    audit_robustness,
    verdict_on,
)
from fairlead.theory.populations import simulate
from fairlead.theory.trilemma import failure_limit

WORTH = {"a": 0.9, "b": 0.7, "c": 0.4}
POPULATION = {"a": 0.6, "b": 0.3, "c": 0.1}


def exact_rows():
    """Return nine records of a, one of b and a record of c that the makers' claim does not count."""
    values = [0.9] * 18 + [0.7] * 2
    people = [f"a{i}" for i in range(18)] + ["b0", "b1"]
    return values, ["a"] * 18 + ["b"] * 2, people


def test_the_gaps_on_paper():
    values, groups, people = exact_rows()
    # Of c nobody was asked by the makers, who claim what a and b say: .9 x .9 + .1 x .7 = .88.
    found = audit_groups(
        [*values, 0.4, 0.4],
        [*groups, "c", "c"],
        [*people, "c0", "c1"],
        population=POPULATION,
        believed=0.88,
        smallest=1,
    )
    assert found.population.value == pytest.approx(0.79)
    assert found.epsilon_mean.value == pytest.approx(0.09)
    assert found.epsilon_worst.value == pytest.approx(0.48)
    assert found.fairness_gap == pytest.approx(0.5)
    assert list(found.groups) == ["c", "b", "a"]
    believed = audit_groups(values, groups, people, smallest=1).believed
    assert believed.value == pytest.approx(0.88)


def test_labels_that_count():
    found = audit_groups([1.0] * 5, list("aaaab"), list("uvwxy"), population={"a": 0.4, "b": 0.6}, smallest=1)
    # weights .4 / .8 and .6 / .2: in proportion 1, 1, 1, 1, 6
    assert found.effective == pytest.approx(2.5)
    assert found.coverage == 0


def test_intervals_cover_what_they_say():
    people = {"a": 90, "b": 20, "c": 12}
    share = {name: count / 122 for name, count in people.items()}
    believed = sum(share[g] * WORTH[g] for g in WORTH)
    population = sum(POPULATION[g] * WORTH[g] for g in WORTH)
    truths = (*WORTH.values(), believed, abs(population - believed))
    hits, too_low = np.zeros(5), 0
    for seed in range(1000):
        labels = simulate(WORTH, people, labels=8, seed=seed)
        found = audit_groups(labels.values, labels.groups, labels.people, population=POPULATION)
        estimates = [*(found.groups[g].value for g in WORTH), found.believed, found.epsilon_mean]
        hits += [e.low <= truth <= e.high for e, truth in zip(estimates, truths)]
        too_low += found.epsilon_worst.high < believed - WORTH["c"]
    assert (hits / 1000 >= 0.93).all()
    assert (hits / 1000 <= 0.97).all()
    # A verdict of "met" at a target that the truth just exceeds: the upper limit was too low.
    assert too_low / 1000 <= 0.05


def test_people_count_and_not_their_labels():
    values = [1.0] * 50 + [0.0] * 2
    found = audit_groups(values, ["a"] * 52, ["busy"] * 50 + ["calm", "quiet"], smallest=1)
    assert found.groups["a"].value.value == pytest.approx(1 / 3)
    assert found.groups["a"].people == 3


def test_those_who_agree_are_not_certain():
    found = audit_groups([1.0] * 40, ["a"] * 20 + ["b"] * 20, [f"p{i}" for i in range(40)])
    interval = found.groups["a"].value
    assert interval.value - interval.low == pytest.approx(1 - 0.025 ** (1 / 20))
    assert interval.high == 1
    assert found.epsilon_worst.value == 0
    assert verdict_on(found.epsilon_worst, 0.05) == UNKNOWN


def test_one_person_allows_no_interval():
    found = audit_groups([1.0, 0.0, 0.5], ["a", "b", "b"], ["x", "y", "z"], smallest=1)
    assert math.isnan(found.groups["a"].value.low)
    assert verdict_on(found.epsilon_worst, 0.5) == UNKNOWN


def test_small_groups_are_put_together_and_drawn_to_the_mean():
    labels = simulate({"a": 0.8, "b": 0.5, "c": 0.3}, {"a": 200, "b": 3, "c": 2}, seed=1)
    found = audit_groups(labels.values, labels.groups, labels.people, population=POPULATION)
    assert set(found.groups) == {"a", SMALL}
    assert found.groups[SMALL].population == pytest.approx(0.4)
    assert found.notes == (f"groups of fewer than 5 people, put together as {SMALL}: 2",)
    a, small = found.groups["a"], found.groups[SMALL]
    assert abs(small.pooled - small.value.value) > abs(a.pooled - a.value.value)
    assert min(a.value.value, small.value.value) <= small.pooled <= max(a.value.value, small.value.value)


def test_sizes_without_signs():
    assert absolute(Estimate(-0.2, -0.3, -0.1, 5)) == Estimate(0.2, 0.1, 0.3, 5)
    assert absolute(Estimate(0.1, -0.3, 0.5, 5)) == Estimate(0.1, 0.0, 0.5, 5)


def test_verdicts():
    assert verdict_on(Estimate(0.02, 0.0, 0.04, 9), 0.05) == MET
    assert verdict_on(Estimate(0.2, 0.1, 0.3, 9), 0.05) == VIOLATED
    assert verdict_on(Estimate(0.04, 0.0, 0.2, 9), 0.05) == UNKNOWN
    assert verdict_on(Estimate(math.nan, math.nan, math.nan, 0), 0.05) == UNKNOWN


def test_robustness_has_exact_limits():
    found = audit_robustness(3, 200)
    assert found.rate.high == pytest.approx(0.0383097, abs=1e-7)
    assert found.rate.low == pytest.approx(1 - failure_limit(197, 200))
    assert audit_robustness(0, 29).rate.low == 0
    assert audit_robustness(29, 29).rate.high == 1
    # 95 % one-sided: at a true rate of .1 the limit is too low in 5 % of the audits at most.
    failures = np.random.default_rng(0).binomial(50, 0.1, size=3000)
    limits = {k: failure_limit(int(k), 50) for k in np.unique(failures)}
    assert np.mean([limits[k] < 0.1 for k in failures]) <= 0.055


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"values": [1.0, 1.2, 0.0]}, DataError, "record 2: a value of 1.2"),
        ({"values": [1.0, math.nan, 0.0]}, DataError, "record 2: a value of nan"),
        ({"groups": ["a", "b"]}, UsageError, "2 groups"),
        ({"people": ["x", "y", "x"]}, DataError, "'x' is in the groups"),
        ({"weights": [1, 0, 1]}, DataError, "not above 0"),
        ({"population": {"a": 1.0}}, UnknownNameError, "group of the population 'b'"),
        ({"population": {"a": 0.5, "b": 0.2}}, UsageError, "sum to 0.7"),
        ({"population": {"a": 0.5, "b": 0.3, "c": 0.2}}, DataError, "no record is of c"),
        ({"confidence": 1.0}, UsageError, "confidence"),
    ],
)
def test_what_does_not_fit(changes, error, said):
    given = {"values": [1.0, 0.5, 0.0], "groups": ["a", "a", "b"], "people": ["x", "y", "z"], **changes}
    with pytest.raises(error, match=said):
        audit_groups(**given)


def test_simulated_people():
    labels = simulate(WORTH, {"a": 400, "b": 50, "c": 50}, labels=20, seed=0)
    assert len(labels.values) == 500 * 20
    assert labels.values[: 400 * 20].mean() == pytest.approx(0.9, abs=0.02)
    with pytest.raises(UsageError, match="not between 0 and 1"):
        simulate({"a": 1.0}, {"a": 3})
    with pytest.raises(UsageError, match="below 1"):
        simulate({"a": 0.5}, {"a": 0})
