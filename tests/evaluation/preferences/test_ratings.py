"""Ratings: a known fit, against a general optimiser, degenerate tables, invariants, speed."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from fairlead.errors import UnknownNameError, UsageError
from fairlead.evaluation.preferences import bradley_terry, elo_online, ill_posed


def games_of(wins, names="ABC"):
    pairs = [(i, j) for i in range(len(names)) for j in range(len(names)) if i != j and wins[i][j]]
    first, second = ([names[pair[k]] for pair in pairs] for k in (0, 1))
    return first, second, [1.0] * len(pairs), [wins[i][j] for i, j in pairs]


def made(n: int, players: int, seed: int = 0, ties: float = 0.0):
    rng = np.random.default_rng(seed)
    one = rng.integers(players, size=n)
    two = (one + rng.integers(1, players, size=n)) % players
    won = (rng.random(n) < 1 / (1 + np.exp(-(one - two) / 2))).astype(float)
    won[rng.random(n) < ties] = 0.5
    return [f"p{i}" for i in one], [f"p{i}" for i in two], won


def test_a_known_table():
    first, second, points, weights = games_of([[0, 7, 9], [3, 0, 6.5], [1, 3.5, 0]])
    found = bradley_terry(first, second, points, weights=weights)
    assert found.players == ("A", "B", "C")
    assert found.theta == pytest.approx([0, -1.037193, -1.829414], abs=1e-6)
    assert found.standard_error == pytest.approx([0, 0.608776, 0.672921], abs=1e-6)
    assert [found.elo[p].value for p in "ABC"] == pytest.approx([1000, 819.82, 682.20], abs=0.005)
    assert found.rates[0] == pytest.approx([np.nan, 0.7, 0.9], nan_ok=True)
    assert found.chance("A", "B") + found.chance("B", "A") == pytest.approx(1)
    assert found.chance("A", "B") == pytest.approx(1 / (1 + np.exp(-1.037193)), abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_it_maximises_the_likelihood(seed):
    first, second, points = made(150, 4, seed, ties=0.2)
    found = bradley_terry(first, second, points, resamples=0, pseudo_games=0.5, baseline="p0")
    one, two = (np.array([int(p[1]) for p in column]) for column in (first, second))

    def loss(free):
        theta = np.array([0, *free])
        gap = theta[one] - theta[two]
        pseudo = 0.5 * (np.logaddexp(0, theta[1:]) + np.logaddexp(0, -theta[1:])).sum()
        return (np.logaddexp(0, gap) - points * gap).sum() + pseudo

    best = optimize.minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-9})
    assert found.theta == pytest.approx([0, *best.x], abs=1e-5)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_order_and_the_sides_of_games_do_not_matter(seed):
    first, second, points = made(60, 3, seed, ties=0.1)
    order = np.random.default_rng(seed).permutation(60)
    options = {"resamples": 0, "pseudo_games": 0.5}
    found = bradley_terry(first, second, points, **options)
    shuffled = bradley_terry([first[i] for i in order], [second[i] for i in order], points[order], **options)
    mirrored = bradley_terry(second, first, 1 - points, **options)
    for other in (shuffled, mirrored):
        assert other.players == found.players
        assert other.theta == pytest.approx(found.theta, abs=1e-7)


def test_the_baseline_moves_the_scale_and_nothing_else():
    columns = made(300, 4)
    one, two = (bradley_terry(*columns, baseline=name, resamples=0) for name in ("p0", "p3"))
    assert two.elo["p3"].value == 1000
    assert two.theta - two.theta[0] == pytest.approx(one.theta)
    with pytest.raises(UnknownNameError, match="p9"):
        bradley_terry(*columns, baseline="p9")


def test_intervals_cover_and_repeat():
    columns = made(1000, 4, seed=1)
    found = bradley_terry(*columns, resamples=300)
    assert found.elo == bradley_terry(*columns, resamples=300).elo
    assert found.elo != bradley_terry(*columns, resamples=300, seed=1).elo
    for player, error in zip(found.players[1:], found.standard_error[1:]):
        e = found.elo[player]
        assert e.low < e.value < e.high
        assert (e.high - e.low) / 3.92 == pytest.approx(error * 400 / np.log(10), rel=0.2)
        assert e.low < 1000 + 400 / np.log(10) * int(player[1]) / 2 < e.high
    assert found.elo["p0"].low == found.elo["p0"].high == 1000


def test_games_about_one_item_are_resampled_together():
    first, second, points = made(200, 3)
    alone = bradley_terry(first, second, points, resamples=300)
    thrice = bradley_terry(first * 3, second * 3, np.tile(points, 3), items=list(range(200)) * 3, resamples=300)
    naive = bradley_terry(first * 3, second * 3, np.tile(points, 3), resamples=300)

    def width(found):
        return found.elo["p1"].high - found.elo["p1"].low

    assert thrice.theta == pytest.approx(alone.theta, abs=1e-8)
    assert width(thrice) == pytest.approx(width(alone), rel=0.15)
    assert width(naive) < 0.7 * width(thrice)


def test_tables_without_finite_ratings_are_refused_by_name():
    with pytest.raises(UsageError, match="A never lost a point"):
        bradley_terry(["A", "A", "B", "C"], ["B", "C", "C", "B"], [1, 1, 1, 1])
    with pytest.raises(UsageError, match="C never won a point"):
        bradley_terry(["A", "B", "A"], ["B", "A", "C"], [1, 1, 1])
    with pytest.raises(UsageError, match="no game joins these groups of players, so they share no scale: A, B; C, D"):
        bradley_terry(["A", "B", "C", "D"], ["B", "A", "D", "C"], [1, 1, 1, 1])
    assert ill_posed(["A", "A"], ["B", "B"], [1, 0]) is None
    assert "never lost" in ill_posed(["A"], ["B"], [1])


def test_pseudo_games_make_them_finite():
    found = bradley_terry(["A"] * 9, ["B"] * 9, [1] * 9, pseudo_games=0.5, baseline="B")
    assert found.theta == pytest.approx([np.log(9.5 / 0.5), 0])
    assert "every player but B has 0.5 wins and losses against it added" in found.notes[0]
    joined = bradley_terry(["A", "B", "C", "D"], ["B", "A", "D", "C"], [1, 1, 1, 1], pseudo_games=0.5)
    assert np.isfinite(joined.theta).all()
    with pytest.raises(UsageError, match="pseudo_games is -1"):
        bradley_terry(["A"], ["B"], [1], pseudo_games=-1)


def test_resamples_without_finite_ratings_are_counted():
    found = bradley_terry(["A"] * 6, ["B"] * 6, [1, 1, 1, 1, 1, 0], resamples=200)
    assert np.isfinite([found.elo["B"].low, found.elo["B"].high]).all()
    assert "of 200 resamples had no finite ratings" in found.notes[0]


def test_ties_are_half_a_win():
    tied = bradley_terry(["A"] * 4, ["B"] * 4, [0.5, 0.5, 1, 0.5], resamples=0)
    halves = bradley_terry(["A"] * 8, ["B"] * 8, [1, 0, 1, 0, 1, 1, 1, 0], resamples=0)
    assert tied.theta == pytest.approx(halves.theta)


def test_missing_verdicts_are_told_and_bad_games_refused():
    found = bradley_terry(["A", "A", "A"], ["B", "B", "B"], [1, 0, None], resamples=0)
    assert found.notes == ("1 games have no verdict and are left out",)
    assert found.elo["A"].n == 2
    assert np.isnan(found.elo["A"].low)
    for columns, message in (
        ((["A"], ["A"], [1]), "'A' plays itself"),
        ((["A"], ["B"], [None]), "none of 1 games has a verdict"),
        (([], [], []), "none of 0 games"),
        ((["A", "B"], ["B"], [1, 1]), "2 first and 1 second players, 2 verdicts"),
    ):
        with pytest.raises(UsageError, match=message):
            bradley_terry(*columns)
    with pytest.raises(UsageError, match="confidence is 95"):
        bradley_terry(["A", "B"], ["B", "A"], [1, 1], confidence=95)
    with pytest.raises(UsageError, match="counts 0 or less"):
        bradley_terry(["A"], ["B"], [1], weights=[0])


def test_ten_thousand_games_are_fast():
    columns = made(10_000, 10)
    start = time.process_time()
    bradley_terry(*columns)
    assert time.process_time() - start < 5


def test_online_elo():
    assert elo_online(["A"], ["B"], [1], step=32) == {"A": 1016, "B": 984}
    forth = elo_online(["A", "B"], ["B", "A"], [1, 1], step=32)
    assert forth["B"] > 1000 > forth["A"]  # the last game counts most
    columns = made(2000, 3)
    found = elo_online(*columns, shuffles=5)
    assert found["p2"] > found["p1"] > found["p0"]
    assert sum(found.values()) == pytest.approx(3000)
    assert found == elo_online(*columns, shuffles=5)
    assert elo_online(["A", "A"], ["B", "B"], [1, None], step=32) == {"A": 1016, "B": 984}
