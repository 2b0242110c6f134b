"""Verdicts on the three corners, how far away they are, and what would help."""

from __future__ import annotations

import pytest

from fairlead.errors import UsageError
from fairlead.theory.audit import MET, UNKNOWN, VIOLATED, audit_groups, audit_robustness
from fairlead.theory.populations import simulate
from fairlead.theory.report import Aims, judge
from fairlead.theory.trilemma import failure_limit, log2_operations, trials_to_certify

PEOPLE = {"a": 300, "b": 100}


def audited(worth, epsilon=0.1, people=None):
    labels = simulate(worth, people or PEOPLE, labels=20, seed=3)
    return audit_groups(labels.values, labels.groups, labels.people, epsilon=epsilon)


def test_all_three_can_be_met_when_little_is_asked():
    aims = Aims(epsilon=0.1, delta=0.1, budget=80, context=40)
    found = judge(aims, audited({"a": 0.7, "b": 0.7}), audit_robustness(0, 40))
    assert found.met
    assert set(found.verdicts.values()) == {MET}
    assert found.relaxations == ()
    assert all(far <= 1 for far in found.distance.values())


def test_what_is_violated_and_what_is_only_unknown():
    aims = Aims(epsilon=0.1, delta=0.01, budget=60, context=70)
    found = judge(aims, audited({"a": 0.9, "b": 0.3}), audit_robustness(0, 40))
    assert found.verdicts == {"representative": VIOLATED, "robust": UNKNOWN, "affordable": VIOLATED}
    assert not found.met
    assert found.operations == pytest.approx(log2_operations(0.1, 0.01, 70, 1e6))
    changes = {one.change: one for one in found.relaxations}
    assert changes["try more perturbations, failing as often"].then == trials_to_certify(0.01)
    merged = changes["merge contexts: bits"].then
    assert log2_operations(0.1, 0.01, merged, 1e6) == pytest.approx(60)
    wider = changes["accept a wider gap: epsilon"].then
    assert log2_operations(wider, 0.01, 70, 1e6) == pytest.approx(60)
    assert changes["claim no more than the data show: epsilon"].then == pytest.approx(
        found.distance["representative"] * 0.1
    )


def test_more_people_where_more_would_tell():
    few = audited({"a": 0.7, "b": 0.7}, people={"a": 12, "b": 8})
    found = judge(Aims(epsilon=0.1), few, None)
    assert found.verdicts == {"representative": UNKNOWN}
    assert found.operations is None
    more = next(one for one in found.relaxations if one.change.startswith("ask more people"))
    assert more.then > more.now


def test_more_trials_at_the_same_rate():
    found = judge(Aims(delta=0.05), None, audit_robustness(3, 80))
    trials = next(one for one in found.relaxations if one.change.startswith("try more")).then
    assert failure_limit(round(3 / 80 * trials) + 1, int(trials)) <= 0.06
    hopeless = judge(Aims(delta=0.05), None, audit_robustness(8, 80))
    assert not any(one.change.startswith("try more") for one in hopeless.relaxations)


def test_relaxations_come_the_smallest_first():
    found = judge(Aims(epsilon=0.01, budget=100, context=110), audited({"a": 0.9, "b": 0.3}), None)
    factors = [max(one.then / one.now, one.now / one.then) for one in found.relaxations]
    assert factors == sorted(factors)


def test_aims_are_shares():
    with pytest.raises(UsageError, match="epsilon is 2"):
        Aims(epsilon=2)
