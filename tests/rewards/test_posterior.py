"""The posterior of a linear reward: known values, what more pairs do, and the elliptical spread."""

from __future__ import annotations

import numpy as np
import pytest

from fairlead.errors import UsageError
from fairlead.rewards.posterior import chance_of_better, elliptical_spread, fit_posterior

PAIRS = [(1, 0), (0, 1), (1, 1), (1, -1)]


def test_known_posterior():
    found = fit_posterior(PAIRS, ridge=1.0)
    assert found.weights == pytest.approx([0.8844667, 0.3011502], abs=1e-7)
    mean, variance = found.mean([3, 3]), found.variance([3, 3])
    assert mean == pytest.approx(3.5568507, abs=1e-6)
    assert variance == pytest.approx(11.3639670, abs=1e-5)
    assert chance_of_better(mean, 0.0) == pytest.approx(0.9722628, abs=1e-6)
    assert chance_of_better(mean, variance) == pytest.approx(0.8208073, abs=1e-6)


def test_the_weights_are_where_the_gradient_is_nothing():
    rng = np.random.default_rng(0)
    pairs = rng.normal(size=(40, 5))
    found = fit_posterior(pairs, ridge=0.3)
    chance = 1 / (1 + np.exp(-pairs @ found.weights))
    np.testing.assert_allclose(0.3 * found.weights, pairs.T @ (1 - chance), atol=1e-8)
    np.testing.assert_allclose(
        found.precision, (pairs.T * (chance * (1 - chance))) @ pairs + 0.3 * np.eye(5), atol=1e-7
    )


def test_features_of_any_size_are_fitted():
    """Full Newton steps would overshoot here."""
    rng = np.random.default_rng(1)
    pairs = 1e3 * rng.normal(size=(30, 4)) + [2e3, 0, 0, 0]
    found = fit_posterior(pairs, ridge=1e-3)
    assert np.isfinite(found.weights).all()
    assert (pairs @ found.weights > 0).mean() > 0.8


def test_doubt_is_where_no_pair_was():
    found = fit_posterior([(1, 0)] * 50)
    seen, new = found.variance([[1, 0], [0, 1]])
    assert seen < 0.3 < new == pytest.approx(1.0)
    assert fit_posterior([(1, 0)] * 500).variance([1, 0]) < seen


def test_elliptical_spread():
    known = np.array([(1.0, 0.0), (1.0, 0.0), (0.0, 2.0)])
    found = elliptical_spread([[1, 0], [0, 1], [3, 4]], known, ridge=1.0)
    assert found == pytest.approx([np.sqrt(1 / 3), np.sqrt(1 / 5), np.sqrt(9 / 3 + 16 / 5)])


def test_what_makes_no_sense():
    for bad in ([], [1.0, 2.0]):
        with pytest.raises(UsageError, match="shape"):
            fit_posterior(bad)
    with pytest.raises(UsageError, match="ridge"):
        fit_posterior(PAIRS, ridge=0)
