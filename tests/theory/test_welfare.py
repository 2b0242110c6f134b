"""Social choice over groups: known answers, weights, circles."""

from __future__ import annotations

import numpy as np
import pytest

from fairlead.errors import UsageError
from fairlead.theory.welfare import agreement_weights, cycles, welfare


def test_three_rules_on_paper():
    found = welfare([[1, 0, 0.6], [0, 1, 0.6]], (0.6, 0.4))
    assert found.utilitarian == pytest.approx((0.6, 0.4, 0.6))
    assert found.rawlsian == pytest.approx((0, 0, 0.6))
    assert found.winners() == {"utilitarian": (0, 2), "rawlsian": (2,), "nash": (2,)}


def test_who_counts_for_how_much():
    found = agreement_weights((0.6, 0.3, 0.1), (0.9, 0.8, 0.2))
    assert found["equal"] == pytest.approx((1 / 3,) * 3)
    assert found["agreement"] == pytest.approx(np.array((0.54, 0.24, 0.02)) / 0.8)
    assert found["worst"] == pytest.approx((0, 0, 1))
    assert all(weights.sum() == pytest.approx(1) for weights in found.values())
    # Weighting by agreement takes weight from those who agree least.
    assert found["agreement"][2] < found["population"][2]


def test_a_circle_is_found_and_an_order_is_none():
    third = 1 / 3
    circle = [[0.5, 1 - third, third], [third, 0.5, 1 - third], [1 - third, third, 0.5]]
    assert cycles(circle) == [(0, 1, 2)]
    assert cycles([[0.5, 0.7, 0.9], [0.3, 0.5, 0.6], [0.1, 0.4, 0.5]]) == []
    # Two circles, joined one way; options 4 and 5 were never compared, nor tied.
    table = np.full((6, 6), np.nan)
    for a, b in ((0, 1), (1, 2), (2, 0), (0, 3)):
        table[a, b], table[b, a] = 0.8, 0.2
    table[4, 5] = table[5, 4] = 0.5
    assert cycles(table) == [(0, 1, 2)]


@pytest.mark.parametrize(
    "call",
    [
        lambda: welfare([[1, 2]], (0.5, 0.5)),
        lambda: welfare([[1, -1], [0, 1]], (0.5, 0.5)),
        lambda: agreement_weights((0.5, 0.5), (1.2, 0.1)),
        lambda: agreement_weights((0.5, 0.5), (0, 0)),
        lambda: cycles([[0.5, 0.5]]),
    ],
)
def test_what_makes_no_sense_is_refused(call):
    with pytest.raises(UsageError):
        call()
