"""Logistic regression on soft targets with an L1 penalty, for a few inputs and many reweightings of the rows.

Minimises sum_i count_i CE(target_i, sigmoid(x_i w)) + penalty |w|_1, and, for fixed rows of which only their sums of
target times input are known, weight * (sum_g log(1 + exp(x_g w)) - sums w). Proximal Newton: each step solves the
penalised quadratic model by coordinate descent, for all reweightings at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from fairlead.errors import UsageError

__all__ = ["L1Logistic"]

_ROUNDS = 100
_CLOSE = 1e-9
_RESAMPLED_CLOSE = 3e-3
_SAFE_STEP = 0.5
_SWEEPS = 200
_HALVINGS = 30
_UNBOUNDED = 30.0


@dataclass(frozen=True)
class L1Logistic:
    """A fit to be made: once to all rows, or to reweighted rows."""

    inputs: np.ndarray
    """x [N, K]."""
    targets: np.ndarray
    """Soft labels [N] in [0, 1]."""
    penalty: float
    """Weight of |w|_1; 0 for none."""
    fixed_inputs: np.ndarray
    """x of the fixed rows [G, K]; G may be 0."""
    fixed_weight: float
    """What a fixed row counts."""
    fixed_sums: np.ndarray
    """Sums of target times input over the fixed rows [K]."""

    def fit(self) -> np.ndarray:
        """Return the weights [K] for all rows, each counted once.

        Raises:
            UsageError: without a penalty, targets that inputs separate, so that no finite weights are best.
        """
        counts = np.ones((1, len(self.targets)))
        weights = self._descend(counts, np.zeros((1, self.inputs.shape[1])), _CLOSE)[0]
        if np.abs(weights).max() > _UNBOUNDED and self.penalty == 0:
            what = "the verdicts have no finite fit: length or model alone tells who wins"
            raise UsageError(what, fix="use a finite c")
        return weights

    def refit(self, counts: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Return weights [R, K] for rows counted `counts` [R, N] times, from `start` [K], to about 1e-5."""
        return self._descend(counts, np.tile(start, (len(counts), 1)), _RESAMPLED_CLOSE)

    def _descend(self, counts: np.ndarray, weights: np.ndarray, close: float) -> np.ndarray:
        """Step until the steps are shorter than `close`; convergence is quadratic, so the last one is far closer."""
        for _ in range(_ROUNDS):
            slope, bend = self._derivatives(counts, weights)
            step = _penalised_step(slope, bend, weights, self.penalty)
            longest = np.abs(step).max()
            weights = weights + step if longest <= _SAFE_STEP else self._walk(counts, weights, step)
            if longest <= close or (self.penalty == 0 and np.abs(weights).max() > 2 * _UNBOUNDED):
                break
        return weights

    def _walk(self, counts: np.ndarray, weights: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Take the steps [R, K], halved where they would not lower the loss."""
        loss = self._loss(counts, weights)
        for _ in range(_HALVINGS):
            tried = weights + step
            worse = self._loss(counts, tried) > loss + 1e-12 * np.abs(loss)
            if not worse.any():
                return tried
            step = np.where(worse[:, None], step / 2, step)
        return np.where(worse[:, None], weights, tried)

    def _loss(self, counts: np.ndarray, weights: np.ndarray) -> np.ndarray:
        inner = weights @ self.inputs.T
        found = (counts * (np.logaddexp(0, inner) - self.targets * inner)).sum(1)
        if len(self.fixed_inputs):
            fixed = np.logaddexp(0, weights @ self.fixed_inputs.T).sum(1) - weights @ self.fixed_sums
            found += self.fixed_weight * fixed
        return found + self.penalty * np.abs(weights).sum(1)

    def _derivatives(self, counts: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the slope [R, K] and curvature [R, K, K] of all but the penalty."""
        size = self.inputs.shape[1]
        chance = expit(weights @ self.inputs.T)
        slope = (counts * (chance - self.targets)) @ self.inputs
        bend = (counts * chance * (1 - chance)) @ _products(self.inputs)
        if len(self.fixed_inputs):
            chance = expit(weights @ self.fixed_inputs.T)
            slope += self.fixed_weight * (chance @ self.fixed_inputs - self.fixed_sums)
            bend += self.fixed_weight * ((chance * (1 - chance)) @ _products(self.fixed_inputs))
        return slope, bend.reshape(-1, size, size)


def _products(inputs: np.ndarray) -> np.ndarray:
    return (inputs[:, :, None] * inputs[:, None, :]).reshape(len(inputs), -1)


def _penalised_step(slope: np.ndarray, bend: np.ndarray, weights: np.ndarray, penalty: float) -> np.ndarray:
    """Return the step [R, K] to the minimum of the quadratic model with its L1 penalty, by coordinate descent."""
    target = weights.copy()
    size = weights.shape[1]
    ridge = 1e-10 * np.einsum("rkk->r", bend) / size + 1e-300
    for _ in range(_SWEEPS):
        before = target.copy()
        for k in range(size):
            own = bend[:, k, k] + ridge
            pull = slope[:, k] + np.einsum("rj,rj->r", bend[:, k], target - weights)
            free = target[:, k] - pull / own
            target[:, k] = np.sign(free) * np.maximum(np.abs(free) - penalty / own, 0)
        if np.abs(target - before).max() < 1e-12:
            break
    return target - weights
