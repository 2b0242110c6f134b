"""What several rewards say together: careful values, and how much of their doubt is disagreement.

Sources: Coste et al. 2023 (arXiv 2310.02743) for the careful values; Depeweg et al. 2018 (arXiv 1710.07283) for the
split of an entropy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fairlead.errors import UsageError
from fairlead.estimates import per_prompt

__all__ = ["Careful", "careful_values", "split_entropy", "standardised"]


@dataclass(frozen=True)
class Careful:
    """Values of the same answers, float64 of the answers' shape each."""

    mean: np.ndarray
    """Mean of the members."""
    sd: np.ndarray
    """Their standard deviation, with M - 1 below."""
    lcb: np.ndarray
    """Lower confidence bound: the mean less some standard deviations."""
    worst: np.ndarray
    """The lowest member."""
    penalised: np.ndarray
    """The mean less a multiple of the variance, with M below."""


def careful_values(values: ArrayLike, *, deviations: float = 1.0, variance_weight: float = 0.5) -> Careful:
    """Join the values [M, ...] of M members, two or more.

    Args:
        values: NaN where a member has none; such an answer has no value at all.
        deviations: standard deviations taken off for `lcb`.
        variance_weight: how often the variance is taken off for `penalised`.
    """
    found = np.asarray(values, dtype=np.float64)
    if found.ndim < 1 or len(found) < 2:
        raise UsageError("an ensemble of fewer than two members", fix="give values of two members or more: [M, ...]")
    mean, sd = found.mean(0), found.std(0, ddof=1)
    return Careful(mean, sd, mean - deviations * sd, found.min(0), mean - variance_weight * found.var(0))


def standardised(values: ArrayLike, reference: ArrayLike) -> np.ndarray:
    """Return every member's values [M, ...] in units of how much its reference values [M, R, n] differ on one prompt.

    So members on different scales become comparable. The unit is the standard deviation of the n >= 2 answers to a
    prompt around their mean, pooled over the R prompts; it does not see constants that a prompt adds to all of them.

    Raises:
        UsageError: a member that values the answers to every prompt alike, or has two of none.
    """
    found, known = np.asarray(values, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    scales = []
    for number, own in enumerate(known):
        middle = np.broadcast_to(per_prompt(own)[:, None], own.shape)
        kept = ~np.isnan(own)
        free = float(np.maximum(kept.sum(1) - 1, 0).sum())
        scale = float(np.sqrt(((own - middle)[kept] ** 2).sum() / free)) if free else 0.0
        if not scale > 0:
            what = f"member {number} does not tell the reference's answers to any prompt apart"
            raise UsageError(what, fix="draw two answers or more (sampling.n), or set standardise: false")
        scales.append(scale)
    return found / np.array(scales).reshape(-1, *[1] * (found.ndim - 1))


def split_entropy(margins: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Split the doubt about which of two answers is better, from each member's difference of rewards [M, ...].

    Member m finds the first better with probability sigma(margin m). Returns in nats: total (entropy of the mean
    probability), aleatoric (mean entropy: what the members themselves find even), and epistemic (the rest, 0 or more:
    what they disagree about).
    """
    from scipy.special import entr, expit

    found = np.asarray(margins, dtype=np.float64)
    yes, no = expit(found), expit(-found)
    total = entr(yes.mean(0)) + entr(no.mean(0))
    aleatoric = (entr(yes) + entr(no)).mean(0)
    return total, aleatoric, np.maximum(total - aleatoric, 0.0)
