"""Figures of the theory: reward over KL, rates, gaps of groups, amplification, poisoning, cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from fairlead import figures
from fairlead.theory.audit import Representation
from fairlead.theory.best_of_n import best_of_n_frontier
from fairlead.theory.rates import rate
from fairlead.theory.samples import TiltCurve
from fairlead.theory.tilting import tilt, tilt_at_kl, tilt_frontier
from fairlead.theory.trilemma import amplified, log2_operations, poisoned_majority

__all__ = [
    "draw_amplification",
    "draw_cost",
    "draw_estimates",
    "draw_frontier",
    "draw_gaps",
    "draw_poisoning",
    "draw_rate",
]

_SIZE = (4.6, 2.4)


def draw_frontier(p: ArrayLike, r: ArrayLike, *, kl: float, marks: Mapping[str, tuple[float, float]]) -> str:
    """Draw reward over KL of the tilt and of the best of N, as far as `kl` nats, with marks name -> (KL, reward)."""
    alphas = tilt_at_kl(p, r, kl).alpha
    alphas = alphas if np.isfinite(alphas) else tilt_at_kl(p, r, 0.995 * kl).alpha
    ideal = tilt_frontier(p, r, np.linspace(0, alphas, 80))
    best = best_of_n_frontier(p, r, np.exp(np.linspace(0, kl + 1.5, 80)))
    kept = best.kl <= kl
    lines = {"tilt": (ideal.kl, ideal.reward), "best of N": (best.kl[kept], best.reward[kept])}
    points = {name: ([x], [y]) for name, (x, y) in marks.items()}
    return figures.curves({**lines, **points}, x="KL from the reference (nats)", y="mean reward", size=_SIZE)


def draw_rate(p: ArrayLike, r: ArrayLike, alpha: float) -> str:
    """Draw the rate function of the mean reward under the tilt at alpha."""
    rewards = np.asarray(r, dtype=np.float64)
    along = np.unique(np.append(np.linspace(rewards.min(), rewards.max(), 121), tilt(p, r, alpha).reward))
    lines = {"J": (along, [rate(p, r, alpha, float(x)) for x in along])}
    return figures.curves(lines, x="reward per symbol", y="rate (nats)", size=_SIZE)


def draw_estimates(lines: Mapping[str, tuple[ArrayLike, ArrayLike]], ideal: TiltCurve) -> str:
    """Draw reward over KL estimated from samples, lines name -> (KL, reward), beside the tilt's."""
    both = {"tilt": (ideal.kl, ideal.reward), **lines}
    return figures.curves(both, x="KL from the reference (nats)", y="mean reward", size=_SIZE)


def draw_gaps(found: Representation) -> str:
    """Draw how far each group's value is from what the makers believe."""
    names = list(found.groups)
    return figures.intervals({"gap": {name: found.groups[name].gap for name in names}}, names, label="gap")


def draw_amplification(majorities: Sequence[float], *, reference: float = 0.5, most: float = 2.0) -> str:
    """Draw how often the majority's answer is given over beta, a line per majority."""
    betas = np.linspace(0.01, most, 200)
    lines = {f"{share:.0%}": (betas, amplified(share, betas, reference=reference)) for share in majorities}
    return figures.curves(lines, x="beta", y="P(majority's answer)", size=_SIZE)


def draw_poisoning(majority: float, beta: float, *, reference: float = 0.5) -> str:
    """Draw how often the majority's answer is given over the share of labels touched, a line per adversary."""
    shares = np.linspace(0, 0.5, 101)
    lines = {}
    for poison in ("replaced", "flipped", "noise"):
        left = np.clip(poisoned_majority(majority, shares, poison), 1e-9, 1 - 1e-9)
        lines[poison] = (shares, amplified(left, beta, reference=reference))
    return figures.curves(lines, x="share of labels touched", y="P(majority's answer)", size=_SIZE)


def draw_cost(epsilons: Sequence[float], delta: float, people: float, *, budget: float, most: float) -> str:
    """Draw the lower bound on operations over the bits of context, a line per epsilon, and the budget."""
    bits = np.linspace(0, most, 101)
    lines = {
        f"epsilon {epsilon:g}": (bits, [log2_operations(epsilon, delta, float(d), people) for d in bits])
        for epsilon in epsilons
    }
    return figures.curves(
        {**lines, "budget": (bits, np.full(len(bits), budget))}, x="bits of context", y="log2 operations", size=_SIZE
    )
