"""How much data is enough: a score over the number of records, as an exponential plateau with intervals.

    study = study_growth([0, 100, 200, 400, 800, 1600], [50.0, 58.2, 61.9, 66.5, 68.4, 69.2])
    study.verdict, study.enough(0.95), study.at(3200)

Source: Khera et al. 2024 (arXiv 2411.10545): y(x) = ceiling - (ceiling - start) exp(-rate x). For a given rate the
curve is linear in start and ceiling (variable projection), so the search is over one number, from no starting point.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fairlead.errors import UsageError
from fairlead.estimates import Estimate

__all__ = ["GrowthStudy", "Plateau", "draw_growth", "fit_plateau", "study_growth"]

_LEAST_SIZES, _LEAST_ROWS = 5, 6
_GRID = 400
_STEPS = 45
_GOLDEN = (math.sqrt(5) - 1) / 2
_RESAMPLES = 1000

Shape = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(sizes [N], parameters [B, 1]) -> the curve's bend z [B, N]; the curve is a + b z."""


@dataclass(frozen=True)
class Plateau:
    """y(x) = ceiling - (ceiling - start) exp(-rate x)."""

    start: float
    """The score at no record."""
    ceiling: float
    """The score that more records come ever nearer to."""
    rate: float
    """How fast, per record; above 0."""
    r2: float = math.nan
    """Share of the variance that the fit explains; NaN where the scores do not vary."""

    def __call__(self, sizes: ArrayLike) -> np.ndarray:
        """Return the scores at sizes, any shape."""
        return self.ceiling - (self.ceiling - self.start) * np.exp(-self.rate * np.asarray(sizes, np.float64))

    def enough(self, share: float) -> float:
        """Return the records that bring this share of the way from start to ceiling; a share in [0, 1)."""
        return math.log(1 / (1 - share)) / self.rate

    def worth(self, gain: float) -> float:
        """Return the records from which one more brings less than `gain`, above 0; 0 where none ever brings so much."""
        first = abs(self.ceiling - self.start) * self.rate
        return math.log(first / gain) / self.rate if first > gain else 0.0


@dataclass(frozen=True)
class GrowthStudy:
    """A plateau with what can be said of it: intervals, other laws beside it, and whether it may be claimed."""

    fit: Plateau
    """The best plateau, whatever the verdict."""
    verdict: str
    """`plateau`, `not identifiable`, `other law` or `not reached`."""
    because: str
    """The verdict in words."""
    aicc: Mapping[str, float]
    """Law (plateau, log, power) -> Akaike's criterion corrected for few points; the least is the best."""
    sizes: np.ndarray
    """float64 [N]: records."""
    scores: np.ndarray
    """float64 [N]."""
    drawn: np.ndarray
    """float64 [B, 4]: start, ceiling, rate and standard deviation of one score, of each resample."""
    noise: np.ndarray
    """float64 [B]: a standard normal draw per resample, for what a further score would add."""
    confidence: float
    """Coverage of the intervals."""

    @property
    def claimed(self) -> bool:
        """Whether a plateau may be claimed."""
        return self.verdict == "plateau"

    def parameter(self, name: str) -> Estimate:
        """Return `start`, `ceiling` or `rate` with its interval."""
        column = self.drawn[:, ("start", "ceiling", "rate").index(name)]
        return self._around(getattr(self.fit, name), column)

    def enough(self, share: float) -> Estimate:
        """Return the records that bring a share of the way to the ceiling; without a value unless a plateau holds."""
        if not self.claimed:
            return Estimate(math.nan, math.nan, math.nan, len(self.sizes))
        return self._around(self.fit.enough(share), math.log(1 / (1 - share)) / self.drawn[:, 2])

    def at(self, size: float) -> Estimate:
        """Return the score to expect of one more training on so many records, with the interval of that one score."""
        start, ceiling, rate, spread = self.drawn.T
        found = ceiling - (ceiling - start) * np.exp(-rate * size) + spread * self.noise
        return self._around(float(self.fit(size)), found)

    def _around(self, value: float, draws: np.ndarray) -> Estimate:
        tail = (1 - self.confidence) / 2
        low, high = np.quantile(draws, [tail, 1 - tail])
        return Estimate(value, min(float(low), value), max(float(high), value), len(self.sizes))


