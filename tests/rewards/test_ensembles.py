"""Careful values of ensembles and the split of their doubt: known answers and properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.errors import UsageError
from fairlead.rewards.ensembles import careful_values, split_entropy, standardised

MEMBERS = [[1, 0.8, 0.2], [0.9, 1.5, 0.3], [1.1, 0.1, 0.25], [1, 1.4, 0.25]]


def test_known_careful_values():
    found = careful_values(MEMBERS, deviations=1, variance_weight=0.5)
    assert found.mean == pytest.approx([1, 0.95, 0.25])
    assert found.sd == pytest.approx([0.0816497, 0.6454972, 0.0408248], abs=1e-7)
    assert found.lcb == pytest.approx([0.9183503, 0.3045028, 0.2091752], abs=1e-7)
    assert found.worst == pytest.approx([0.9, 0.1, 0.2])
    assert found.penalised == pytest.approx([0.9975, 0.79375, 0.249375])


def test_members_on_other_scales_become_comparable():
    rng = np.random.default_rng(0)
    known, values, offset = rng.normal(size=(1, 9, 2)), rng.normal(size=(1, 5, 2)), 7 * rng.normal(size=(9, 1))
    scales = np.array([1.0, 10.0, 0.01])[:, None, None]
    found = standardised(scales * values, scales * (known + offset))
    assert found[1] == pytest.approx(found[0])
    assert found[2] == pytest.approx(found[0])
    assert standardised([[6.0]], [[[1.0, 5.0], [2.0, 4.0], [math.nan, 9.0]]]) == pytest.approx(6 / math.sqrt(5))
    for blind in ([[4.0, 4.0], [5.0, 5.0]], [[4.0], [5.0]], [[4.0, math.nan]]):
        with pytest.raises(UsageError, match="member 0 does not tell"):
            standardised(np.ones((1, 3)), [blind])


def test_an_answer_that_a_member_does_not_value_has_no_value():
    found = careful_values([[1.0, 2.0], [math.nan, 3.0]])
    for values in (found.mean, found.sd, found.lcb, found.worst, found.penalised):
        assert np.isnan(values).tolist() == [True, False]


def test_one_member_is_no_ensemble():
    with pytest.raises(UsageError, match="two"):
        careful_values([[1.0, 2.0]])


def test_known_split_of_an_entropy():
    total, aleatoric, epistemic = split_entropy([2, -1, 0.5])
    assert total == pytest.approx(0.6765908, abs=1e-7)
    assert aleatoric == pytest.approx(0.5367948, abs=1e-7)
    assert epistemic == pytest.approx(0.1397960, abs=1e-7)


def test_members_that_agree_leave_nothing_epistemic():
    total, aleatoric, epistemic = split_entropy([[0.0, 3.0, -800.0]] * 4)
    assert total == pytest.approx(aleatoric)
    assert total[0] == pytest.approx(math.log(2))
    assert epistemic == pytest.approx([0, 0, 0])


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=8))
def test_the_parts_make_the_whole(margins):
    total, aleatoric, epistemic = split_entropy(margins)
    assert total == pytest.approx(aleatoric + epistemic, abs=1e-12)
    assert 0 <= epistemic <= total + 1e-12 <= math.log(2) + 2e-12
    other = split_entropy([-margin for margin in margins])
    assert other == pytest.approx((total, aleatoric, epistemic))
