"""Numbers about questionnaires and values, worked out by hand or in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fairlead.errors import UsageError
from fairlead.evaluation.value_measures import (
    acquiescence,
    agreement,
    certainty,
    circle,
    consistency,
    cosine,
    cronbach_alpha,
    divergence,
    geometric_mean,
    group_exact_match,
    label_prior,
    linear_reward,
    reversed_score,
    target_reward,
    transitivity,
    utilities,
    without_prior,
)

CONTENT, BIAS = np.array([0.2, 1.0, -0.5]), np.array([1.5, 0.0, -0.5])


def softmax(z):
    weights = np.exp(z)
    return weights / weights.sum()


def rotations():
    """P(label) with the contents rotated by 0, 1, 2 places: label j stands for content (j + turn) mod 3."""
    return np.array([softmax(np.roll(CONTENT, -turn) + BIAS) for turn in range(3)])


def test_certainty_and_score_of_an_item():
    z = np.array([-2.3, -1.1, -0.9, -3.0, -4.2])
    p = softmax(z)
    assert p == pytest.approx([0.110847, 0.368024, 0.449505, 0.055045, 0.016579], abs=1e-6)
    assert p @ np.arange(1, 6) == pytest.approx(2.498486, abs=1e-6)
    assert np.exp(z).sum() == pytest.approx(0.904482, abs=1e-6)
    assert certainty(p) == pytest.approx(0.255204, abs=1e-6)


def test_a_prior_of_labels_is_taken_out_exactly():
    observed = rotations()
    assert observed[0] == pytest.approx([0.639472, 0.317552, 0.042976], abs=1e-6)
    prior = label_prior(observed)
    assert prior == pytest.approx([0.736125, 0.164252, 0.099624], abs=1e-6)
    assert without_prior(observed[0], prior) == pytest.approx([0.268664, 0.597922, 0.133414], abs=1e-6)
    assert without_prior(observed[0], prior) == pytest.approx(softmax(CONTENT))
    by_content = np.array([np.roll(row, turn) for turn, row in enumerate(observed)])
    assert by_content.mean(0) == pytest.approx([0.304262, 0.504331, 0.191407], abs=1e-6)
    assert geometric_mean(by_content) == pytest.approx(softmax(CONTENT))


def test_consistency_of_variants():
    variants = [(0.7, 0.2, 0.1), (0.5, 0.3, 0.2), (0.1, 0.6, 0.3)]
    assert divergence(variants) == pytest.approx(0.205344, abs=1e-6)
    assert 1 - consistency(variants) == pytest.approx(0.129557, abs=1e-6)
    assert consistency(variants) == pytest.approx(0.870443, abs=1e-6)
    assert consistency([variants[0]] * 4) == pytest.approx(1)
    assert consistency([(1.0, 0.0, 0.0), (0.0, 1.0, 0.0)]) == pytest.approx(0)
    assert math.isnan(consistency([variants[0]]))


def test_agreement_with_people():
    assert agreement((0.1, 0.2, 0.4, 0.3), [0.25] * 4) == pytest.approx(0.866667, abs=1e-6)
    assert agreement((1, 0, 0, 0), (0, 0, 0, 1)) == pytest.approx(0)
    assert agreement((0.5, 0.5, 0, 0), (0, 0.5, 0.5, 0)) == pytest.approx(0.666667, abs=1e-6)
    with pytest.raises(UsageError, match="options"):
        agreement((1, 0), (1, 0, 0))


def test_alpha():
    table = [(4, 5, 4), (2, 3, 2), (5, 5, 4), (3, 2, 3), (1, 2, 1)]
    assert cronbach_alpha(table) == pytest.approx(0.949153, abs=1e-6)
    assert cronbach_alpha([*table, (1, np.nan, 5)]) == pytest.approx(0.949153, abs=1e-6)
    assert math.isnan(cronbach_alpha(table[:1]))
    assert math.isnan(cronbach_alpha([(1, 2), (1, 2)]))


def test_groups_match_as_a_whole():
    truth = [[1, 0, 0, 1], [1, 1, 0, 0], [0, 1, 0, 1]]
    said = [[1, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 1]]
    assert group_exact_match(truth, said) == pytest.approx((0.916667, 0.666667), abs=1e-6)
    with pytest.raises(UsageError, match="unequal"):
        group_exact_match([[1]], [[1, 0]])


def test_dilemmas():
    first, second, chances = (0, 1, 0, 2, 0), (1, 2, 2, 1, 1), (0.8, 0.7, 0.95, 0.4, 0.6)
    assert utilities(first, second, chances) == pytest.approx([0.974120, -0.082302, -0.891818], abs=1e-6)
    assert utilities(first, second, chances, l2=1.0) == pytest.approx([0.427227, -0.040996, -0.386231], abs=1e-6)


def test_cycles():
    assert transitivity([[0, 1, 1], [0, 0, 1], [0, 0, 0]]) == 1.0
    assert transitivity([[0, 1, 0], [0, 0, 1], [1, 0, 0]]) == 0.0
    assert math.isnan(transitivity([[0, 1, 0], [0, 0, 0], [0, 0, 0]]))
    rng = np.random.default_rng(0)
    lead = np.triu(rng.integers(0, 2, (60, 60)), 1)
    random = lead + np.tril(1 - lead.T, -1)
    assert transitivity(random) == pytest.approx(0.75, abs=0.03)


def test_rewards_of_values():
    one, two = (1, 0, 1), (0, 1, -1)
    assert [linear_reward(v, (0.5, 0.3, -0.2)) for v in (one, two)] == pytest.approx([0.3, 0.5])
    assert [target_reward(v, (1, 1, -1)) for v in (one, two)] == pytest.approx([-5, -1])
    assert target_reward((np.nan, 0, 1), (1, 1, -1)) == pytest.approx(-5)
    assert target_reward((1, np.nan, 1), (1, 1, -1)) == pytest.approx(-4)


def test_reversal_and_acquiescence():
    assert reversed_score([1, 4], 1, 5).tolist() == [5, 2]
    assert acquiescence([5, 3, 1], [5, 3, 5], 1, 5).tolist() == [1.0, 0.0, 0.0]


def test_a_wave_around_the_circle():
    angles = 2 * np.pi * np.arange(10) / 10
    direction, fit = circle(1.3 * np.cos(angles - np.pi / 2))
    assert (direction, fit) == pytest.approx((90, 1))
    assert circle([1, -1] * 5)[1] == pytest.approx(0)
    assert math.isnan(circle(np.zeros(10))[1])


def test_cosine():
    assert cosine([1, 0], [0, 2]) == 0
    assert math.isnan(cosine([0, 0], [1, 1]))
