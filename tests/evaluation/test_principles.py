"""Situations, arbitrariness, supremacy, priorities, discrepancy: values worked out by hand, and what never changes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from fairlead.errors import UsageError
from fairlead.evaluation.principles import (
    arbitrariness,
    both_orders,
    consensus,
    decide,
    discrepancy,
    in_conflict,
    priorities,
    supremacy,
    wins,
)

N = np.nan
S = np.array([
    [1, 1, N], [-1, N, -1], [1, -1, N], [1, -1, 1], [N, N, N], [-1, 1, 1],
    [1, N, -1], [N, 1, -1], [N, 1, 1], [-1, N, 1], [N, -1, 1],
])  # fmt: skip
ONE = np.array([1, 1, 1, -1, 1, 1, -1, -1, N, -1, 1])
TWO = np.array([1, -1, -1, -1, 1, 1, 1, 1, 1, 1, -1])


def ranked(*order: int):
    """Return priorities that rank principles as given, the first highest."""
    won = np.zeros((len(order), len(order)))
    for i, j in itertools.permutations(range(len(order)), 2):
        won[i, j] = 2.0 if order[i] < order[j] else 1.0
    return priorities(won)


def test_situations():
    found = consensus(S)
    assert np.isnan(found).sum() == 1
    assert (found == 0).sum() == 7
    assert np.abs(np.nan_to_num(found)).sum() == 3


def test_arbitrariness_counts_decided_pairs_with_consensus():
    found = arbitrariness(S, ONE)
    assert (~np.isnan(found)).sum() == 2
    assert np.nanmean(found) == 0.5
    assert np.nanmean(arbitrariness(S, TWO)) == 0.0


def test_supremacy_and_priorities():
    won = wins(S, ONE)
    assert won.tolist() == [[0, 1, 1], [2, 0, 1], [2, 2, 0]]
    assert supremacy(won)[np.triu_indices(3, 1)] == pytest.approx([1 / 3] * 3)
    assert priorities(won).strength == pytest.approx([-0.468206, 0, 0.468206], abs=1e-6)


def test_who_always_wins_has_no_finite_priority_and_the_highest_rank():
    won = wins(S, TWO)
    assert won.tolist() == [[0, 0, 1], [3, 0, 3], [2, 0, 0]]
    found = priorities(won)
    assert found.strength[1] == np.inf
    assert found.strength[2] - found.strength[0] == pytest.approx(np.log(2))
    assert list(np.argsort(-found.order)) == [1, 2, 0]
    assert discrepancy(priorities(wins(S, ONE)), found) == pytest.approx(1 / 3)


def test_two_principles_and_elo():
    found = priorities(np.array([[0, 7.0], [3, 0]]))
    assert found.strength == pytest.approx([np.log(7 / 3) / 2, -np.log(7 / 3) / 2])
    assert found.strength[0] == pytest.approx(0.423649, abs=1e-6)
    assert found.elo == pytest.approx([73.6, -73.6], abs=0.05)


def test_discrepancy_of_rankings():
    assert discrepancy(ranked(1, 2, 3, 4, 5), ranked(2, 1, 3, 5, 4)) == pytest.approx(0.2)
    assert discrepancy(ranked(1, 2, 3, 4, 5), ranked(5, 4, 3, 2, 1)) == pytest.approx(1)
    assert discrepancy(ranked(1, 2, 3), ranked(1, 2, 3)) == pytest.approx(0)


def test_the_rule_of_decision():
    found = decide([0.6, 0.3, 0.45, 0.2, 0.1], [0.3, 0.2, 0.1, 0.2, 0.4], [0.1, 0.5, 0.45, 0.1, 0.4])
    assert np.array_equal(found, [1, N, 1, N, -1], equal_nan=True)
    assert np.isnan(decide(0.5, 0.4, 0.1, margin=0.2))


def test_both_orders():
    straight, swapped = [1, 1, -1, N, 1], [-1, 1, 1, 1, N]
    assert np.array_equal(both_orders(straight, swapped), [1, 0, -1, N, N], equal_nan=True)


def test_no_conflict_is_no_priority():
    apart = np.array([[0, 2.0, 0], [1, 0, 0], [0, 0, 0]])
    found = priorities(apart)
    assert np.isnan(found.strength[2])
    assert found.strength[0] == pytest.approx(np.log(2) / 2)
    assert np.isnan(priorities(np.zeros((3, 3))).strength).all()
    assert np.isnan(discrepancy(found, priorities(np.zeros((3, 3)))))


def test_a_total_order_has_only_ends():
    found = priorities(np.triu(np.ones((4, 4)), 1))
    assert list(np.argsort(-found.order)) == [0, 1, 2, 3]
    assert found.strength[0] == np.inf
    assert found.strength[3] == -np.inf


def test_a_group_above_another_is_ordered_inside():
    won = np.array([[0, 2.0, 1, 1], [1, 0, 1, 1], [0, 0, 0, 3], [0, 0, 1, 0]])
    assert list(np.argsort(-priorities(won).order)) == [0, 1, 2, 3]
    finite = priorities(won, prior_sd=2.0)
    assert np.isfinite(finite.strength).all()
    assert list(np.argsort(-finite.order)) == [0, 1, 2, 3]


def made(seed: int):
    rng = np.random.default_rng(seed)
    table = rng.choice([1.0, -1.0, N, 0.0], size=(60, 5), p=[0.3, 0.3, 0.3, 0.1])
    return table, rng.choice([1.0, -1.0, 0.0, N], size=60, p=[0.5, 0.3, 0.1, 0.1])


@pytest.mark.parametrize("seed", range(5))
def test_what_never_changes(seed):
    table, annotator = made(seed)
    won = wins(table, annotator)
    assert (wins(-table, -annotator) == won).all()
    assert np.array_equal(arbitrariness(-table, -annotator), arbitrariness(table, annotator), equal_nan=True)
    shares = supremacy(won)
    off = ~np.eye(5, dtype=bool) & (won + won.T > 0)
    assert (shares + shares.T)[off] == pytest.approx(1)
    silent = np.column_stack([table, np.full(60, N)])
    assert np.array_equal(consensus(silent), consensus(table), equal_nan=True)
    twice = wins(np.vstack([table, table]), np.concatenate([annotator, annotator]))
    assert (twice == 2 * won).all()
    assert priorities(twice).strength == pytest.approx(priorities(won).strength)
    assert (wins(table, annotator, np.full(60, 2.0)) == twice).all()


@pytest.mark.parametrize("seed", range(5))
def test_wins_are_those_of_the_double_loop(seed):
    table, annotator = made(seed)
    expected = np.zeros((5, 5))
    taking_part = np.zeros((60, 5), dtype=bool)
    for (row, decided), i, j in itertools.product(enumerate(annotator), range(5), range(5)):
        if table[row, i] * table[row, j] < 0 and decided in (1, -1):
            expected[i, j] += decided == table[row, i]
            taking_part[row, i] = True
    assert (wins(table, annotator) == expected).all()
    assert (in_conflict(table, annotator) == taking_part).all()


@pytest.mark.parametrize("seed", range(5))
def test_priorities_are_where_the_likelihood_is_highest(seed):
    table, annotator = made(seed)
    won = wins(table, annotator)
    best = priorities(won).strength

    def likelihood(w):
        gaps = w[:, None] - w[None, :]
        return -(won * np.logaddexp(0, -gaps)).sum()

    for step in np.eye(5) * 1e-3:
        assert likelihood(best) > likelihood(best + step)
        assert likelihood(best) > likelihood(best - step)


def test_what_is_refused():
    with pytest.raises(UsageError, match="shape"):
        consensus([1, 2])
    with pytest.raises(UsageError, match="prior_sd"):
        priorities(np.ones((2, 2)), prior_sd=0)
