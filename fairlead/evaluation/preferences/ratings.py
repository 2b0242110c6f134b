"""Ratings from many pairwise games: Bradley-Terry by maximum likelihood, and online Elo for streams.

P(i beats j) = sigmoid(theta_i - theta_j); a tie is half a win for each. theta of the baseline is 0, and
elo = 1000 + 400 / ln 10 * theta. Sources: Bradley & Terry 1952 (Biometrika 39:324); Ford 1957 (American Mathematical
Monthly 64:28) for when a finite solution exists; Arena-Hard (Li et al. 2024, arXiv 2406.11939) for the scale. Fitted by
Newton's method, all resamples at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fairlead.errors import UnknownNameError, UsageError
from fairlead.estimates import Estimate
from fairlead.evaluation.preferences.win_rates import as_points, check_confidence

__all__ = ["Ratings", "bradley_terry", "elo_of", "elo_online", "ill_posed", "strengths"]

_SCALE = 400 / math.log(10)
_LONGEST_STEP = 2.0
_ROUNDS = 200
_CLOSE = 1e-10


@dataclass(frozen=True)
class Ratings:
    """Players with their ratings, in order of their names."""

    players: tuple[str, ...]
    """Names [K]."""
    theta: np.ndarray
    """Strengths [K] on the logit scale; the baseline's is 0."""
    standard_error: np.ndarray
    """[K], from the curvature of the likelihood; 0 for the baseline."""
    elo: dict[str, Estimate]
    """player -> rating with its bootstrap interval over items; n is the player's games."""
    rates: np.ndarray
    """Games' worth won by row against column, as a share [K, K]; NaN where two never met."""
    notes: tuple[str, ...] = ()
    """What was added to make the ratings finite, and games without a verdict."""

    def chance(self, player: str, other: str) -> float:
        """Return the probability that `player` beats `other`."""
        gap = self.theta[self._place(player)] - self.theta[self._place(other)]
        return float(1 / (1 + np.exp(-gap)))

    def _place(self, player: str) -> int:
        if player not in self.players:
            raise UnknownNameError("player", player, self.players)
        return self.players.index(player)


