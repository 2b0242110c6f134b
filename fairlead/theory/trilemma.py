"""Closed forms of the trilemma: what it takes to represent everybody, to be affordable, and to be robust at once.

epsilon is how far the value of a policy to people may be from what its makers believe, delta how often it may fail
under perturbation. Source: Sahoo et al. 2025, "The Complexity of Perfect AI Alignment" (arXiv 2511.19504), a position
paper without experiments; sample sizes, amplification and poisoning follow from textbook inequalities and the
KL-regularised optimum, and are Fairlead's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fairlead.errors import UnknownNameError, UsageError
from fairlead.theory.problems import as_distribution

__all__ = [
    "POISONS",
    "Amplification",
    "affordable_context",
    "amplified",
    "amplified_options",
    "beta_at",
    "effective_dimension",
    "failure_limit",
    "log2_operations",
    "poisoned_majority",
    "poisoning_threshold",
    "samples_per_group",
    "samples_per_group_at_variance",
    "trials_to_certify",
]


@dataclass(frozen=True)
class Amplification:
    """The policy that a KL-regularised optimum makes of a population's preferences among options."""

    policy: np.ndarray
    """Probabilities of the options [K]."""
    population: np.ndarray
    """Shares of people who like each option best [K]."""
    total_variation: float
    """Half the sum of the differences: the share of people who are overruled, net."""


def log2_operations(epsilon: float, delta: float, context: float, people: float, *, kappa: float = 1.0) -> float:
    """Return log2 of the lower bound kappa 2^context / (epsilon^2 people delta) on the operations of a perfect aligner.

    A lower bound up to a constant that nobody knows: good for comparing settings, not an estimate of cost. It falls
    with the number of people, which no real cost does.

    Args:
        epsilon: how far values may be off, above 0.
        delta: how often the policy may fail under perturbation, above 0.
        context: bits of context that preferences depend on; the bound depends on this choice more than on all else.
        people: size of the population.
        kappa: the unknown constant.
    """
    for name, value in (("epsilon", epsilon), ("delta", delta), ("people", people), ("kappa", kappa)):
        _positive(name, value)
    if not 0 <= context < math.inf:
        raise UsageError(f"context is {context}", fix="use bits from 0")
    return math.log2(kappa) + context - 2 * math.log2(epsilon) - math.log2(people) - math.log2(delta)


def affordable_context(budget: float, epsilon: float, delta: float, people: float, *, kappa: float = 1.0) -> float:
    """Return the bits of context at which `log2_operations` reaches a budget of 2^budget; below 0 there are none."""
    return budget - log2_operations(epsilon, delta, 0.0, people, kappa=kappa)


def samples_per_group(epsilon: float, failure: float, groups: int = 1, *, bound: float = 1.0) -> int:
    """Return the samples that every one of the groups needs for all means to be within epsilon at once (Hoeffding).

    ceil(bound^2 ln(2 groups / failure) / (2 epsilon^2)).

    Args:
        epsilon: how far a mean may be off.
        failure: chance that some group's mean is further off; not the delta of robustness.
        groups: how many groups.
        bound: values lie in [0, bound].
    """
    _check_samples(epsilon, failure, groups, bound)
    return math.ceil(bound**2 * math.log(2 * groups / failure) / (2 * epsilon**2))


def samples_per_group_at_variance(
    epsilon: float, failure: float, variance: float, groups: int = 1, *, bound: float = 1.0
) -> int:
    """Return the samples per group when data tell the variance of the values (Maurer & Pontil 2009, theorem 4).

    The least m >= 2 with sqrt(2 variance ln(4 groups / failure) / m) + 7 bound ln(4 groups / failure) / (3 (m - 1)) at
    most epsilon; below `samples_per_group` where values vary little.
    """
    _check_samples(epsilon, failure, groups, bound)
    if not 0 <= variance <= bound**2 / 4 + 1e-12:
        raise UsageError(f"a variance of {variance}", fix=f"values in [0, {bound:g}] vary by 0 to {bound**2 / 4:g}")
    log = math.log(4 * groups / failure)

    def off(m: int) -> float:
        return math.sqrt(2 * variance * log / m) + 7 * bound * log / (3 * (m - 1))

    high = 2
    while off(high) > epsilon:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle < 2 or off(middle) > epsilon else (low, middle)
    return high


def trials_to_certify(delta: float, confidence: float = 0.95) -> int:
    """Return the perturbations without any failure that show a failure rate of at most delta at this confidence."""
    if not (0 < delta < 1 and 0 < confidence < 1):
        raise UsageError(f"delta is {delta} and confidence {confidence}", fix="use shares between 0 and 1")
    return math.ceil(math.log1p(-confidence) / math.log1p(-delta))


def failure_limit(failures: int, trials: int, confidence: float = 0.95) -> float:
    """Return the exact one-sided upper limit of a failure rate (Clopper & Pearson 1934)."""
    from scipy import stats

    if not 0 <= failures <= trials or trials < 1:
        raise UsageError(f"{failures} failures in {trials} trials", fix="count 1 trial or more, failures among them")
    if not 0 < confidence < 1:
        raise UsageError(f"confidence is {confidence}", fix="use a share between 0 and 1, such as 0.95")
    test = stats.binomtest(failures, trials, alternative="less")
    return float(test.proportion_ci(confidence_level=confidence, method="exact").high)


