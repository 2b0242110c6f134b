"""The order of the data is a pure function of seed and step; passes share a step out among ranks."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.forward.layout import Branch, Group, tokens
from fairlead.training.order import Order, split


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 9), st.sampled_from([0.5, 1.0, 2.0, 2.5]), st.integers(0, 5))
def test_epochs(groups, batch_size, epochs, seed):
    order = Order(groups, batch_size, epochs, None, seed)
    stream = [i for step in range(order.steps) for i in order.at(step)]
    assert len(stream) == order.total == max(1, round(groups * epochs))
    for start in range(0, len(stream) - groups + 1, groups):
        assert sorted(stream[start : start + groups]) == list(range(groups))
    assert all(order.at(step) == Order(groups, batch_size, epochs, None, seed).at(step) for step in range(order.steps))
    assert Counter(stream).most_common(1)[0][1] <= -(-len(stream) // groups)


def test_seeds_and_epochs_differ():
    first, second = Order(50, 50, 2, None, 0), Order(50, 50, 2, None, 1)
    assert first.at(0) != first.at(1)
    assert first.at(0) != second.at(0)


def test_steps_override_epochs():
    order = Order(3, 2, 1.0, 7, 0)
    assert order.steps == 7
    assert all(len(order.at(step)) == 2 for step in range(7))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(2, 60), min_size=1, max_size=12), st.integers(1, 200), st.integers(1, 4))
def test_ranks_share_a_step(sizes, budget, ranks):
    groups = [
        Group(str(k), np.zeros(1, dtype=int), (Branch(np.zeros(n - 1, dtype=int), np.ones(n - 1, dtype=bool)),))
        for k, n in enumerate(sizes)
    ]
    shares = [split(groups, budget, "shared", rank=rank, ranks=ranks) for rank in range(ranks)]
    assert len({len(share) for share in shares}) == 1
    counted = [i for share in shares for one in share if one.counts for i in one.groups]
    assert sorted(counted) == list(range(len(groups)))
    for share in shares:
        for one in share:
            assert len(one.groups) == 1 or sum(tokens(groups[i]) for i in one.groups) <= budget
