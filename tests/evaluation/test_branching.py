"""Estimators of the branching factor against worked examples and a source whose entropy is known."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from fairlead.evaluation.branching import by_position, entropy_bf, nll_bf, prefix_bf, rate_bf, slope, window_bf

LN2, LN4 = math.log(2), math.log(4)
TWO = [np.array([LN4, LN2, 0.0]), np.array([LN4, 0.0])]
MARKOV = np.array([[0.9, 0.1], [0.4, 0.6]])


def markov_entropies(steps: int) -> np.ndarray:
    """Entropy of each step of the two-state source that starts in state 0, float64 [steps]."""
    state, found = np.array([1.0, 0.0]), []
    for _ in range(steps):
        found.append(float(state @ -(MARKOV * np.log(MARKOV)).sum(1)))
        state = state @ MARKOV
    return np.array(found)


def markov_samples(count: int, steps: int) -> list[np.ndarray]:
    """Log-probs of sampled chains, float64 [steps] each."""
    rng, found = np.random.default_rng(5), []
    for _ in range(count):
        state, own = 0, []
        for _ in range(steps):
            following = int(rng.random() < MARKOV[state, 1])
            own.append(math.log(MARKOV[state, following]))
            state = following
        found.append(np.array(own))
    return found


@pytest.mark.parametrize("lengths", [[1], [3, 7], [60, 60, 200]])
def test_eight_equal_tokens_and_one_sure_token(lengths):
    even = [np.full(n, math.log(8)) for n in lengths]
    assert entropy_bf(even) == pytest.approx(8)
    assert nll_bf([-sample for sample in even]) == pytest.approx(8)
    assert rate_bf(even) == pytest.approx(8)
    assert entropy_bf([np.zeros(n) for n in lengths]) == nll_bf([np.zeros(n) for n in lengths]) == 1


def test_every_sample_weighs_the_same_or_every_position_does():
    assert entropy_bf(TWO) == pytest.approx(2.0, abs=1e-12)
    by_place = prefix_bf(TWO, min_samples=1, length_quantile=1.0)
    assert np.exp(by_position(TWO)[0]) == pytest.approx([4, 1.414214, 1], abs=1e-6)
    assert by_place[-1] == pytest.approx(1.781797, abs=1e-6)
    assert by_place[0] == pytest.approx(4)


def test_a_curve_ends_where_few_samples_reach():
    assert len(prefix_bf(TWO, min_samples=2, length_quantile=1.0)) == 2
    assert len(prefix_bf(TWO, min_samples=4)) == 0
    many = [np.ones(10)] * 19 + [np.ones(30)]
    assert len(prefix_bf(many, min_samples=1)) == 11
    assert len(prefix_bf(many, min_samples=1, length_quantile=1.0)) == 30


@pytest.mark.parametrize(
    ("steps", "factor"), [(1, 1.384145), (2, 1.408435), (5, 1.444415), (50, 1.479768), (200, 1.482860)]
)
def test_the_markov_source_is_the_known_one(steps, factor):
    assert entropy_bf([markov_entropies(steps)]) == pytest.approx(factor, abs=1e-6)


def test_likelihoods_of_samples_meet_the_exact_branching_factor():
    samples = markov_samples(200, 200)
    assert nll_bf(samples) == pytest.approx(1.482860, abs=0.02)
    assert np.std([sample.mean() for sample in samples]) == pytest.approx(0.055020, rel=0.2)
    assert np.std([sample[:20].mean() for sample in samples]) == pytest.approx(0.172379, rel=0.2)


def test_a_tree_that_stops_early():
    """Four first tokens, one of them the end; a fair coin behind each of the others."""
    answers = [[LN4]] * 2 + [[LN4, LN2]] * 6
    leaves = [(1 / 4, 1)] + [(1 / 8, 2)] * 6
    total = -sum(p * math.log(p) for p, _ in leaves)
    entropies = [np.array(answer) for answer in answers]
    assert total == pytest.approx(1.906155, abs=1e-6)
    assert np.mean([sample.sum() for sample in entropies]) == pytest.approx(total)
    assert math.exp(total) == pytest.approx(6.727171, abs=1e-6)
    assert entropy_bf(entropies) == pytest.approx(3.084422, abs=1e-6)
    assert rate_bf(entropies) == pytest.approx(2.971989, abs=1e-6)


def test_windows_take_exp_of_the_mean_inside_and_then_the_mean_over_samples():
    values, reached = window_bf([np.array([LN4, 0.0, LN2]), np.array([0.0, 0.0, LN4, LN4])], 2)
    assert values == pytest.approx([(2 + 1) / 2, (2 + 4) / 2])
    assert reached.tolist() == [2, 2]
    rng = np.random.default_rng(1)
    samples = [rng.random(n) for n in (1, 4, 5, 6, 23)]
    slow = [[np.exp(np.mean(s[k : k + 5])) for k in range(0, len(s), 5)] for s in samples]
    padded = list(itertools.zip_longest(*slow))
    assert window_bf(samples, 5)[0] == pytest.approx([np.mean([v for v in row if v]) for row in padded])


def test_the_slope_is_of_the_log_per_token():
    assert slope(np.exp(-0.02 * np.arange(8) * 5 + 1), 5) == pytest.approx(-0.02)
    assert math.isnan(slope(np.ones(1), 5))