def amplified(majority: ArrayLike, beta: ArrayLike, *, reference: float = 0.5) -> np.ndarray:
    """Return how often the KL-regularised optimum gives the answer that a share `majority` of people prefers.

    sigmoid(logit(reference) + logit(majority) / beta): the Bradley-Terry reward gap is logit(majority). At beta 1 from
    a reference of .5 the policy is as divided as the people; below, it gives the majority more than its share.
    """
    share, strength = np.asarray(majority, dtype=np.float64), np.asarray(beta, dtype=np.float64)
    if not (strength > 0).all():
        raise UsageError("beta is not above 0", fix="use a KL coefficient above 0")
    from scipy.special import expit

    with np.errstate(over="ignore"):
        return expit(_logit(reference, "reference") + _logit(share, "majority") / strength)[()]


def beta_at(majority: float, *, target: float = 0.99, reference: float = 0.5) -> float:
    """Return the beta at which the majority's answer is given with probability `target`; infinite if always beyond.

    Raises:
        UsageError: no beta gets there, for majority and target are on different sides.
    """
    pull, way = float(_logit(majority, "majority")), float(_logit(target, "target") - _logit(reference, "reference"))
    if way == 0:
        return math.inf
    if pull / way <= 0:
        what = f"a majority of {majority:g} never takes a reference of {reference:g} to {target:g}"
        raise UsageError(what, fix="use a target on the majority's side of the reference")
    return pull / way


def amplified_options(
    population: ArrayLike, beta: float, *, rewards: ArrayLike | None = None, reference: ArrayLike | None = None
) -> Amplification:
    """Return the KL-regularised optimum over K options beside the population's preferences.

    Args:
        population: share of people who like each option best [K].
        beta: KL coefficient, above 0.
        rewards: what the reward model gives [K]; by default log population, which a choice model would learn.
        reference: probabilities of the options before training [K]; by default even.
    """
    _positive("beta", beta)
    shares = as_distribution(population, "population")
    before = np.full(len(shares), 1 / len(shares)) if reference is None else as_distribution(reference, "reference")
    worth = np.log(shares) if rewards is None else np.asarray(rewards, dtype=np.float64)
    if not len(before) == len(worth) == len(shares):
        what = f"{len(shares)} shares, {len(worth)} rewards, {len(before)} reference probabilities"
        raise UsageError(what, fix="give one of each per option")
    raised = np.log(before) + worth / beta
    policy = np.exp(raised - raised.max())
    policy /= policy.sum()
    return Amplification(policy, shares, float(np.abs(policy - shares).sum() / 2))


def poisoned_majority(majority: ArrayLike, share: ArrayLike, poison: str = "replaced") -> np.ndarray:
    """Return the majority's share of labels after `share` of all labels were touched; see `POISONS`."""
    if poison not in POISONS:
        raise UnknownNameError("poison", poison, POISONS)
    before, touched = np.asarray(majority, dtype=np.float64), np.asarray(share, dtype=np.float64)
    if not ((before >= 0) & (before <= 1) & (touched >= 0) & (touched <= 1)).all():
        raise UsageError("a majority or a share of touched labels is not in [0, 1]", fix="use shares from 0 to 1")
    return np.clip(POISONS[poison](before, touched), 0.0, 1.0)[()]


def poisoning_threshold(majority: float, poison: str = "replaced") -> float:
    """Return the share of all labels beyond which the majority loses; 0 where there is none, infinite for noise.

    Replaced: 1 - .5 / majority; flipped: majority - .5; noise takes the margin away and never turns it.
    """
    if poison not in POISONS:
        raise UnknownNameError("poison", poison, POISONS)
    if not 0 <= majority <= 1:
        raise UsageError(f"a majority of {majority}", fix="use a share of people from 0 to 1")
    if majority <= 0.5:
        return 0.0
    return {"replaced": 1 - 0.5 / majority, "flipped": majority - 0.5, "noise": math.inf}[poison]


def effective_dimension(features: ArrayLike) -> float:
    """Return the participation ratio (sum l)^2 / sum l^2 of the covariance of context features [N, D].

    Between 1 and D: over how many directions contexts are spread. One way to choose the bits of context.
    """
    table = np.asarray(features, dtype=np.float64)
    if table.ndim != 2 or len(table) < 2 or not np.isfinite(table).all():
        raise UsageError(f"features of the shape {table.shape}", fix="give finite numbers [N contexts, D], N >= 2")
    covariance = np.cov(table, rowvar=False).reshape(table.shape[1], table.shape[1])
    total = float(np.trace(covariance))
    if total <= 0:
        raise UsageError("the features do not vary", fix="give features that differ between contexts")
    return total**2 / float((covariance**2).sum())


POISONS: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "replaced": lambda majority, share: majority * (1 - share),
    "flipped": lambda majority, share: majority - share,
    "noise": lambda majority, share: majority + share * (1 - 2 * majority),
}
"""Who touches labels: `replaced` makes random ones the adversary's, `flipped` lets it pick, `noise` flips at random."""


def _logit(share: ArrayLike, name: str) -> np.ndarray:
    from scipy.special import logit

    found = np.asarray(share, dtype=np.float64)
    if not ((found > 0) & (found < 1)).all():
        raise UsageError(f"{name} is not between 0 and 1", fix="use a share that is neither 0 nor 1")
    return logit(found)


def _positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise UsageError(f"{name} is {value}", fix="use a finite number above 0")


def _check_samples(epsilon: float, failure: float, groups: int, bound: float) -> None:
    _positive("epsilon", epsilon)
    _positive("bound", bound)
    if not 0 < failure < 1:
        raise UsageError(f"a chance of failure of {failure}", fix="use a share between 0 and 1, such as 0.05")
    if groups < 1:
        raise UsageError(f"{groups} groups", fix="use 1 or more")
