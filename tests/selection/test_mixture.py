"""Mixtures: planted ones found again, labels, shapes of covariance, equal rows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from fairlead.selection.mixture import Mixture, fit_mixture, mixture_of_labels, refine


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(0, 1, (300, 2)) * [1, 3], rng.normal(6, 0.5, (100, 2))])


def test_a_planted_mixture_is_found(rows):
    found = fit_mixture(rows)
    assert found.weights == pytest.approx([0.75, 0.25], abs=0.01)
    assert found.means == pytest.approx(np.array([[0, 0], [6, 6]]), abs=0.3)
    assert np.diag(found.covariances[0]) == pytest.approx([1, 9], rel=0.15)
    assert (found.responsibilities(rows).argmax(1) == np.repeat([0, 1], [300, 100])).mean() > 0.98


def test_densities_are_those_of_the_formula(rows):
    found = fit_mixture(rows)
    density = sum(
        w * multivariate_normal(m, c).pdf(rows) for w, m, c in zip(found.weights, found.means, found.covariances)
    )
    assert found.log_density(rows) == pytest.approx(np.log(density), abs=1e-9)
    assert found.responsibilities(rows).sum(1) == pytest.approx(np.ones(400))


def test_a_step_never_costs_likelihood(rows):
    mixture = Mixture(np.array([0.5, 0.5]), np.array([[1.0, 0], [-1.0, 0]]), np.stack([np.eye(2)] * 2))
    gains = []
    for _ in range(12):
        gains.append(mixture.log_density(rows).mean())
        mixture = refine(rows, mixture, steps=1)
    assert (np.diff(gains) > -1e-9).all()


def test_components_of_labels(rows):
    labels = np.repeat([1, 0], [300, 100])
    found = mixture_of_labels(rows, labels)
    assert found.weights == pytest.approx([0.25, 0.75])
    assert found.means[1] == pytest.approx(rows[:300].mean(0))
    assert found.covariances[1] == pytest.approx(np.cov(rows[:300].T, bias=True), abs=1e-5)


@pytest.mark.parametrize(("form", "numbers"), [("full", 4), ("diag", 2), ("spherical", 2)])
def test_forms_of_covariance(rows, form, numbers):
    (spread,) = fit_mixture(rows, 1, covariance=form).covariances
    assert np.count_nonzero(np.abs(spread) > 1e-9) == numbers
    assert np.trace(spread) == pytest.approx(np.trace(np.cov(rows.T, bias=True)), rel=1e-5)
    assert (form == "spherical") == (spread[0, 0] == spread[1, 1])


def test_equal_rows_have_a_density():
    found = fit_mixture(np.ones((6, 3)), 4)
    assert len(found.weights) == 1
    assert np.isfinite(found.log_density(np.ones((6, 3)))).all()