def fit_plateau(sizes: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> Plateau:
    """Fit the plateau by weighted least squares.

    Args:
        sizes: records of each training [N], 0 or more, at 5 different sizes or more; equal sizes may come again.
        scores: what each reached [N].
        weights: how much each counts [N], above 0; one over its variance where that is known.

    Raises:
        UsageError: too few, or values that are no sizes, scores or weights.
    """
    x, y, w = _rows(sizes, scores, weights)
    found = _Search(_plateau, _rates(x), x, w)(y[None])
    return _as_plateau(found, y, w)


def study_growth(
    sizes: ArrayLike,
    scores: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    confidence: float = 0.95,
    seed: int = 0,
    resamples: int = _RESAMPLES,
) -> GrowthStudy:
    """Fit the plateau, bound it by a bootstrap, and compare it with y = a + b ln(x + 1) and y = a + b (x + 1)^c.

    The bootstrap is parametric: every resample draws a variance that the residuals allow (their sum of squares over a
    chi-square of N - 3), scores of that variance around the fit, and fits them. A plateau is claimed when the interval
    of its rate stays within the rates that the sizes could tell apart (a tenth over the largest to 20 over the
    smallest), when neither other law has a lower AICc, and when the sizes reach half of the way.

    Args:
        sizes: as for `fit_plateau`.
        scores: as for `fit_plateau`.
        weights: as for `fit_plateau`.
        confidence: coverage of the intervals, between 0 and 1.
        seed: randomness of the bootstrap.
        resamples: fits behind an interval.

    Raises:
        UsageError: as for `fit_plateau`, or a confidence that is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise UsageError(f"confidence is {confidence}", fix="use a share between 0 and 1, such as 0.95")
    x, y, w = _rows(sizes, scores, weights)
    grid = _rates(x)
    search = _Search(_plateau, grid, x, w)
    found = search(y[None])
    fit = _as_plateau(found, y, w)
    rng = np.random.default_rng(seed)
    left = found.rss[0]
    spread = np.sqrt(left / rng.chisquare(len(x) - 3, resamples))
    again = search(fit(x) + spread[:, None] * rng.standard_normal((resamples, len(x))) / np.sqrt(w))
    drawn = np.stack([again.a + again.b, again.a, again.parameter, spread], 1)
    aicc = {
        "plateau": _aicc(left, y, w, 4),
        "log": _aicc(_Search(_log, np.ones(1), x, w)(y[None]).rss[0], y, w, 3),
        "power": _aicc(_Search(_power, _POWERS, x, w)(y[None]).rss[0], y, w, 4),
    }
    ends = np.quantile(again.parameter, [(1 - confidence) / 2, (1 + confidence) / 2])
    verdict, because = _verdict(fit, ends, grid, aicc, x, y)
    return GrowthStudy(fit, verdict, because, aicc, x, y, drawn, rng.standard_normal(resamples), confidence)


def draw_growth(study: GrowthStudy, *, x: str = "records", y: str = "score", beyond: float = 0.0) -> str:
    """Draw the scores, the plateau with its interval, and the sizes that are 90 % and 95 % of the way, as SVG.

    Args:
        study: what to draw.
        x: what the sizes count.
        y: what the scores are.
        beyond: size up to which the curve is drawn, at least; the largest size otherwise.
    """
    from fairlead.figures import PALETTE, THEME, Canvas, add_legend

    along = np.linspace(0, max(float(study.sizes.max()), beyond), 200)
    start, ceiling, rate, _ = (column[:, None] for column in study.drawn.T)
    tail = (1 - study.confidence) / 2
    low, high = np.quantile(ceiling - (ceiling - start) * np.exp(-rate * along), [tail, 1 - tail], axis=0)
    with Canvas(2.4, f"{y} by {x}") as canvas:
        plot = canvas.plot
        plot.fill_between(along, low, high, color=PALETTE[1], alpha=0.2, linewidth=0)
        plot.plot(along, study.fit(along), color=PALETTE[1], linewidth=1.4, label=f"plateau: {study.verdict}")
        plot.plot(study.sizes, study.scores, "o", color=PALETTE[2], markersize=4, label="measured")
        for share in (0.9, 0.95):
            if study.claimed and study.fit.enough(share) <= along[-1]:
                plot.axvline(study.fit.enough(share), color=THEME["soft"], linewidth=0.8, linestyle=(0, (3, 3)))
        plot.margins(x=0.02)
        plot.set_xlabel(x)
        plot.set_ylabel(y)
        add_legend(canvas.figure, plot)
        return canvas.svg()


@dataclass(frozen=True)
class _Found:
    """The best curves a + b z of B rows of scores."""

    a: np.ndarray
    b: np.ndarray
    parameter: np.ndarray
    rss: np.ndarray


class _Search:
    """The least squares over one parameter: a grid, then golden sections around its best point, B rows at once."""

    def __init__(self, shape: Shape, grid: np.ndarray, x: np.ndarray, w: np.ndarray):
        self.shape, self.grid, self.x, self.w = shape, grid, x, w

    def __call__(self, y: np.ndarray) -> _Found:
        """Fit scores [B, N]."""
        best = self._explained(y).argmax(0)
        low = self.grid[np.maximum(best - 1, 0)]
        high = self.grid[np.minimum(best + 1, len(self.grid) - 1)]
        for _ in range(_STEPS):
            left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
            closer = self._fit(left, y).rss <= self._fit(right, y).rss
            low, high = np.where(closer, low, left), np.where(closer, right, high)
        return self._fit((low + high) / 2, y)

    def _explained(self, y: np.ndarray) -> np.ndarray:
        """Return the sum of squares that each point of the grid explains of each row, [G, B]."""
        z = self.shape(self.x, self.grid[:, None])
        z = z - np.average(z, axis=1, weights=self.w)[:, None]
        across = np.square(z) @ self.w
        with_y = (z * self.w) @ (y - np.average(y, axis=1, weights=self.w)[:, None]).T
        return np.square(with_y) / np.where(across > 0, across, 1.0)[:, None]

    def _fit(self, parameter: np.ndarray, y: np.ndarray) -> _Found:
        z = self.shape(self.x, parameter[:, None])
        share = self.w / self.w.sum()
        z0, y0 = (z * share).sum(1, keepdims=True), (y * share).sum(1, keepdims=True)
        across = np.square(z - z0) @ self.w
        b = ((z - z0) * (y - y0)) @ self.w / np.where(across > 0, across, 1.0)
        a = y0[:, 0] - b * z0[:, 0]
        return _Found(a, b, parameter, np.square(y - a[:, None] - b[:, None] * z) @ self.w)


def _plateau(x: np.ndarray, rate: np.ndarray) -> np.ndarray:
    return np.exp(-rate * x)


def _power(x: np.ndarray, exponent: np.ndarray) -> np.ndarray:
    return (x + 1.0) ** exponent


def _log(x: np.ndarray, unused: np.ndarray) -> np.ndarray:
    return np.log(x + 1.0) + 0 * unused


_POWERS = np.concatenate([np.linspace(-5, -0.01, 200), np.linspace(0.01, 1, 100)])


def _rates(x: np.ndarray) -> np.ndarray:
    return np.geomspace(0.1 / x.max(), 20 / x[x > 0].min(), _GRID)


def _as_plateau(found: _Found, y: np.ndarray, w: np.ndarray) -> Plateau:
    a, b, rate, left = (float(part[0]) for part in (found.a, found.b, found.parameter, found.rss))
    total = float(np.square(y - np.average(y, weights=w)) @ w)
    return Plateau(a + b, a, rate, 1 - left / total if total > 0 else math.nan)


def _aicc(left: float, y: np.ndarray, w: np.ndarray, numbers: int) -> float:
    """Return Akaike's corrected criterion; `numbers` counts the variance. Residuals of rounding errors count alike."""
    n = len(y)
    if n <= numbers + 1:
        return math.inf
    floor = n * float(np.square(y) @ w) * np.finfo(np.float64).eps ** 2 + np.finfo(np.float64).tiny
    return n * math.log(max(left, floor) / n) + 2 * numbers + 2 * numbers * (numbers + 1) / (n - numbers - 1)


def _verdict(
    fit: Plateau, ends: np.ndarray, grid: np.ndarray, aicc: Mapping[str, float], x: np.ndarray, y: np.ndarray
) -> tuple[str, str]:
    near = grid[1] / grid[0]
    if np.ptp(y) == 0:
        return "not identifiable", "all scores are equal"
    if ends[0] <= grid[0] * near:
        return "not identifiable", "the scores may still go in a straight line: measure larger sizes"
    if ends[1] >= grid[-1] / near:
        return "not identifiable", "the scores may be flat from the smallest size on: measure smaller sizes"
    best = min(aicc, key=lambda law: aicc[law])
    if best != "plateau":
        lead = aicc["plateau"] - aicc[best]
        return "other law", f"the {best} law fits better (AICc lower by {lead:.1f}), and it has no such plateau"
    if x.max() < fit.enough(0.5):
        return "not reached", "the largest size is not half of the way: the ceiling would be a guess"
    return "plateau", "the plateau fits better than a logarithm and a power law, and its rate is bounded"


def _rows(sizes: ArrayLike, scores: ArrayLike, weights: ArrayLike | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, y = (np.asarray(part, np.float64).reshape(-1) for part in (sizes, scores))
    w = np.ones(len(x)) if weights is None else np.asarray(weights, np.float64).reshape(-1)
    if not len(x) == len(y) == len(w):
        raise UsageError(f"{len(x)} sizes, {len(y)} scores, {len(w)} weights", fix="give one of each per training")
    fine = np.isfinite(x).all() and np.isfinite(y).all() and np.isfinite(w).all()
    if not fine or (x < 0).any() or (w <= 0).any():
        raise UsageError("sizes, scores or weights that are none", fix="use sizes >= 0, finite scores, weights > 0")
    if len(np.unique(x)) < _LEAST_SIZES or len(x) < _LEAST_ROWS:
        what = f"{len(x)} trainings at {len(np.unique(x))} different sizes cannot tell a plateau"
        raise UsageError(what, fix=f"train at {_LEAST_SIZES} sizes or more, {_LEAST_ROWS} trainings in all")
    return x, y, w / w.mean()
