"""One reward for all: the circle on paper, an order that fits, and two kinds of people that a mixture tells apart."""

from __future__ import annotations

import numpy as np
import pytest

from fairlead.errors import UsageError
from fairlead.evaluation.preferences.one_reward import mixture_of_rewards, one_reward


def comparisons(people: dict[str, str], labels: int, seed: int = 0):
    """Draw labels of people, each with an order of options, best first; they err one time in ten."""
    rng = np.random.default_rng(seed)
    first, second, points, names = [], [], [], []
    for name, order in people.items():
        for _ in range(labels):
            a, b = rng.choice(list(order), size=2, replace=False).tolist()
            right = order.index(a) < order.index(b)
            first.append(a)
            second.append(b)
            points.append(float(right == (rng.random() < 0.9)))
            names.append(name)
    return first, second, points, names


def test_a_circle_on_paper():
    pairs = [("a", "b"), ("b", "c"), ("c", "a")] * 3
    found = one_reward(*zip(*pairs), [1, 1, 1, 1, 1, 1, 0, 0, 0])
    assert found.fitted == pytest.approx(np.full((3, 3), 0.5))
    assert found.divergence == pytest.approx(0.0566330, abs=1e-7)
    assert found.circles == (("a", "b", "c"),)


def test_an_order_is_said_by_one_reward():
    first, second, points, _ = comparisons({f"p{i}": "abcd" for i in range(30)}, 40)
    found = one_reward(first, second, points)
    assert found.circles == ()
    assert found.divergence < 0.2
    assert np.nanmax(np.abs(found.rates - found.fitted)) < 0.2
    never_lost = one_reward(["a", "a"], ["b", "c"], [1, 1])
    assert any("added" in note for note in never_lost.notes)


def test_two_kinds_of_people_are_told_apart():
    people = {f"x{i}": "abcd" for i in range(12)} | {f"y{i}": "dcba" for i in range(8)}
    found = mixture_of_rewards(*comparisons(people, 40), rewards=2)
    assert found.shares == pytest.approx((0.6, 0.4), abs=0.02)
    assert all(found.follows[name] == (name[0] == "y") for name in people)
    assert found.rewards[0][0] > found.rewards[0][3]
    assert found.rewards[1][0] < found.rewards[1][3]
    assert found.held_out - found.held_out_single > 0.15
    assert found.held_out_single < -0.5


def test_one_kind_of_people_needs_one_reward():
    labels = comparisons({f"p{i}": "abcd" for i in range(20)}, 30)
    found = mixture_of_rewards(*labels, rewards=2)
    assert found.held_out <= found.held_out_single + 0.01
    same = mixture_of_rewards(*labels, rewards=1)
    assert same.held_out == pytest.approx(same.held_out_single, abs=1e-6)
    again = mixture_of_rewards(*labels, rewards=2)
    assert (again.held_out, again.follows) == (found.held_out, found.follows)


def test_what_does_not_fit():
    labels = comparisons({"p": "ab", "q": "ab"}, 5)
    with pytest.raises(UsageError, match="3 rewards for 2 people"):
        mixture_of_rewards(*labels, rewards=3)
    with pytest.raises(UsageError, match="held out"):
        mixture_of_rewards(*labels, held_out=0.0)
    with pytest.raises(UsageError, match="one of each"):
        mixture_of_rewards(["a"], ["b"], [1.0], [])
    with pytest.raises(UsageError, match="none of 1"):
        mixture_of_rewards(["a"], ["b"], [float("nan")], ["p"])
    islands = (["a"] * 9 + ["c"] * 9, ["b"] * 9 + ["d"] * 9, [1.0, 0.0, 1.0] * 6, list("pq" * 9))
    with pytest.raises(UsageError, match="joins"):
        mixture_of_rewards(*islands)
