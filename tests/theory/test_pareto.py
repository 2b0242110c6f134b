"""Fronts and hypervolumes: known answers, dominated points, and volumes counted by throwing darts."""

from __future__ import annotations

import numpy as np
import pytest

from fairlead.errors import UsageError
from fairlead.theory.pareto import hypervolume, pareto_front


def test_known_volumes():
    assert hypervolume([(1, 3), (2, 2), (3, 1)], (0, 0)) == pytest.approx(6)
    assert hypervolume([(2, 4), (3, 3), (1, 1)], (0, 0)) == pytest.approx(11)
    assert hypervolume([(1, 2, 3), (3, 1, 2)], (0, 0, 0)) == pytest.approx(10)
    assert hypervolume([(2.0,), (3.0,)], (1.0,)) == pytest.approx(2)


def test_only_points_above_the_reference_cover_anything():
    assert hypervolume([(1, 3), (0, 5), (5, -1)], (0, 0)) == pytest.approx(3)
    assert hypervolume([(1, 1)], (2, 0)) == 0
    assert hypervolume(np.zeros((0, 2)), (0, 0)) == 0
    assert hypervolume([(2, 2)], (-1, -1)) == pytest.approx(9)


@pytest.mark.parametrize("dimensions", [2, 3, 4, 5])
def test_volumes_agree_with_counted_darts(dimensions):
    rng = np.random.default_rng(dimensions)
    points = rng.random((7, dimensions))
    darts = rng.random((40_000, dimensions))
    hit = (darts[:, None] <= points[None]).all(-1).any(1).mean()
    assert hypervolume(points, np.zeros(dimensions)) == pytest.approx(hit, abs=4 * np.sqrt(0.25 / len(darts)))


def test_neither_order_nor_dominated_points_nor_copies_matter():
    rng = np.random.default_rng(0)
    points = rng.random((9, 3))
    volume = hypervolume(points, (0, 0, 0))
    assert hypervolume(points[rng.permutation(9)], (0, 0, 0)) == pytest.approx(volume)
    assert hypervolume(points[:, [2, 0, 1]], (0, 0, 0)) == pytest.approx(volume)
    assert hypervolume(points[pareto_front(points)], (0, 0, 0)) == pytest.approx(volume)
    assert hypervolume(np.concatenate([points, points, points * 0.5]), (0, 0, 0)) == pytest.approx(volume)


def test_the_front():
    assert pareto_front([(1, 3), (2, 2), (3, 1), (1, 1), (2, 1)]).tolist() == [True, True, True, False, False]
    assert pareto_front([(1, 1), (1, 1)]).tolist() == [True, True]
    assert pareto_front(np.zeros((0, 2))).tolist() == []


@pytest.mark.parametrize(("points", "reference"), [([1.0, 2.0], (0,)), ([(1, 2)], (0,)), ([(np.nan, 1)], (0, 0))])
def test_bad_shapes_are_refused(points, reference):
    with pytest.raises(UsageError):
        hypervolume(points, reference)
