"""Estimators of the branching factor from the entropies and log-probs of sampled answers (arXiv 2506.17871).

Three averages are not the same and have names of their own: over the tokens of a sample, over the samples of a prompt,
over prompts. All functions here are about one prompt; a task's number is the mean over its prompts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["by_position", "entropy_bf", "nll_bf", "prefix_bf", "rate_bf", "slope", "window_bf"]


def entropy_bf(entropies: Sequence[np.ndarray]) -> float:
    """Return exp of the mean over samples of each sample's mean entropy per token; for short answers.

    Args:
        entropies: [N_i] nats per sample, N_i >= 1, of the truncated next-token distributions.
    """
    return float(np.exp(np.mean([np.mean(sample) for sample in entropies])))


def nll_bf(logprobs: Sequence[np.ndarray]) -> float:
    """Return exp of the mean over samples of each sample's mean negative log-prob per token; for long answers.

    By the asymptotic equipartition property it meets `entropy_bf` as answers get longer.

    Args:
        logprobs: [N_i] nats per sample, N_i >= 1, under the truncated distributions the sample was drawn from.
    """
    return float(np.exp(-np.mean([np.mean(sample) for sample in logprobs])))


def rate_bf(entropies: Sequence[np.ndarray]) -> float:
    """Return exp(total entropy / mean length): samples weigh by their length."""
    return float(np.exp(sum(map(np.sum, entropies)) / sum(map(len, entropies))))


def by_position(values: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean at every position over the samples that reach it, float64 [longest], and how many these are."""
    lengths = np.array([len(sample) for sample in values])
    table = np.zeros((len(values), lengths.max(initial=0)))
    for row, sample in zip(table, values):
        row[: len(sample)] = sample
    reached = (lengths[:, None] > np.arange(table.shape[1])).sum(0)
    return table.sum(0) / np.maximum(reached, 1), reached


def prefix_bf(entropies: Sequence[np.ndarray], *, min_samples: int = 4, length_quantile: float = 0.95) -> np.ndarray:
    """Return the branching factor of the first t tokens for every t, float64 [T].

    Entropies are averaged over the samples at each position first, so every position weighs the same.

    Args:
        entropies: [N_i] nats per sample.
        min_samples: a position that fewer samples reach ends the curve.
        length_quantile: positions beyond this quantile of the lengths are left out, in (0, 1].
    """
    means, reached = by_position(entropies)
    longest = int(np.quantile([len(sample) for sample in entropies], length_quantile))
    kept = min(longest, int((reached >= min_samples).sum()))
    return np.exp(np.cumsum(means[:kept]) / np.arange(1, kept + 1))


def window_bf(entropies: Sequence[np.ndarray], window: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the branching factor of every `window` tokens, float64 [W], and how many samples reach each window.

    exp of the mean entropy inside the window is taken per sample, and then the mean over samples; a sample's last
    window may be shorter.
    """
    inside = []
    for sample in entropies:
        starts = np.arange(0, len(sample), window)
        sizes = np.diff(np.append(starts, len(sample)))
        inside.append(np.exp(np.add.reduceat(sample, starts) / sizes))
    return by_position(inside)


def slope(values: np.ndarray, window: int) -> float:
    """Return how fast the log of window values [W] changes, nats per token, by least squares; NaN for one window."""
    if len(values) < 2:
        return float("nan")
    middles = np.arange(len(values)) * window
    return float(np.polyfit(middles, np.log(values), 1)[0])