def bradley_terry(
    first: Sequence[str],
    second: Sequence[str],
    points: ArrayLike,
    *,
    baseline: str | None = None,
    items: Sequence[Any] | None = None,
    weights: ArrayLike | None = None,
    pseudo_games: float = 0.0,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Ratings:
    """Rate players from N games.

    Args:
        first: one player of each game [N].
        second: the other player [N].
        points: points of `first` [N] in [0, 1], .5 a tie; NaN (no verdict) is left out and told in the notes.
        baseline: the player whose rating is fixed at 1000; by default the first in order of names.
        items: what a game was about [N]; games of equal items are resampled together. By default each game alone.
        weights: how often each game counts [N], above 0; by default 1.
        pseudo_games: wins and, as many, losses against the baseline that are added to every other player. With 0,
            games that allow no finite ratings are an error; .5 is usual.
        resamples: bootstrap resamples of items behind the intervals; 0 leaves them NaN. A resample without finite
            ratings gets pseudo-games of .5, which the notes count.
        confidence: coverage of the intervals.
        seed: randomness of the bootstrap.

    Raises:
        UsageError: no game, a player against itself, columns of unequal length, or no finite ratings: it names the
            players who never lost, never won, or never met the others.
    """
    check_confidence(confidence)
    games = _Games.of(first, second, points, weights, items)
    names = games.players
    fixed = names.index(_known(baseline, names)) if baseline is not None else 0
    wins = games.table() + _pseudo(len(names), fixed, pseudo_games)
    problem = _problem(wins, names)
    if problem:
        raise UsageError(problem, fix="set pseudo_games=0.5, or rate only players who won and lost among each other")
    theta = _fit(wins[None], fixed)[0]
    low, high, patched = _intervals(games, theta, fixed, pseudo_games, resamples, confidence, seed)
    played = games.played()
    elo = {
        name: Estimate(elo_of(theta[i]), elo_of(low[i]), elo_of(high[i]), int(played[i]))
        for i, name in enumerate(names)
    }
    notes = []
    if games.missing:
        notes.append(f"{games.missing} games have no verdict and are left out")
    if pseudo_games:
        notes.append(f"every player but {names[fixed]} has {pseudo_games:g} wins and losses against it added")
    if patched:
        notes.append(f"{patched} of {resamples} resamples had no finite ratings and got half a win and loss each")
    raw = games.table()
    met = raw + raw.T
    rates = np.where(met > 0, raw / np.where(met > 0, met, 1), np.nan)
    return Ratings(names, theta, _standard_errors(wins, theta, fixed), elo, rates, tuple(notes))


def ill_posed(first: Sequence[str], second: Sequence[str], points: ArrayLike) -> str | None:
    """Return why games have no finite ratings, naming players, or None where they have.

    Finite ratings exist where no split of the players leaves one part without a win against the other.
    """
    games = _Games.of(first, second, points, None, None)
    return _problem(games.table(), games.players)


def strengths(wins: np.ndarray) -> np.ndarray:
    """Return strengths theta [R, K] of R tables of wins of row against column [R, K, K]; the first player's is 0.

    Every table must allow finite ones: no split of the players leaves one part without a win against the other.
    """
    return _fit(np.asarray(wins, dtype=np.float64), 0)


def elo_of(theta: float) -> float:
    """Return a strength on the scale on which 400 points are odds of 10 to 1, and the baseline has 1000."""
    return 1000 + _SCALE * float(theta)


def elo_online(
    first: Sequence[str],
    second: Sequence[str],
    points: ArrayLike,
    *,
    step: float = 4.0,
    shuffles: int = 0,
    seed: int = 0,
) -> dict[str, float]:
    """Rate players game by game (Elo), everyone from 1000; the result depends on the order of the games.

    Args:
        first: one player of each game [N].
        second: the other player [N].
        points: points of `first` [N]; NaN is skipped.
        step: most points that a game moves (K), such as 4 or 32.
        shuffles: 0 takes the games as they come; else the mean over so many random orders.
        seed: randomness of the orders.
    """
    games = _Games.of(first, second, points, None, None)
    n = len(games.points)
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(n) for _ in range(shuffles)] or [np.arange(n)]
    pairs = list(zip(games.first.tolist(), games.second.tolist(), games.points.tolist()))
    total = np.zeros(len(games.players))
    for order in orders:
        rating = [1000.0] * len(games.players)
        for k in order.tolist():
            i, j, won = pairs[k]
            change = step * (won - 1 / (1 + 10 ** ((rating[j] - rating[i]) / 400)))
            rating[i] += change
            rating[j] -= change
        total += rating
    return dict(zip(games.players, (total / len(orders)).tolist()))


@dataclass(frozen=True)
class _Games:
    players: tuple[str, ...]
    first: np.ndarray
    second: np.ndarray
    points: np.ndarray
    weights: np.ndarray
    item: np.ndarray
    missing: int

    @classmethod
    def of(cls, first: Any, second: Any, points: Any, weights: Any, items: Any) -> _Games:
        found = as_points(points)
        n = len(found)
        worth = np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)
        labels = (
            np.arange(n) if items is None else np.unique(np.asarray(list(items)).astype(str), return_inverse=True)[1]
        )
        if not len(first) == len(second) == n == len(worth) == len(labels):
            what = f"{len(first)} first and {len(second)} second players, {n} verdicts"
            raise UsageError(what, fix="give one value of each column per game")
        if not (worth > 0).all():
            raise UsageError("a game counts 0 or less", fix="use weights above 0")
        kept = ~np.isnan(found)
        if not kept.any():
            raise UsageError(f"none of {n} games has a verdict", fix="give at least one game that was won or tied")
        names, places = np.unique([*map(str, first), *map(str, second)], return_inverse=True)
        one, two = places[:n][kept], places[n:][kept]
        if (one == two).any():
            raise UsageError(f"{str(names[one[one == two][0]])!r} plays itself", fix="leave such games out")
        labels = np.unique(labels[kept], return_inverse=True)[1]
        return cls(tuple(names.tolist()), one, two, found[kept], worth[kept], labels, int(n - kept.sum()))

    def table(self, counts: np.ndarray | None = None) -> np.ndarray:
        """Return wins of row against column [K, K], games weighted by `counts` of their items."""
        size = len(self.players)
        weights = self.weights if counts is None else self.weights * counts[self.item]
        forth = np.bincount(self.first * size + self.second, weights * self.points, size * size)
        back = np.bincount(self.second * size + self.first, weights * (1 - self.points), size * size)
        return (forth + back).reshape(size, size)

    def played(self) -> np.ndarray:
        """Count every player's games [K]."""
        return np.bincount(np.concatenate([self.first, self.second]), minlength=len(self.players))


