"""An audit against the trilemma: how far a policy is from representing every group, and from being robust.

The unit of the data is the person: a group's value is the mean over its annotators of each one's mean value, so that
somebody who labels much does not count for more, and intervals widen with how much people differ and not with how
little one person's labels do. Values are bounded (win rates, shares); raw scores of a reward model are not.
Source of the question: Sahoo et al. 2025 (arXiv 2511.19504); the intervals and the verdicts are Fairlead's own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fairlead.errors import DataError, UnknownNameError, UsageError
from fairlead.estimates import Estimate
from fairlead.theory.samples import effective_size
from fairlead.theory.trilemma import failure_limit, samples_per_group

__all__ = [
    "MET",
    "SMALL",
    "UNKNOWN",
    "VIOLATED",
    "Group",
    "Representation",
    "Robustness",
    "absolute",
    "audit_groups",
    "audit_robustness",
    "verdict_on",
    "worst_gap",
]

MET, VIOLATED, UNKNOWN = "met", "not met", "not enough data"
SMALL = "(small groups)"
"""The name under which groups below the least size are put together."""


@dataclass(frozen=True)
class Group:
    """One group of people."""

    population: float
    """Its share of the population."""
    share: float
    """Its share of the labels, which is what a reward model learns from."""
    people: int
    """Annotators."""
    value: Estimate
    """Mean value of the policy to them."""
    pooled: float
    """The same, drawn towards the mean of all groups as far as few people leave it open (empirical Bayes)."""
    gap: Estimate
    """How far the value is from what the makers believe, without its sign."""


@dataclass(frozen=True)
class Representation:
    """How well the value that the makers believe in stands for everybody."""

    groups: Mapping[str, Group]
    """name -> group, the widest gap first."""
    believed: Estimate
    """What the makers believe: the mean over the labels, unless it is given."""
    population: Estimate
    """What the population gets: the mean over groups by their shares of the population."""
    epsilon_mean: Estimate
    """How far the two are apart: may be 0 while a group is far off."""
    epsilon_worst: Estimate
    """The widest gap of any group."""
    fairness_gap: float
    """Highest less lowest value of a group."""
    effective: float
    """Labels that count when every group is weighted to its share of the population."""
    coverage: float
    """Share of the population in groups with enough people."""
    needed: int
    """Samples per group that would do whatever the values are (Hoeffding, all groups at once)."""
    notes: tuple[str, ...] = ()
    """What a reader must know."""


@dataclass(frozen=True)
class Robustness:
    """How often a policy failed under perturbation."""

    failures: int
    """Perturbations under which the value fell too low."""
    trials: int
    """Perturbations tried."""
    rate: Estimate
    """Failure rate; its upper end is the exact one-sided limit, the lower one likewise."""


def audit_groups(
    values: ArrayLike,
    groups: Sequence[str],
    people: Sequence[str],
    *,
    population: Mapping[str, float] | None = None,
    believed: float | None = None,
    weights: ArrayLike | None = None,
    epsilon: float = 0.05,
    confidence: float = 0.95,
    smallest: int = 5,
    enough: int = 30,
) -> Representation:
    """Audit the value of a policy to people of several groups.

    Args:
        values: value of the policy to a person in each record [N], in [0, 1].
        groups: the person's group [N]; attributes that cross are one group per combination.
        people: the person [N], each in one group.
        population: group -> share of the population, summing to 1; by default the shares of people in the records.
        believed: the value that the makers claim; by default the mean of the records, groups by their share of these.
        weights: how much each record counts [N]; by default 1.
        epsilon: the gap that is aimed at; it sets `needed`.
        confidence: coverage of the intervals.
        smallest: groups with fewer people are put together under one name, for few are easily recognised.
        enough: people that a group needs to count for `coverage`.

    Raises:
        DataError, UsageError: values out of bounds, a person in two groups, or shares that fit no group.
    """
    if not 0 < confidence < 1:
        raise UsageError(f"confidence is {confidence}", fix="use a share between 0 and 1, such as 0.95")
    table = _People.of(values, groups, people, weights)
    shares = _population(population, table)
    table, shares, notes = _merged(table, shares, smallest)
    effective, coverage = _counting(table, shares, enough)
    needed = samples_per_group(epsilon, 1 - confidence, len(table.names))
    return Representation(*_compared(table, shares, believed, confidence), effective, coverage, needed, notes)


def audit_robustness(failures: int, trials: int, confidence: float = 0.95) -> Robustness:
    """Return a failure rate with its exact limits (Clopper & Pearson 1934), each one-sided at this confidence."""
    high = failure_limit(failures, trials, confidence)
    low = 1 - failure_limit(trials - failures, trials, confidence)
    rate = failures / trials
    return Robustness(failures, trials, Estimate(rate, min(max(0.0, low), rate), max(high, rate), trials))


def worst_gap(gaps: Sequence[Estimate], adjusted: Sequence[Estimate]) -> Estimate:
    """Return the widest of several gaps, each given with its sign.

    Args:
        gaps: estimates with intervals of the confidence wanted. The upper limit is the highest of theirs: for it to be
            too low, that of the group which is truly worst must be.
        adjusted: the same with intervals that hold all together (Bonferroni), for the lower limit.
    """
    sizes = [absolute(gap) for gap in gaps]
    highs, lows = [s.high for s in sizes], [absolute(gap).low for gap in adjusted]
    value = max(s.value for s in sizes)
    high = math.nan if any(math.isnan(h) for h in highs) else max(highs)
    known = [low for low in lows if not math.isnan(low)]
    return Estimate(value, min(max(known), value) if known else math.nan, high, max(gap.n for gap in gaps))


def absolute(gap: Estimate) -> Estimate:
    """Return an estimate without its sign; an interval that holds 0 begins there."""
    ends = (abs(gap.low), abs(gap.high))
    low = 0.0 if gap.low <= 0 <= gap.high else min(ends)
    return Estimate(abs(gap.value), low, max(ends), gap.n)


def verdict_on(estimate: Estimate, target: float) -> str:
    """Say whether a quantity that should be at most `target` is: met, not met, or not enough data to tell."""
    if estimate.high <= target:
        return MET
    return VIOLATED if estimate.low > target else UNKNOWN


@dataclass(frozen=True)
class _People:
    names: tuple[str, ...]
    group_of_record: np.ndarray
    person_of_record: np.ndarray
    weight: np.ndarray
    group_of_person: np.ndarray
    mean_of_person: np.ndarray

    @classmethod
    def of(cls, values: ArrayLike, groups: Sequence[str], people: Sequence[str], weights: ArrayLike | None) -> _People:
        worth = np.asarray(values, dtype=np.float64)
        weight = np.ones(len(worth)) if weights is None else np.asarray(weights, dtype=np.float64)
        if not len(worth) == len(groups) == len(people) == len(weight) or len(worth) == 0:
            what = f"{len(worth)} values, {len(groups)} groups, {len(people)} people, {len(weight)} weights"
            raise UsageError(what, fix="give one of each per record, one record or more")
        bad = ~((worth >= 0) & (worth <= 1))
        if bad.any():
            place, fix = f"record {int(np.flatnonzero(bad)[0]) + 1}", "use win rates or shares, not raw scores"
            raise DataError(f"a value of {worth[bad][0]:g} is not in [0, 1]", place=place, fix=fix)
        if not ((weight > 0) & np.isfinite(weight)).all():
            raise DataError("a weight is not above 0", fix="leave out records that do not count")
        names, group = np.unique(np.asarray(list(map(str, groups))), return_inverse=True)
        persons, person = np.unique(np.asarray(list(map(str, people))), return_inverse=True)
        group_of = np.full(len(persons), -1)
        group_of[person] = group
        if (group_of[person] != group).any():
            k = int(np.flatnonzero(group_of[person] != group)[0])
            what = f"annotator {str(persons[person[k]])!r} is in the groups {str(names[group[k]])!r} and another"
            raise DataError(what, place=f"record {k + 1}", fix="give everybody one group; join attributes that cross")
        sums = np.bincount(person, weight * worth, len(persons))
        return cls(tuple(names.tolist()), group, person, weight, group_of, sums / np.bincount(person, weight))

    def shares(self) -> np.ndarray:
        """Return each group's share of the labels [G]."""
        return np.bincount(self.group_of_record, self.weight, len(self.names)) / self.weight.sum()

    def counts(self) -> np.ndarray:
        return np.bincount(self.group_of_person, minlength=len(self.names))

    def moments(self, confidence: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return each group's mean, the variance of that mean (NaN for one person), and people [G]."""
        count = self.counts()
        mean = np.bincount(self.group_of_person, self.mean_of_person, len(self.names)) / count
        off = (self.mean_of_person - mean[self.group_of_person]) ** 2
        squares = np.bincount(self.group_of_person, off, len(self.names))
        several = np.maximum(count, 2)
        variance = np.where(count > 1, squares / (several - 1) / several, np.nan)
        return mean, np.where(variance < 1e-15, _unanimous(several, confidence), variance), count

    def renamed(self, to: Mapping[str, str]) -> _People:
        """Return the same people with groups put together."""
        names = sorted({to[name] for name in self.names})
        place = np.array([names.index(to[name]) for name in self.names])
        group, person = place[self.group_of_record], place[self.group_of_person]
        return _People(tuple(names), group, self.person_of_record, self.weight, person, self.mean_of_person)


@dataclass(frozen=True)
class _Linear:
    """Sums of independent group means with Student intervals, degrees of freedom after Welch and Satterthwaite."""

    mean: np.ndarray
    variance: np.ndarray
    count: np.ndarray
    confidence: float

    def of(self, weights: np.ndarray, constant: float = 0.0, confidence: float | None = None) -> Estimate:
        from scipy import special

        value = float(weights @ self.mean) + constant
        used = weights != 0
        n = int(self.count[used].sum())
        parts = weights[used] ** 2 * self.variance[used]
        if not used.any():
            return Estimate(value, value, value, 0)
        if np.isnan(parts).any():
            return Estimate(value, math.nan, math.nan, n)
        freedom = parts.sum() ** 2 / (parts**2 / (self.count[used] - 1)).sum()
        tail = (1 - (confidence or self.confidence)) / 2
        half = -float(special.stdtrit(freedom, tail)) * math.sqrt(parts.sum())
        return Estimate(value, value - half, value + half, n)


def _compared(
    table: _People, shares: Mapping[str, float], believed: float | None, confidence: float
) -> tuple[dict[str, Group], Estimate, Estimate, Estimate, Estimate, float]:
    """Return groups, what is believed, what the population gets, the mean and the worst gap, and the fairness gap."""
    names, w, a = table.names, np.array([shares[name] for name in table.names]), table.shares()
    mean, variance, count = table.moments(confidence)
    estimates, each = _Linear(mean, variance, count, confidence), np.eye(len(names))
    base, constant = (a, 0.0) if believed is None else (np.zeros(len(names)), float(believed))
    gaps = [estimates.of(row - base, -constant) for row in each]
    adjusted = [estimates.of(row - base, -constant, 1 - (1 - confidence) / len(names)) for row in each]
    values, pooled = [_bounded(estimates.of(row)) for row in each], _pooled(mean, table)
    groups = {
        names[g]: Group(float(w[g]), float(a[g]), int(count[g]), values[g], float(pooled[g]), absolute(gaps[g]))
        for g in sorted(range(len(names)), key=lambda g: -abs(gaps[g].value))
    }
    ends = (_bounded(estimates.of(base, constant)), _bounded(estimates.of(w)))
    off = absolute(estimates.of(w - base, -constant))
    return groups, *ends, off, worst_gap(gaps, adjusted), float(np.ptp(mean))


def _counting(table: _People, shares: Mapping[str, float], enough: int) -> tuple[float, float]:
    """Return the labels that count after weighting to the population, and its share in groups with enough people."""
    w = np.array([shares[name] for name in table.names])
    weights = (w / table.shares())[table.group_of_record] * table.weight
    return effective_size(weights), float(w[table.counts() >= enough].sum())


def _bounded(found: Estimate) -> Estimate:
    """Cut the ends of an interval of a value, which lies in [0, 1]."""
    low, high = (float(np.clip(end, 0.0, 1.0)) for end in (found.low, found.high))
    return Estimate(found.value, low, high, found.n)


def _unanimous(count: np.ndarray, confidence: float) -> np.ndarray:
    """Return the variance that gives n people who do not differ the exact interval of n cases that all agree."""
    from scipy import special

    tail = (1 - confidence) / 2
    return ((1 - tail ** (1 / count)) / -special.stdtrit(count - 1, tail)) ** 2


def _population(population: Mapping[str, float] | None, table: _People) -> dict[str, float]:
    counts = table.counts()
    if population is None:
        return dict(zip(table.names, (counts / counts.sum()).tolist()))
    for name in table.names:
        if name not in population:
            raise UnknownNameError("group of the population", name, population, place="records")
    missing = [name for name in population if name not in table.names]
    if missing:
        what = f"no record is of {', '.join(sorted(missing))}"
        raise DataError(what, fix="collect labels of these people: nothing is known of the gap of a group without any")
    shares = np.array([float(population[name]) for name in table.names])
    if not (np.isfinite(shares).all() and (shares >= 0).all() and abs(shares.sum() - 1) <= 1e-6):
        raise UsageError(f"the population's shares sum to {shares.sum():g}", fix="give shares from 0 that sum to 1")
    return dict(zip(table.names, (shares / shares.sum()).tolist()))


def _merged(table: _People, shares: dict[str, float], smallest: int) -> tuple[_People, dict, tuple[str, ...]]:
    small = [name for name, count in zip(table.names, table.counts()) if count < smallest]
    if not small or len(small) == len(table.names) == 1:
        return table, shares, ()
    to = {name: SMALL if name in small else name for name in table.names}
    joined: dict[str, float] = {}
    for name, share in shares.items():
        joined[to[name]] = joined.get(to[name], 0.0) + share
    note = f"groups of fewer than {smallest} people, put together as {SMALL}: {len(small)}"
    return table.renamed(to), joined, (note,)


def _pooled(mean: np.ndarray, table: _People) -> np.ndarray:
    """Return group means [G] drawn to their common mean, by the moments of a normal with known error."""
    count = table.counts()
    off = (table.mean_of_person - mean[table.group_of_person]) ** 2
    within = float(off.sum()) / max(1, len(off) - len(mean))
    grand = float((count @ mean) / count.sum())
    error = within / count
    between = max(0.0, float(((mean - grand) ** 2 - error).mean()))
    kept = between / (between + error) if between > 0 or within > 0 else np.ones(len(mean))
    return grand + kept * (mean - grand)
