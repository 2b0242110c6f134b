"""The greedy log-determinant: as by hand, unlike rows first, gains that never grow."""

from __future__ import annotations

import numpy as np
import pytest

from fairlead.selection.logdet import greedy_logdet


def by_hand(rows, number, noise):
    def value(places):
        return np.linalg.slogdet(np.eye(len(places)) + rows[places] @ rows[places].T / noise)[1]

    kept, gains = [], []
    for _ in range(number):
        free = [i for i in range(len(rows)) if i not in kept]
        best = max(free, key=lambda i: (round(value([*kept, i]), 9), -i))
        gains.append(value([*kept, best]) - (value(kept) if kept else 0.0))
        kept.append(best)
    return kept, gains


@pytest.mark.parametrize("noise", [0.1, 1.0])
def test_the_greedy_choice_is_that_of_determinants(noise):
    rows = np.random.default_rng(0).normal(size=(25, 4))
    places, gains = greedy_logdet(rows, 12, noise)
    wanted, wanted_gains = by_hand(rows, 12, noise)
    assert places.tolist() == wanted
    assert gains == pytest.approx(wanted_gains, abs=1e-9)
    assert (np.diff(gains) <= 1e-12).all()


def test_copies_come_last():
    rows = np.array([[1.0, 0, 0]] * 5 + [[0, 1.0, 0], [0, 0, 1.0]])
    assert greedy_logdet(rows, 4)[0].tolist() == [0, 5, 6, 1]