def _known(player: str, names: Sequence[str]) -> str:
    if player not in names:
        raise UnknownNameError("player", player, names)
    return player


def _pseudo(size: int, fixed: int, games: float) -> np.ndarray:
    if not games >= 0:
        raise UsageError(f"pseudo_games is {games}", fix="use 0 or more, such as 0.5")
    added = np.zeros((size, size))
    added[fixed, :] = added[:, fixed] = games
    added[fixed, fixed] = 0
    return added


def _strong_parts(wins: np.ndarray) -> tuple[int, np.ndarray]:
    from scipy.sparse import csgraph, csr_array

    return csgraph.connected_components(csr_array(wins > 0), directed=True, connection="strong")


def _problem(wins: np.ndarray, names: Sequence[str]) -> str | None:
    count, label = _strong_parts(wins)
    if count == 1:
        return None
    from scipy.sparse import csgraph, csr_array

    islands, island = csgraph.connected_components(csr_array(wins + wins.T > 0), directed=False)
    if islands > 1:
        parts = "; ".join(", ".join(n for n, k in zip(names, island) if k == part) for part in range(islands))
        return f"no game joins these groups of players, so they share no scale: {parts}"
    ends = []
    for part in range(count):
        inside = label == part
        group = ", ".join(n for n, k in zip(names, inside) if k)
        if not wins[np.ix_(~inside, inside)].any():
            ends.append((inside.sum(), f"{group} never lost a point to another player, so no rating is high enough"))
        if not wins[np.ix_(inside, ~inside)].any():
            ends.append((inside.sum(), f"{group} never won a point from another player, so no rating is low enough"))
    return min(ends)[1]


def _fit(wins: np.ndarray, fixed: int, start: np.ndarray | None = None) -> np.ndarray:
    """Return strengths [R, K] of R tables [R, K, K]; every table must allow finite ones."""
    each = np.arange(wins.shape[-1])
    free = np.delete(each, fixed)
    theta = np.zeros(wins.shape[:2]) if start is None else np.tile(start, (len(wins), 1))
    met = wins + np.swapaxes(wins, 1, 2)
    for _ in range(_ROUNDS):
        chance = 1 / (1 + np.exp(theta[:, None, :] - theta[:, :, None]))
        slope = (wins - met * chance).sum(-1)
        curvature = -met * chance * (1 - chance)
        curvature[:, each, each] = -curvature.sum(-1)
        step = np.linalg.solve(curvature[:, free][:, :, free], slope[:, free, None])[..., 0]
        longest = np.abs(step).max(-1, keepdims=True)
        theta[:, free] += step * np.minimum(1, _LONGEST_STEP / np.maximum(longest, 1e-300))
        if longest.max() < _CLOSE:
            break
    return theta


def _standard_errors(wins: np.ndarray, theta: np.ndarray, fixed: int) -> np.ndarray:
    free = np.delete(np.arange(len(theta)), fixed)
    chance = 1 / (1 + np.exp(theta[None, :] - theta[:, None]))
    bend = (wins + wins.T) * chance * (1 - chance)
    curvature = np.diag(bend.sum(-1)) - bend
    errors = np.zeros(len(theta))
    errors[free] = np.sqrt(np.diag(np.linalg.inv(curvature[np.ix_(free, free)])))
    return errors


def _intervals(
    games: _Games, theta: np.ndarray, fixed: int, pseudo_games: float, resamples: int, confidence: float, seed: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the ends of every player's interval [K] and how many resamples needed pseudo-games."""
    items = int(games.item.max()) + 1
    if resamples < 1 or items < 2:
        nothing = np.full(len(theta), np.nan)
        return nothing, nothing, 0
    rng = np.random.default_rng(seed)
    size = len(theta)
    tables = np.empty((resamples, size, size))
    for r in range(resamples):
        tables[r] = games.table(np.bincount(rng.integers(items, size=items), minlength=items))
    tables += _pseudo(size, fixed, pseudo_games)
    loose = np.array([_strong_parts(table)[0] > 1 for table in tables])
    tables[loose] += _pseudo(size, fixed, 0.5)
    drawn = _fit(tables, fixed, theta)
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
    return np.minimum(low, theta), np.maximum(high, theta), int(loose.sum())
