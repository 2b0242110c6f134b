"""Orders of answers: what a judge's line says, and how far two orders agree."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest

from fairlead.synthesis.orders import by_chance, common, order_of, ranks, read_order


def letters(first: str, second: str) -> str:
    known = sorted(first)
    found = common([[known.index(one)] for one in first], [known.index(one) for one in second])
    return "".join(known[i] for i in found)


@pytest.mark.parametrize(
    ("black", "white", "agreed"),
    [
        ("BDAC", "BACD", "BAC"),
        ("ADBC", "BADC", "ADC"),
        ("CADB", "ACDB", "CDB"),
        ("ABCD", "DCBA", "A"),
        ("ABCD", "ABCD", "ABCD"),
    ],
)
def test_known_agreements(black, white, agreed):
    assert letters(black, white) == agreed


def test_agreement_is_the_longest_and_of_these_the_highest_ranked():
    rng = random.Random(0)
    for _ in range(150):
        n = rng.randint(1, 6)
        first, second = (rng.sample(range(n), n) for _ in range(2))
        runs = [
            run
            for size in range(1, n + 1)
            for run in itertools.combinations(first, size)
            if [one for one in second if one in run] == list(run)
        ]
        longest = max(map(len, runs))
        best = min((run for run in runs if len(run) == longest), key=lambda run: [first.index(one) for one in run])
        assert common([[one] for one in first], second) == list(best)


def test_of_equals_at_most_one_agrees():
    assert common([[0, 1], [2]], [0, 1, 2]) == [0, 2]
    assert common([[0, 1], [2, 3]], [3, 1, 0, 2]) == [0, 2]
    assert common([[0, 1, 2]], [2, 1, 0]) == [0]
    assert common([], []) == []


@pytest.mark.parametrize("sizes", [(1,), (1,) * 3, (1,) * 4, (1,) * 5, (2, 1), (1, 2, 1), (3, 1), (2, 2), (1, 3, 2)])
def test_chance_is_the_mean_over_all_orders(sizes):
    numbers = iter(range(sum(sizes)))
    order = [[next(numbers) for _ in range(size)] for size in sizes]
    lengths = [len(common(order, other)) for other in itertools.permutations(range(sum(sizes)))]
    assert by_chance(order) == pytest.approx(sum(lengths) / len(lengths))
    if sizes == (1, 1, 1, 1):
        assert by_chance(order) == pytest.approx(2.41666667)
        assert Counter(lengths)[4] == 1
        assert sum(length >= 3 for length in lengths) == 10


@pytest.mark.parametrize(
    ("reply", "order"),
    [
        ("B > A > C > D", [[1], [0], [2], [3]]),
        ("B>A=C>D", [[1], [0, 2], [3]]),
        ("Order: [B] > [A], (C) D.", [[1], [0], [2], [3]]),
        ("So the final ranking is **B > A > C > D**.", [[1], [0], [2], [3]]),
        ("1. B\n2. A\n\n3. C\n4. D", [[1], [0], [2], [3]]),
        ("1. B 2. A 3. C 4. D", [[1], [0], [2], [3]]),
        ("Best: B\nthen: A = D\nworst: C", [[1], [0, 3], [2]]),
        ("D > C > B > A\nOn second thought:\nA > B > C > D", [[0], [1], [2], [3]]),
        ("A is a good answer, and B is not.\nA > B > C > D\nI hope that helps.", [[0], [1], [2], [3]]),
        ("A = B = C = D", [[0, 1, 2, 3]]),
    ],
)
def test_orders_are_read(reply, order):
    assert read_order(reply, "ABCD").value == order


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        ("", "empty"),
        ("I like all of them.", "no verdict"),
        ("A < B < C < D", "no verdict"),
        ("I rank A above B", "no verdict"),
        ("A > B > C", "incomplete"),
        ("A > B > C > E", "off the scale"),
        ("A > B > C > B > D", "several verdicts"),
        ("A > B > C > D\nB > A", "incomplete"),
        ("1. ABCD", "no verdict"),
    ],
)
def test_what_is_no_order_is_not_guessed_at(reply, problem):
    found = read_order(reply, "ABCD")
    assert found.value is None
    assert found.problem == problem


def test_scores_of_an_order():
    assert order_of([0.5, 2.0, -1.0, 2.0]) == [[1, 3], [0], [2]]
    assert ranks([[1, 3], [0], [2]]) == [2, 3, 1, 3]
    assert order_of([-p for p in (-0.9, -0.4, -1.6, -0.7)]) == [[2], [0], [3], [1]]
