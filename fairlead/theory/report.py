"""The verdict on each corner of the trilemma, and which relaxation would help how much."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fairlead.errors import UsageError
from fairlead.theory.audit import MET, UNKNOWN, VIOLATED, Representation, Robustness, verdict_on
from fairlead.theory.trilemma import (
    affordable_context,
    failure_limit,
    log2_operations,
    samples_per_group,
    trials_to_certify,
)

__all__ = ["Aims", "Relaxation", "TrilemmaReport", "judge"]

CORE_VALUES = 30
"""Groups of values that cover most people, by the paper's guess."""
SCENARIOS = 100
"""Realistic attacks, by the paper's guess, that may stand for all."""


@dataclass(frozen=True)
class Aims:
    """What is aimed at."""

    epsilon: float = 0.05
    """Widest gap of a group that is accepted."""
    delta: float = 0.05
    """Share of perturbations under which the policy may fail."""
    budget: float = 70.0
    """log2 of the operations that can be paid for."""
    context: float | None = None
    """Bits of context that preferences depend on; None leaves cost out."""
    people: float = 1e6
    """Size of the population."""
    kappa: float = 1.0
    """The bound's unknown constant."""
    confidence: float = 0.95
    """Confidence of the limits."""

    def __post_init__(self) -> None:
        for name in ("epsilon", "delta", "confidence"):
            if not 0 < getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}", fix="use a share between 0 and 1")


@dataclass(frozen=True)
class Relaxation:
    """A change that would turn a verdict, or bring it nearer."""

    corner: str
    """Which corner it helps."""
    change: str
    """What would change, in words."""
    now: float
    """The number as it is."""
    then: float
    """The number as it would have to be."""


@dataclass(frozen=True)
class TrilemmaReport:
    """Three corners, and a verdict on each that was looked at."""

    aims: Aims
    """What was aimed at."""
    verdicts: dict[str, str]
    """corner (`representative`, `robust`, `affordable`) -> met, not met, not enough data."""
    distance: dict[str, float]
    """corner -> how many times the aim the limit (or, for cost, the number of bits) is; 1 or less is met."""
    operations: float | None
    """log2 of the lower bound on operations; None where the bits of context are not given."""
    relaxations: tuple[Relaxation, ...]
    """What would help, the smallest change first."""

    @property
    def met(self) -> bool:
        """Whether every corner that was looked at is met."""
        return all(verdict == MET for verdict in self.verdicts.values())


def judge(aims: Aims, representation: Representation | None, robustness: Robustness | None) -> TrilemmaReport:
    """Put an audit's findings against what is aimed at.

    A corner of which nothing is known (None, or no bits of context) is left out of the verdicts.
    """
    verdicts, distance, relaxations = {}, {}, []
    operations = None
    if representation is not None:
        worst = representation.epsilon_worst
        verdicts["representative"] = verdict_on(worst, aims.epsilon)
        distance["representative"] = worst.high / aims.epsilon
        relaxations += _represent(aims, representation, verdicts["representative"])
    if robustness is not None:
        verdicts["robust"] = verdict_on(robustness.rate, aims.delta)
        distance["robust"] = robustness.rate.high / aims.delta
        relaxations += _withstand(aims, robustness, verdicts["robust"])
    if aims.context is not None:
        operations = log2_operations(aims.epsilon, aims.delta, aims.context, aims.people, kappa=aims.kappa)
        verdicts["affordable"] = MET if operations <= aims.budget else VIOLATED
        distance["affordable"] = operations / aims.budget
        relaxations += _afford(aims, aims.context, operations)
    ranked = sorted(relaxations, key=lambda one: abs(math.log(max(one.then, 1e-12) / max(one.now, 1e-12))))
    return TrilemmaReport(aims, verdicts, distance, operations, tuple(ranked))


def _represent(aims: Aims, found: Representation, verdict: str) -> list[Relaxation]:
    if verdict == MET:
        return []
    worst, corner, options = found.epsilon_worst, "representative", []
    if math.isfinite(worst.high):
        options.append(Relaxation(corner, "claim no more than the data show: epsilon", aims.epsilon, worst.high))
    if verdict == UNKNOWN and worst.value < aims.epsilon and math.isfinite(worst.high):
        factor = ((worst.high - worst.value) / (aims.epsilon - worst.value)) ** 2
        name, group = next(iter(found.groups.items()))
        what = f"ask more people of every group, of {name} about"
        options.append(Relaxation(corner, what, group.people, math.ceil(group.people * factor)))
    count = len(found.groups)
    if count > CORE_VALUES:
        fewer = CORE_VALUES * samples_per_group(aims.epsilon, 1 - aims.confidence, CORE_VALUES)
        now = count * samples_per_group(aims.epsilon, 1 - aims.confidence, count)
        what = f"keep to {CORE_VALUES} core values for {count} groups: samples that always do"
        options.append(Relaxation(corner, what, now, fewer))
    return options


def _withstand(aims: Aims, found: Robustness, verdict: str) -> list[Relaxation]:
    if verdict == MET:
        return []
    corner = "robust"
    options = [Relaxation(corner, "claim no more than the data show: delta", aims.delta, found.rate.high)]
    needed = _trials(aims, found)
    if verdict == UNKNOWN and needed is not None:
        options.append(Relaxation(corner, "try more perturbations, failing as often", found.trials, needed))
    if found.trials < SCENARIOS:
        what = "settle on a list of realistic attacks and try all of it: perturbations"
        options.append(Relaxation(corner, what, found.trials, SCENARIOS))
    return options


def _trials(aims: Aims, found: Robustness) -> int | None:
    """Return the trials that would do at the present failure rate; None where no number would."""
    if found.failures == 0:
        return trials_to_certify(aims.delta, aims.confidence)
    rate = found.failures / found.trials
    if rate >= aims.delta:
        return None
    trials = found.trials
    while failure_limit(math.ceil(rate * trials), trials, aims.confidence) > aims.delta and trials < 10**9:
        trials = math.ceil(1.05 * trials)
    return trials


def _afford(aims: Aims, context: float, operations: float) -> list[Relaxation]:
    if operations <= aims.budget:
        return []
    corner = "affordable"
    bits = affordable_context(aims.budget, aims.epsilon, aims.delta, aims.people, kappa=aims.kappa)
    options = [Relaxation(corner, "pay more: log2 of the operations", aims.budget, operations)]
    if bits > 0:
        options.append(Relaxation(corner, "merge contexts: bits", context, bits))
    epsilon = aims.epsilon * 2 ** ((operations - aims.budget) / 2)
    if epsilon < 1:
        options.append(Relaxation(corner, "accept a wider gap: epsilon", aims.epsilon, epsilon))
    return options
