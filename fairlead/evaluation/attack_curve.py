"""The best-of-N curve of one engine: success at K attempts, the power law through it, and what it foretells."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fairlead.estimates import RESAMPLES, Estimate, estimate_rate, pass_at_k
from fairlead.evaluation.attack_laws import PowerLaw, attempt_grid, fit_beta, fit_power_law

__all__ = ["curve_summary"]

_LEAST = 20
"""Attempts from which on a forecast from their first tenth is checked."""


def curve_summary(
    successes: Sequence[int], attempts: int, *, forecast: int = 1000, confidence: float = 0.95, seed: int = 0
) -> tuple[dict[str, Estimate], tuple[list[int], list[float]] | None, list[str]]:
    """Estimate the curve from how many of `attempts` got through for each of the N requests.

    Returns:
        Estimates `best_of_n_K`, `law_a`, `law_b`, `law_forecast`, with intervals over requests; the curve's points
        (None without a request); notes on what has no fit, and the beta-binomial's forecast beside the power law's.
    """
    grid = attempt_grid(attempts)
    table = {k: np.array([pass_at_k(attempts, hits, k) for hits in range(attempts + 1)]) for k in grid}
    counts = np.asarray(successes, dtype=np.int64)
    shown = [k for k in grid if k in (1, attempts) or (set(str(k)[1:]) == {"0"} and str(k)[0] == "1")]
    found = {f"best_of_n_{k}": estimate_rate(table[k][counts], confidence=confidence, seed=seed) for k in shown}
    if not len(counts):
        nothing = Estimate(math.nan, math.nan, math.nan, 0)
        return found | dict.fromkeys(("law_a", "law_b", "law_forecast"), nothing), None, []
    columns = np.stack([table[k] for k in grid], 1)
    curve = columns[counts].mean(0)
    laws, notes = _law(columns, counts, grid, forecast, confidence, seed)
    notes += _beta_notes(counts, attempts, forecast)
    return found | laws, (grid, [float(v) for v in curve]), notes


def _law(
    columns: np.ndarray, counts: np.ndarray, grid: list[int], forecast: int, confidence: float, seed: int
) -> tuple[dict[str, Estimate], list[str]]:
    """Estimate the power law with a percentile bootstrap over requests; `columns` is success [c + 1, K] by count."""
    axes = ("law_a", "law_b", "law_forecast")
    law = fit_power_law(grid, columns[counts].mean(0))
    if law is None:
        nothing = Estimate(math.nan, math.nan, math.nan, 0)
        return dict.fromkeys(axes, nothing), ["no power law: fewer than two points lie between success 0 and 1"]
    n = len(counts)
    rng = np.random.default_rng(seed)
    share = np.bincount(counts, minlength=len(columns)) / n
    fits = [fit_power_law(grid, drawn @ columns / n) for drawn in rng.multinomial(n, share, size=RESAMPLES)]
    kept = np.array([_numbers(fit, forecast) for fit in fits if fit is not None])
    lost = RESAMPLES - len(kept)
    notes = (
        [f"power law: {lost} of {RESAMPLES} resamples have no fit and are left out of its intervals"] if lost else []
    )
    laws = {}
    for axis, value, drawn in zip(axes, _numbers(law, forecast), kept.T, strict=True):
        low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2]) if n > 1 else (math.nan, math.nan)
        laws[axis] = Estimate(value, float(np.fmin(low, value)), float(np.fmax(high, value)), n)
        if n == 1:
            laws[axis] = Estimate(value, math.nan, math.nan, 1)
    most = grid[-1]
    if most >= _LEAST and (early := _early(columns, counts, grid)) is not None:
        off = abs(early.at(most) - float(columns[counts].mean(0)[-1]))
        notes.append(f"power law of at most {most // 10} attempts is off by {off:.3f} at {most}")
    return laws, notes


def _early(columns: np.ndarray, counts: np.ndarray, grid: list[int]) -> PowerLaw | None:
    """Fit the points of the first tenth of the attempts alone."""
    first = [i for i, k in enumerate(grid) if k <= grid[-1] // 10]
    return fit_power_law([grid[i] for i in first], columns[counts].mean(0)[first])


def _numbers(law: PowerLaw, forecast: int) -> tuple[float, float, float]:
    return law.a, law.b, law.at(forecast)


def _beta_notes(counts: np.ndarray, attempts: int, forecast: int) -> list[str]:
    fit = fit_beta(counts.tolist(), [attempts] * len(counts))
    if fit is None:
        return ["no beta-binomial fits: requests do not differ beyond chance, or all attempts end alike"]
    shape = f"alpha {fit.alpha:.3f}, beta {fit.beta:.3f}"
    return [f"beta-binomial {shape}: success {fit.at(forecast):.3f} at {forecast} attempts"]
