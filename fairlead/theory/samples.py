"""What rewards of real answers say of best-of-N and of the tilt: estimators from M draws of the reference per prompt.

Rewards are [P prompts, M draws], every draw independent. Sources: Yang et al. 2024 (arXiv 2404.01730); Beirami et al.
2024 (arXiv 2401.01879). The mean reward of the best of N is estimated without bias from all subsets of N draws, as
pass@k is (`fairlead.estimates.pass_at_k` is the same of rewards 0 and 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fairlead.errors import DataError, UsageError
from fairlead.theory.best_of_n import kl_bound, level_masses
from fairlead.theory.problems import Levels
from fairlead.theory.tilting import Frontier
from fairlead.theory.win_rates import mid_ranks, order_weights

__all__ = [
    "LEAST_DRAWS",
    "PolicyDistance",
    "TiltCurve",
    "as_draws",
    "best_frontier",
    "effective_size",
    "kl_of_best",
    "log_ratios",
    "policy_distance",
    "reward_of_best",
    "reward_of_best_error",
    "sampled_tilt",
    "tilt_curve",
    "win_rate_of_best",
]

LEAST_DRAWS = 50
"""Effective draws under which nothing is said of a tilt, and draws under which nothing is said of best-of-N."""


@dataclass(frozen=True)
class TiltCurve:
    """The tilt, estimated from draws of the reference: means over prompts."""

    alpha: np.ndarray
    """Strengths [K], per unit of reward."""
    kl: np.ndarray
    """Nats [K]."""
    reward: np.ndarray
    """Mean reward [K]."""
    effective: np.ndarray
    """Draws per prompt that still count, (sum w)^2 / sum w^2, a mean over prompts [K]."""


@dataclass(frozen=True)
class PolicyDistance:
    """How far a trained policy is from the best that its KL could buy."""

    alpha: float
    """Slope of log(policy / reference) over reward on the policy's answers: the tilt that it is closest to in kind."""
    kl: float
    """KL(policy || reference) in nats, the mean log-ratio."""
    reward: float
    """Its mean reward."""
    distance: float
    """KL(policy || tilt at alpha) in nats; below 0 only by the noise of the samples."""


def as_draws(rewards: ArrayLike, *, least: int = LEAST_DRAWS) -> np.ndarray:
    """Return rewards as float64 [P, M]; one prompt may come as [M].

    Raises:
        DataError: values that are missing or not finite.
        UsageError: fewer than `least` draws per prompt.
    """
    found = np.atleast_2d(np.asarray(rewards, dtype=np.float64))
    if found.ndim != 2 or found.size == 0:
        raise UsageError(f"rewards of the shape {found.shape}", fix="give as many rewards for every prompt: [P, M]")
    if not np.isfinite(found).all():
        prompt, draw = np.argwhere(~np.isfinite(found))[0].tolist()
        what = f"draw {draw + 1} of prompt {prompt + 1} has no finite reward"
        raise DataError(what, fix="leave out prompts on which the reward abstains")
    if found.shape[1] < least:
        what = f"{found.shape[1]} draws per prompt"
        raise UsageError(what, fix=f"draw at least {least}: below that the estimates say nothing")
    return found


def reward_of_best(rewards: ArrayLike, n: int) -> np.ndarray:
    """Estimate each prompt's mean reward of the best of n draws, without bias, from rewards [P, M] or [M]: [P].

    sum_i r_i C(i, n - 1) / C(M, n) over ascending rewards r_0..r_(M-1), which is the mean over all subsets of n.

    Raises:
        DataError, UsageError: rewards that are not finite, or n is not in 1 to M.
    """
    found = np.sort(as_draws(rewards, least=1), axis=1)
    return found @ order_weights(found.shape[1], n)


def reward_of_best_error(rewards: ArrayLike, n: int) -> np.ndarray:
    """Return each prompt's standard error of `reward_of_best` by the delete-one jackknife: [P]; NaN for n = M.

    Raises:
        DataError, UsageError: as `reward_of_best`.
    """
    found = np.sort(as_draws(rewards, least=1), axis=1)
    m = found.shape[1]
    order_weights(m, n)
    if n == m:
        return np.full(len(found), np.nan)
    weights = order_weights(m - 1, n)
    before = np.cumsum(np.pad(found[:, :-1] * weights, ((0, 0), (1, 0))), axis=1)
    after = np.cumsum(np.pad(found[:, 1:] * weights, ((0, 0), (0, 1)))[:, ::-1], axis=1)[:, ::-1]
    without = before + after
    return np.sqrt((m - 1) / m * ((without - without.mean(1, keepdims=True)) ** 2).sum(1))


