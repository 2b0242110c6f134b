"""Entropies and their changes: known answers, and closed forms against leaving out and counting again."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fairlead.selection.entropy import (
    changes_of_discrete,
    changes_of_gaussian,
    changes_of_refit,
    changes_when_fixed,
    kernel_surprisal,
    rank_correlation,
)
from fairlead.selection.mixture import Mixture, fit_mixture, maximised, refine

TWO = Mixture(np.array([0.5, 0.5]), np.array([[0.0], [4.0]]), np.ones((2, 1, 1)))


def column(*values):
    return np.array(values, np.float64)[:, None]


def test_a_known_mixture():
    surprisal = -TWO.log_density(column(-1, 0, 1, 4))
    assert surprisal == pytest.approx([2.112080, 1.611750, 2.093936, 1.611750], abs=1e-6)
    entropy, change = changes_when_fixed(surprisal)
    assert entropy == pytest.approx(1.857379, abs=1e-6)
    assert change == pytest.approx([0.084900, -0.081876, 0.078852, -0.081876], abs=1e-6)


def test_fixed_changes_are_those_of_leaving_out():
    surprisal = np.random.default_rng(0).exponential(size=200)
    entropy, change = changes_when_fixed(surprisal)
    left_out = [entropy - np.delete(surprisal, i).mean() for i in range(200)]
    assert np.abs(change - left_out).max() < 1e-12
    assert abs(change.sum()) < 1e-12


def test_a_known_gaussian():
    entropy, change = changes_of_gaussian(column(0, 1, 2, 3, 10))
    assert entropy == pytest.approx(2.684197, abs=1e-6)
    assert change == pytest.approx([0.002394, -0.060922, -0.097031, -0.111174, 1.153687], abs=1e-6)


def gaussian_entropy(rows):
    return 0.5 * (rows.shape[1] * math.log(2 * math.pi * math.e) + np.linalg.slogdet(np.cov(rows.T, bias=True))[1])


def test_gaussian_changes_are_those_of_fitting_again():
    rows = np.random.default_rng(1).normal(size=(50, 3)) @ np.diag([1, 2, 9])
    entropy, change = changes_of_gaussian(rows)
    again = [gaussian_entropy(rows) - gaussian_entropy(np.delete(rows, i, 0)) for i in range(50)]
    assert entropy == pytest.approx(gaussian_entropy(rows), abs=1e-12)
    assert np.abs(change - again).max() < 1e-12


def test_a_step_of_fitting_again_with_one_component_is_exact():
    rows = np.random.default_rng(2).normal(size=(40, 2))
    entropy, change = changes_of_refit(rows, maximised(rows, np.ones((40, 1)), ridge=0.0))
    assert (entropy, change) == (pytest.approx(gaussian_entropy(rows)), pytest.approx(changes_of_gaussian(rows)[1]))


def test_a_step_of_fitting_again_agrees_with_full_fits():
    rng = np.random.default_rng(3)
    rows = np.concatenate([rng.normal(0, 1, (150, 3)), rng.normal(3, 1, (100, 3))])
    mixture = fit_mixture(rows, tolerance=1e-12)
    entropy, change = changes_of_refit(rows, mixture)
    before = -mixture.log_density(rows).mean()
    assert entropy == pytest.approx(before, abs=1e-5)
    full = []
    for i in range(0, 250, 10):
        rest = np.delete(rows, i, 0)
        full.append(before + refine(rest, mixture, tolerance=1e-12, steps=1000).log_density(rest).mean())
    assert np.abs(change[::10] - full).max() < 0.005 * np.abs(change).max()


def test_a_known_discrete_entropy():
    shares = np.array([1 / 2, 1 / 4, 1 / 8, 1 / 8])
    entropy, change = changes_of_discrete(np.log(shares) - 300)
    assert entropy == pytest.approx(1.213008, abs=1e-6)
    assert entropy == pytest.approx(1.75 * math.log(2))
    for i in range(4):
        rest = np.delete(shares, i) / np.delete(shares, i).sum()
        assert change[i] == pytest.approx(entropy + (rest * np.log(rest)).sum())
    assert changes_of_discrete(np.zeros(1))[1].tolist() == [0.0]


def test_a_kernel_density_is_that_of_the_formula():
    from scipy.stats import norm

    values = np.random.default_rng(4).normal(size=1500)
    width = values.std() * 1500 ** (-1 / 5)
    density = norm.pdf((values[:5, None] - values) / width).mean(1) / width
    assert kernel_surprisal(values[:, None])[:5] == pytest.approx(-np.log(density), abs=1e-9)
    assert np.isfinite(kernel_surprisal(np.ones((3, 2)))).all()


def test_rank_correlation():
    assert rank_correlation(np.array([1.0, 2, 3]), np.array([1.0, 8, 27])) == pytest.approx(1)
    assert rank_correlation(np.array([1.0, 2, 3]), np.array([3.0, 2, 1])) == pytest.approx(-1)
    assert math.isnan(rank_correlation(np.ones(3), np.arange(3.0)))
