"""Whether one reward can say what all of several people prefer: fit, circles, and what a mixture of rewards adds.

A single reward is a Bradley-Terry model. It fits no circle (A over B over C over A), which a majority of people may
form though each of them is consistent, and it averages over people who disagree. A mixture of K rewards, each person
following one of them, is fitted by expectation and maximisation (Dempster et al. 1977). Held-out labels tell whether
it says more. Source of the question: Sahoo et al. 2025 (arXiv 2511.19504).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fairlead.errors import UsageError
from fairlead.evaluation.preferences.ratings import bradley_terry, ill_posed, strengths
from fairlead.evaluation.preferences.win_rates import as_points
from fairlead.theory.welfare import cycles

__all__ = ["Mixture", "OneReward", "mixture_of_rewards", "one_reward"]

_HALF_A_GAME = 0.5
_STEPS = 200
_STILL = 1e-7


@dataclass(frozen=True)
class OneReward:
    """How well a single reward says what people prefer."""

    options: tuple[str, ...]
    """Names [K]."""
    rates: np.ndarray
    """Share of labels that prefer row to column [K, K]; NaN where two were never compared."""
    fitted: np.ndarray
    """The same by the single reward [K, K]."""
    divergence: float
    """Mean KL in nats between a compared pair's shares and the fitted ones: 0 where one reward says it all."""
    circles: tuple[tuple[str, ...], ...]
    """Sets of options that majorities prefer in a circle."""
    notes: tuple[str, ...] = ()
    """What was added to make the reward finite."""


@dataclass(frozen=True)
class Mixture:
    """A mixture of K rewards beside a single one."""

    shares: np.ndarray
    """Share of the people who follow each reward [K], the largest first."""
    rewards: np.ndarray
    """Value of every option under each reward [K, options]; the first option's is 0."""
    follows: dict[str, int]
    """Person -> the reward that the person most likely follows."""
    held_out: float
    """Mean log-likelihood of a held-out label under the mixture, in nats."""
    held_out_single: float
    """The same under one reward for all."""


def one_reward(first: Sequence[str], second: Sequence[str], points: ArrayLike) -> OneReward:
    """Fit one reward to N comparisons and say how far it falls short.

    Args:
        first: one option of each comparison [N].
        second: the other [N].
        points: 1 where the first is preferred, 0 where the second is, .5 for a tie, NaN for no verdict [N].

    Raises:
        UsageError: no comparison, an option against itself, or columns of unequal length.
    """
    problem = ill_posed(first, second, points)
    pseudo = _HALF_A_GAME if problem else 0.0
    found = bradley_terry(first, second, points, pseudo_games=pseudo, resamples=0)
    gaps = found.theta[:, None] - found.theta[None, :]
    fitted = 1 / (1 + np.exp(-gaps))
    pairs = [(i, j) for i in range(len(gaps)) for j in range(i) if not math.isnan(found.rates[i, j])]
    divergence = float(np.mean([_kl(found.rates[i, j], fitted[i, j]) for i, j in pairs]))
    rounds = tuple(tuple(found.players[i] for i in part) for part in cycles(found.rates))
    return OneReward(found.players, found.rates, fitted, divergence, rounds, found.notes)


def mixture_of_rewards(
    first: Sequence[str],
    second: Sequence[str],
    points: ArrayLike,
    people: Sequence[str],
    *,
    rewards: int = 2,
    held_out: float = 0.2,
    starts: int = 5,
    seed: int = 0,
) -> Mixture:
    """Fit K rewards to the comparisons of several people, and compare with one on labels held out.

    Args:
        first: one option of each comparison [N].
        second: the other [N].
        points: points of the first in [0, 1] [N]; NaN is left out.
        people: who compared [N].
        rewards: how many, K.
        held_out: share of the labels that neither fit sees.
        starts: random starts, of which the likeliest is kept.
        seed: randomness of the starts and of what is held out.

    Raises:
        UsageError: columns of unequal length, fewer people than rewards, or nothing left to fit or to hold out.
    """
    labels = _Labels.of(first, second, points, people)
    if not 1 <= rewards <= len(labels.people):
        raise UsageError(f"{rewards} rewards for {len(labels.people)} people", fix="use 1 reward up to one per person")
    rng = np.random.default_rng(seed)
    out = rng.random(len(labels.points)) < held_out
    if out.all() or not out.any():
        fix = "give more labels, or hold out another share"
        raise UsageError(f"{int(out.sum())} of {len(out)} labels are held out", fix=fix)
    train, test = labels.part(~out), labels.part(out)
    single = _fitted(train, np.ones((len(labels.people), 1)))
    best = max((_climb(train, rewards, rng) for _ in range(starts)), key=lambda found: found[3])
    theta, shares, follow, _ = best
    order = np.argsort(-shares, kind="stable")
    likely = test.log_chances(theta)
    mixed = np.logaddexp.reduce(np.log(np.maximum(follow[test.person], 1e-300)) + likely, axis=1)
    whose = {name: int(np.flatnonzero(order == k)[0]) for name, k in zip(labels.people, follow.argmax(1))}
    alone = float(test.log_chances(single).mean())
    return Mixture(shares[order], theta[order], whose, float(mixed.mean()), alone)