def win_rate_of_best(rewards: ArrayLike, n: int) -> np.ndarray:
    """Estimate each prompt's chance that the best of n beats one fresh draw, a tie counting half: [P]."""
    found = np.sort(as_draws(rewards, least=1), axis=1)
    weights = order_weights(found.shape[1], n)
    return np.array([weights @ mid_ranks(row, row) for row in found])


def kl_of_best(rewards: ArrayLike, n: float) -> np.ndarray:
    """Estimate each prompt's KL(best of n || reference) in nats from rewards [P, M] or [M]: [P].

    The exact KL of the empirical reward levels, with the bias of the order 1/M taken off by a delete-one jackknife. It
    holds for rewards of few levels and for rewards without ties, as long as n is well below M.
    """
    found = as_draws(rewards, least=1)
    return np.array([_kl_of_levels(row, n) for row in found])


def best_frontier(rewards: ArrayLike, points: int = 16) -> Frontier:
    """Estimate KL and reward of the best of N for whole N from 1 to a quarter of the draws, about even in log N.

    Raises:
        DataError, UsageError: rewards that are not finite, or fewer than `LEAST_DRAWS` per prompt.
    """
    found = as_draws(rewards)
    ns = np.unique(np.rint(np.geomspace(1, found.shape[1] // 4, points)).astype(int))
    kl, reward = ([float(of(found, int(n)).mean()) for n in ns] for of in (kl_of_best, reward_of_best))
    return Frontier(ns.astype(np.float64), np.array(kl), np.array(reward))


def log_ratios(rewards: ArrayLike, chosen: ArrayLike, n: float) -> np.ndarray:
    """Return log(m_j / p_j) of chosen answers' rewards [C] under the levels of a prompt's draws [M]: nats [C].

    A level that the draws lack counts log n, which is the most that any can have.
    """
    levels = Levels(*_evenly(as_draws(rewards, least=1)[0]))
    log_mass = np.log(levels.mass)
    ratio = level_masses(log_mass, math.log(n)) - log_mass
    worth = np.asarray(chosen, dtype=np.float64)
    place = np.clip(np.searchsorted(levels.value, worth), 0, len(levels.value) - 1)
    before = np.maximum(place - 1, 0)
    nearer = np.abs(levels.value[before] - worth) < np.abs(levels.value[place] - worth)
    place = np.where(nearer, before, place)
    known = np.abs(levels.value[place] - worth) <= 1e-9 * np.abs(levels.value).max(initial=1e-300)
    return np.where(known, ratio[place], math.log(n))


def effective_size(weights: ArrayLike) -> float:
    """Return (sum w)^2 / sum w^2 of weights [N]: how many equal ones would say as much.

    Raises:
        UsageError: weights that are negative, not finite, or all 0.
    """
    found = np.asarray(weights, dtype=np.float64)
    if not (np.isfinite(found).all() and (found >= 0).all() and found.sum() > 0):
        raise UsageError("weights that are negative, not finite or all 0", fix="give weights from 0, some above")
    scaled = found / found.max()
    return float(scaled.sum() ** 2 / (scaled**2).sum())


def sampled_tilt(rewards: ArrayLike, alpha: float) -> tuple[float, float, float]:
    """Estimate reward, KL in nats and effective draws of the tilt at alpha: means over prompts of [P, M] or [M].

    Self-normalised: weights exp(alpha r). Draws hold no reward above the highest that was seen, so a large alpha is
    biased low, which the effective number of draws tells.

    Raises:
        DataError, UsageError: rewards that are not finite, or fewer than `LEAST_DRAWS` effective draws per prompt.
    """
    reward, kl, effective = _tilted(as_draws(rewards), alpha)
    if effective < LEAST_DRAWS:
        what = f"at alpha {alpha:g} only {effective:.0f} draws of a prompt still count"
        raise UsageError(what, fix=f"use a smaller alpha, or draw more: {LEAST_DRAWS} have to count")
    return reward, kl, effective


def tilt_curve(rewards: ArrayLike, points: int = 25) -> TiltCurve:
    """Estimate the tilt from alpha 0 up to the largest alpha at which `LEAST_DRAWS` draws per prompt still count.

    Raises:
        DataError, UsageError: rewards that are not finite, or fewer than `LEAST_DRAWS` per prompt.
    """
    found = as_draws(rewards)
    spread = float(np.ptp(found, axis=1).max())
    if spread == 0:
        return TiltCurve(*(np.array([v]) for v in (0.0, 0.0, float(found.mean()), float(found.shape[1]))))
    low, high = 0.0, 1.0 / spread
    while _tilted(found, high)[2] >= LEAST_DRAWS and high * spread < 1e4:
        low, high = high, 2 * high
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _tilted(found, middle)[2] >= LEAST_DRAWS else (low, middle)
    alphas = np.linspace(0.0, low, points)
    reward, kl, effective = np.array([_tilted(found, float(alpha)) for alpha in alphas]).T
    return TiltCurve(alphas, kl, reward, effective)


def policy_distance(log_ratio: ArrayLike, rewards: ArrayLike, base: ArrayLike, *, prompts: ArrayLike) -> PolicyDistance:
    """Say how near a trained policy is to the tilt that it seems to aim at.

    Args:
        log_ratio: log policy - log reference of the policy's own answers, summed over tokens, nats [S].
        rewards: their rewards [S].
        base: rewards of draws of the reference [P, M].
        prompts: prompt (row of `base`) of every answer [S].

    Raises:
        DataError, UsageError: values that are not finite, columns of unequal length, or fewer than `LEAST_DRAWS` draws.
    """
    ratio, worth = (np.asarray(v, dtype=np.float64) for v in (log_ratio, rewards))
    asked, draws = np.asarray(prompts, dtype=np.int64), as_draws(base)
    if not len(ratio) == len(worth) == len(asked) or len(ratio) < 2:
        what = f"{len(ratio)} log-ratios, {len(worth)} rewards, {len(asked)} prompts"
        raise UsageError(what, fix="give one of each per answer, two answers or more")
    if not (np.isfinite(ratio).all() and np.isfinite(worth).all()):
        raise DataError("a log-ratio or reward is not finite", fix="leave out answers without a value")
    inside = _within(asked, worth)
    variance = float(inside @ inside)
    alpha = float(inside @ ratio) / variance if variance > 0 else 0.0
    tops = (alpha * draws).max(axis=1, keepdims=True)
    partition = (tops[:, 0] + np.log(np.exp(alpha * draws - tops).mean(1)))[asked]
    return PolicyDistance(
        alpha, float(ratio.mean()), float(worth.mean()), float((ratio - alpha * worth + partition).mean())
    )


def _within(prompts: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return values less their prompt's mean: what differs between answers to one prompt."""
    _, place = np.unique(prompts, return_inverse=True)
    counts = np.bincount(place)
    return values - (np.bincount(place, values) / counts)[place]


def _tilted(rewards: np.ndarray, alpha: float) -> tuple[float, float, float]:
    raised = alpha * rewards
    tops = raised.max(axis=1, keepdims=True)
    weights = np.exp(raised - tops)
    total = weights.sum(1)
    reward = (weights * rewards).sum(1) / total
    partition = tops[:, 0] + np.log(total / rewards.shape[1])
    effective = total**2 / (weights**2).sum(1)
    return float(reward.mean()), float(np.maximum(alpha * reward - partition, 0.0).mean()), float(effective.mean())


def _evenly(row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.full(len(row), 1 / len(row)), row


def _kl_of_levels(row: np.ndarray, n: float) -> float:
    m = len(row)
    counts = np.rint(Levels(*_evenly(row)).mass * m)
    if len(counts) == 1:
        return 0.0
    whole = float(_plug_in(counts, n))
    if len(counts) == m:
        mean = float(_plug_in(np.ones(m - 1), n))
    else:
        mean = float(counts @ _plug_in(counts - np.eye(len(counts)), n)) / m
    return min(max(0.0, m * whole - (m - 1) * mean), float(kl_bound(n)))


def _plug_in(counts: np.ndarray, n: float) -> np.ndarray:
    """Return the KL of the best of n under shares of counts [..., L], in which a level may have none."""
    up_to = np.cumsum(counts, axis=-1)
    total = up_to[..., -1:]
    mass = np.diff((up_to / total) ** n, axis=-1, prepend=0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(mass > 0, mass * np.log(mass * total / counts), 0.0)
    return terms.sum(-1)
