"""From rows of numbers to what each of them tells: reduced, fitted, and measured by one of several entropies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fairlead.selection.encoding import principal
from fairlead.selection.entropy import (
    changes_of_discrete,
    changes_of_gaussian,
    changes_of_refit,
    changes_when_fixed,
    kernel_surprisal,
    rank_correlation,
)
from fairlead.selection.mixture import Mixture, fit_mixture, mixture_of_labels, refine

__all__ = ["Information", "Measure"]

_CHECKED = (10, 30)
"""Least and most elements whose change is checked by full fits."""


@dataclass(frozen=True)
class Information:
    """What N elements contribute to the entropy of all."""

    rows: np.ndarray
    """float64 [N, D]: the elements as they were measured; of two rows each, the first."""
    entropy: float
    """Of all, in nats."""
    change: np.ndarray
    """float64 [N]: entropy of all less the entropy without the element, in nats."""
    surprisal: np.ndarray
    """float64 [N]: -ln of the density; of two rows, as their changes are joined."""
    component: np.ndarray
    """int64 [N]: the likeliest component of the (first) row."""
    responsibility: np.ndarray
    """float64 [N]: its chance."""
    strata: np.ndarray
    """int64 [N]: component and label as one number."""
    weights: np.ndarray
    """float64 [K]: of the components."""
    agreement: float | None
    """Rank correlation of the changes with those of full fits, over a sample; None where they are exact."""
    notes: tuple[str, ...]
    """What a reader must know."""


@dataclass(frozen=True)
class Measure:
    """Settings of a measurement; `info_sampling` explains them."""

    entropy: str
    """Which density and change."""
    components: int
    """Gaussians."""
    covariance: str
    """Their form."""
    ridge: float
    """Added to every variance."""
    restarts: int
    """Runs of the fit."""
    dimensions: float
    """Axes, or share of the variance."""
    pair_value: str
    """`sum` or `max`."""
    seed: int
    """Randomness."""

    def __call__(self, rows: np.ndarray, labels: np.ndarray | None = None) -> Information:
        """Measure N elements of R rows each, float64 [R, N, D], with a label each, int [N] from 0, or none."""
        per, n, width = rows.shape
        reduced, held = principal(rows.reshape(per * n, width), self.dimensions)
        mixture = self._mixture(reduced, labels, per)
        surprisal, entropy, change = _ENTROPIES[self.entropy](reduced, mixture, self.ridge)
        shares = mixture.responsibilities(reduced[:n])
        component = shares.argmax(1)
        strata = component if labels is None else component * (int(labels.max()) + 1) + labels
        join = _JOINS[self.pair_value]
        checked = self.entropy == "mixture_refit"
        return Information(
            reduced[:n], entropy, join(change.reshape(per, n)), join(surprisal.reshape(per, n)), component,
            shares[range(n), component], strata, mixture.weights,
            self._agreement(reduced, mixture, change) if checked else None, self._notes(reduced, mixture, held),
        )  # fmt: skip

    def _mixture(self, rows: np.ndarray, labels: np.ndarray | None, per: int) -> Mixture:
        form = {"covariance": self.covariance, "ridge": self.ridge}
        if labels is not None:
            return mixture_of_labels(rows, np.tile(labels, per), **form)
        components = 1 if self.entropy == "gaussian" else self.components
        return fit_mixture(rows, components, restarts=self.restarts, seed=self.seed, **form)

    def _agreement(self, rows: np.ndarray, mixture: Mixture, change: np.ndarray) -> float:
        """Compare changes of one step with those of fits that go on to their end, over a hundredth of the elements."""
        form = {"covariance": self.covariance, "ridge": self.ridge}
        number = min(len(rows), max(_CHECKED[0], min(_CHECKED[1], len(rows) // 100)))
        sample = np.random.default_rng(self.seed).choice(len(rows), number, replace=False)
        entropy = -float(mixture.log_density(rows).mean())
        full = []
        for i in sample:
            rest = np.delete(rows, i, 0)
            full.append(entropy + float(refine(rest, mixture, **form).log_density(rest).mean()) if len(rest) else 0.0)
        return rank_correlation(change[sample], np.array(full))

    def _notes(self, rows: np.ndarray, mixture: Mixture, held: float) -> tuple[str, ...]:
        n, d = rows.shape
        notes = [f"{d} principal axes hold {held:.0%} of the variance of the standardised vectors"]
        if self.entropy in ("mixture", "kde"):
            notes.append("with the density kept, the change is (surprisal - entropy) / (n - 1): its ranks are those of"
                         " the surprisal, and nothing is fitted again")  # fmt: skip
        if len(mixture.weights) < self.components and self.entropy != "gaussian":
            notes.append(f"only {len(mixture.weights)} of {self.components} components: too few records differ")
        if self.covariance == "full" and n < len(mixture.weights) * d * (d + 1) / 2:
            notes.append(f"{n} rows are few for {len(mixture.weights)} full covariances of {d} numbers: use fewer"
                         " dimensions, or covariance: diag")  # fmt: skip
        return tuple(notes)


Found = tuple[np.ndarray, float, np.ndarray]
"""Surprisal [N], entropy, changes [N]."""


def _fixed(rows: np.ndarray, mixture: Mixture, ridge: float) -> Found:
    surprisal = -mixture.log_density(rows)
    return surprisal, *changes_when_fixed(surprisal)


def _refit(rows: np.ndarray, mixture: Mixture, ridge: float) -> Found:
    return -mixture.log_density(rows), *changes_of_refit(rows, mixture)


def _gaussian(rows: np.ndarray, mixture: Mixture, ridge: float) -> Found:
    return -mixture.log_density(rows), *changes_of_gaussian(rows, ridge)


def _kernel(rows: np.ndarray, mixture: Mixture, ridge: float) -> Found:
    surprisal = kernel_surprisal(rows)
    return surprisal, *changes_when_fixed(surprisal)


def _discrete(rows: np.ndarray, mixture: Mixture, ridge: float) -> Found:
    density = mixture.log_density(rows)
    return -density, *changes_of_discrete(density)


_ENTROPIES: dict[str, Callable[[np.ndarray, Mixture, float], Found]] = {
    "mixture": _fixed, "mixture_refit": _refit, "gaussian": _gaussian, "kde": _kernel, "discrete": _discrete,
}  # fmt: skip
_JOINS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "sum": lambda parts: parts.sum(0),
    "max": lambda parts: parts.max(0),
}