@dataclass(frozen=True)
class _Labels:
    options: tuple[str, ...]
    people: tuple[str, ...]
    first: np.ndarray
    second: np.ndarray
    person: np.ndarray
    points: np.ndarray

    @classmethod
    def of(cls, first: Sequence[str], second: Sequence[str], points: ArrayLike, people: Sequence[str]) -> _Labels:
        found = as_points(points)
        if not len(first) == len(second) == len(people) == len(found):
            what = f"{len(first)} first and {len(second)} second options, {len(found)} verdicts, {len(people)} people"
            raise UsageError(what, fix="give one of each per comparison")
        kept = ~np.isnan(found)
        if not kept.any():
            raise UsageError(f"none of {len(found)} comparisons has a verdict", fix="give at least one")
        names, places = np.unique([*map(str, first), *map(str, second)], return_inverse=True)
        persons, person = np.unique(np.asarray(list(map(str, people))), return_inverse=True)
        one, two = places[: len(found)], places[len(found) :]
        return cls(tuple(names.tolist()), tuple(persons.tolist()), one[kept], two[kept], person[kept], found[kept])

    def part(self, kept: np.ndarray) -> _Labels:
        columns = (self.first[kept], self.second[kept], self.person[kept], self.points[kept])
        return _Labels(self.options, self.people, *columns)

    def log_chances(self, theta: np.ndarray) -> np.ndarray:
        """Return the log-likelihood of every label under R rewards [N, R]."""
        gap = theta[:, self.first].T - theta[:, self.second].T
        won = self.points[:, None]
        return -(won * np.logaddexp(0, -gap) + (1 - won) * np.logaddexp(0, gap))


def _climb(train: _Labels, rewards: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Return rewards [R, K], shares [R], who follows which [people, R], and the log-likelihood."""
    follow = rng.dirichlet(np.ones(rewards), size=len(train.people))
    before = -math.inf
    for _ in range(_STEPS):
        theta, shares = _fitted(train, follow), follow.mean(0)
        own = np.zeros((len(train.people), rewards))
        np.add.at(own, train.person, train.log_chances(theta))
        own += np.log(np.maximum(shares, 1e-300))
        each = np.logaddexp.reduce(own, axis=1)
        follow, total = np.exp(own - each[:, None]), float(each.sum())
        if total - before < _STILL * abs(total):
            break
        before = total
    return theta, follow.mean(0), follow, total


def _fitted(train: _Labels, follow: np.ndarray) -> np.ndarray:
    """Return rewards [R, K] of labels weighted by how much their person follows each, with half a draw per pair."""
    size, weight = len(train.options), follow[train.person].T
    tables = np.zeros((follow.shape[1], size, size))
    for r, own in enumerate(weight):
        np.add.at(tables[r], (train.first, train.second), own * train.points)
        np.add.at(tables[r], (train.second, train.first), own * (1 - train.points))
    met = np.zeros((size, size), dtype=bool)
    met[train.first, train.second] = met[train.second, train.first] = True
    if not _joined(met):
        raise UsageError("no comparison joins some options with the others", fix="give more labels, or fewer options")
    return strengths(tables + _HALF_A_GAME * met)


def _joined(met: np.ndarray) -> bool:
    from scipy.sparse import csgraph, csr_array

    return csgraph.connected_components(csr_array(met), directed=False)[0] == 1


def _kl(share: float, fitted: float) -> float:
    parts = ((share, fitted), (1 - share, 1 - fitted))
    return max(0.0, sum(a * math.log(a / b) for a, b in parts if a > 0))
