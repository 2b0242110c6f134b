"""Drawn by id and seed: the same sample again, another one for another seed, and a share of about the size asked."""

from __future__ import annotations

from fairlead.records import PromptOnly
from fairlead.selection.random_sample import RandomSample

POOL = [PromptOnly(f"row-{k}", "q") for k in range(1000)]


def test_a_sample_is_that_of_its_seed():
    first, again, other = (RandomSample(keep=50, seed=seed)(POOL).indices.tolist() for seed in (1, 1, 2))
    assert first == again
    assert len(set(first) & set(other)) < 15


def test_every_record_has_the_same_chance():
    counts = [0] * 10
    for seed in range(200):
        for i in RandomSample(keep=100, seed=seed)(POOL).indices:
            counts[i // 100] += 1
    assert all(1800 < count < 2200 for count in counts)


def test_records_that_join_leave_the_others_in_order():
    few = [POOL[i].id for i in RandomSample(keep=1000)(POOL[:500]).indices]
    many = [POOL[i].id for i in RandomSample(keep=1000)(POOL).indices]
    assert few == [name for name in many if name in set(few)]
