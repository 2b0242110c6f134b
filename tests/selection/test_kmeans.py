"""Clusters: found where they are, in a fixed order, fewer where fewer rows differ."""

from __future__ import annotations

import numpy as np

from fairlead.selection.kmeans import far_apart, kmeans


def test_clusters_are_found_the_largest_first():
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(c, 0.1, (n, 3)) for c, n in ((0.0, 30), (5.0, 50), (-5.0, 20))])
    labels, centres = kmeans(rows, 3)
    assert labels.tolist() == [1] * 30 + [0] * 50 + [2] * 20
    assert np.allclose(centres, np.array([[5.0], [0.0], [-5.0]]), atol=0.1)
    assert np.allclose(centres, [rows[labels == k].mean(0) for k in range(3)])


def test_equal_rows_are_one_cluster():
    rows = np.array([[1.0, 2.0]] * 4 + [[3.0, 2.0]])
    labels, centres = kmeans(rows, 4)
    assert labels.tolist() == [0, 0, 0, 0, 1]
    assert centres.tolist() == [[1.0, 2.0], [3.0, 2.0]]
    assert len(far_apart(rows[:4], 3, np.random.default_rng(0))) == 1
