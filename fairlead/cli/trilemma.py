"""`fairlead theory trilemma`, `fairlead theory audit`: what representing everybody takes, and whether it was done."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from fairlead.cli.theory import Figure, Json, numbers, print_table, show, write_figure

if TYPE_CHECKING:
    from fairlead.estimates import Estimate
    from fairlead.theory.audit import Representation, Robustness
    from fairlead.theory.report import TrilemmaReport

__all__ = ["audit", "trilemma"]

Epsilon = Annotated[float, Parameter(help="Widest gap of a group's value that is accepted.")]
Delta = Annotated[float, Parameter(help="Share of perturbations under which the policy may fail.")]
Budget = Annotated[float, Parameter(help="log2 of the operations that can be paid for.")]
People = Annotated[float, Parameter(help="Size of the population.")]
Confidence = Annotated[float, Parameter(help="Confidence of the limits.")]


def trilemma(
    *,
    epsilon: Epsilon = 0.05,
    delta: Delta = 0.05,
    context: Annotated[float, Parameter(help="Bits of context that preferences depend on.")] = 30.0,
    people: People = 1e6,
    budget: Budget = 70.0,
    groups: Annotated[int, Parameter(help="Groups of people that have to be represented.")] = 1,
    majority: Annotated[str, Parameter(help="Shares of people who prefer an answer: 0.51,0.6,0.7.")] = "0.51,0.6,0.7",
    beta: Annotated[float, Parameter(help="KL coefficient of the training.")] = 0.1,
    reference: Annotated[float, Parameter(help="Probability of that answer before training.")] = 0.5,
    confidence: Confidence = 0.95,
    figure: Figure = None,
    draw: Annotated[
        Literal["amplification", "poisoning", "cost"], Parameter(help="What the figure shows.")
    ] = "amplification",
    json_: Json = False,
) -> int:
    """Say what representing everybody, robustly, would take; what training makes of majorities; and what turns them.

    The operations are a lower bound up to an unknown constant: good for comparing settings, not a cost.

    For example:

    ```
    fairlead theory trilemma --epsilon 0.01 --delta 0.001 --context 50 --groups 180
    fairlead theory trilemma --majority 0.525,0.6,0.9 --beta 0.05 --figure amplification.svg
    fairlead theory trilemma --context 80 --figure cost.svg --draw cost
    ```
    """
    from fairlead.theory import trilemma as closed

    shares = numbers(majority, "--majority")
    each = closed.samples_per_group(epsilon, 1 - confidence, groups)
    needs = {
        "log2_operations": closed.log2_operations(epsilon, delta, context, people),
        "affordable_context": closed.affordable_context(budget, epsilon, delta, people),
        "samples_per_group": each,
        "samples": each * groups,
        "trials_without_failure": closed.trials_to_certify(delta, confidence),
    }
    told = [
        {
            "majority": share,
            "given": float(closed.amplified(share, beta, reference=reference)),
            "beta_of_99%": _beta(share, reference),
            "turned_by_replacing": closed.poisoning_threshold(share, "replaced"),
            "by_flipping": closed.poisoning_threshold(share, "flipped"),
        }
        for share in shares
    ]
    if figure is not None:
        write_figure(figure, _drawn(draw, shares, beta, reference, (epsilon, delta, people, budget, context)))
    if json_:
        return show({"needs": needs, "majorities": told})
    print_table([{"": name.replace("_", " "), "value": value} for name, value in needs.items()])
    print_table(told)
    return 0


def audit(
    path: Annotated[str, Parameter(help="One row per person and answer: JSON Lines, JSON, CSV or Parquet.")],
    /,
    *,
    value: Annotated[str, Parameter(help="Column with the answer's value to the person, 0 to 1.")] = "value",
    group: Annotated[str, Parameter(help="Columns with the person's group; several are crossed: sex,age.")] = "group",
    annotator: Annotated[str, Parameter(help="Column with the person.")] = "annotator",
    weight: Annotated[str | None, Parameter(help="Column with how much a row counts.")] = None,
    population: Annotated[str | None, Parameter(help="Shares of the population: {young: 0.4, old: 0.6}.")] = None,
    believed: Annotated[float | None, Parameter(help="Value that is claimed; by default the mean of the rows.")] = None,
    epsilon: Epsilon = 0.05,
    failures: Annotated[int | None, Parameter(help="Perturbations under which the policy failed.")] = None,
    trials: Annotated[int | None, Parameter(help="Perturbations that were tried.")] = None,
    delta: Delta = 0.05,
    context: Annotated[float | None, Parameter(help="Bits of context; without them cost is left out.")] = None,
    budget: Budget = 70.0,
    people: People = 1e6,
    smallest: Annotated[int, Parameter(help="Groups of fewer people are put together.")] = 5,
    confidence: Confidence = 0.95,
    figure: Figure = None,
    json_: Json = False,
) -> int:
    """Audit whom a policy speaks for, from its value to people of several groups; also robustness and cost.

    Ends with code 1 unless every corner that was looked at is met; "not enough data" is not met.

    For example:

    ```
    fairlead theory audit ratings.csv --value won --group country --annotator worker
    fairlead theory audit ratings.jsonl --group sex,age --epsilon 0.02 --figure gaps.svg
    fairlead theory audit ratings.csv --population '{a: 0.6, b: 0.4}' --failures 3 --trials 200 --context 50 --json
    ```
    """
    from fairlead.errors import UsageError
    from fairlead.theory.audit import audit_groups, audit_robustness
    from fairlead.theory.drawings import draw_gaps
    from fairlead.theory.report import Aims, judge

    aims = Aims(epsilon=epsilon, delta=delta, budget=budget, context=context, people=people, confidence=confidence)
    if (failures is None) != (trials is None):
        raise UsageError("--failures and --trials go together", fix="give both, or neither")
    columns = _read(path, value, tuple(group.split(",")), annotator, weight)
    found = audit_groups(
        columns[0], columns[1], columns[2], weights=columns[3], population=_shares(population), believed=believed,
        epsilon=epsilon, confidence=confidence, smallest=smallest,
    )  # fmt: skip
    robustness = None if trials is None or failures is None else audit_robustness(failures, trials, confidence)
    report = judge(aims, found, robustness)
    if figure is not None:
        write_figure(figure, draw_gaps(found))
    if json_:
        show(_plain(found, robustness, report))
    else:
        _say(found, robustness, report)
    return 0 if report.met else 1


def _drawn(what: str, shares: list[float], beta: float, reference: float, cost: tuple[float, ...]) -> str:
    from fairlead.theory.drawings import draw_amplification, draw_cost, draw_poisoning

    epsilon, delta, people, budget, context = cost
    return {
        "amplification": lambda: draw_amplification(shares, reference=reference, most=max(2.0, 2 * beta)),
        "poisoning": lambda: draw_poisoning(max(shares), beta, reference=reference),
        "cost": lambda: draw_cost(
            (epsilon, 10 * epsilon), delta, people, budget=budget, most=max(1.5 * context, budget)
        ),
    }[what]()


def _beta(share: float, reference: float) -> float:
    from fairlead.errors import UsageError
    from fairlead.theory.trilemma import beta_at

    try:
        return beta_at(share, reference=reference)
    except UsageError:  # no beta takes it there
        return math.nan


def _shares(given: str | None) -> dict[str, float] | None:
    from fairlead.errors import UsageError
    from fairlead.recipe.document import parse_value

    if given is None:
        return None
    found = parse_value(given, "--population")
    if not isinstance(found, dict) or not all(isinstance(share, int | float) for share in found.values()):
        raise UsageError(f"--population is {given!r}", fix="write group: share, as in {young: 0.4, old: 0.6}")
    return {str(name): float(share) for name, share in found.items()}


def _read(
    path: str, value: str, groups: tuple[str, ...], annotator: str, weight: str | None
) -> tuple[list[float], list[str], list[str], list[float] | None]:
    from fairlead.errors import DataError
    from fairlead.records.check import Problem
    from fairlead.records.sources import open_rows

    values, names, people, weights = [], [], [], []
    for place, row in open_rows(path):
        if isinstance(row, Problem):
            raise DataError(str(row), place=path, fix="mend or remove this row")
        for column in (value, *groups, annotator, *([weight] if weight else [])):
            if row.get(column) in (None, ""):
                what = f"nothing in column {column!r}; the columns are {', '.join(map(str, row))}"
                fix = "name the columns with --value, --group and --annotator"
                raise DataError(what, place=f"{path}, {place}", fix=fix)
        try:
            values.append(float(row[value]))
            weights.append(float(row[weight]) if weight else 1.0)
        except (TypeError, ValueError) as error:
            what = f"{value} is {row[value]!r}, and no number" if not weight else f"{value} or {weight} is no number"
            raise DataError(what, place=f"{path}, {place}", fix="give a win rate or a share, 0 to 1") from error
        names.append(" x ".join(str(row[column]) for column in groups))
        people.append(str(row[annotator]))
    return values, names, people, weights if weight else None


def _plain(found: Representation, robustness: Robustness | None, report: TrilemmaReport) -> dict[str, Any]:
    return {
        "verdicts": report.verdicts,
        "distance": report.distance,
        "log2_operations": report.operations,
        "representation": asdict(found),
        "robustness": None if robustness is None else asdict(robustness),
        "relaxations": [asdict(one) for one in report.relaxations],
    }


def _say(found: Representation, robustness: Robustness | None, report: TrilemmaReport) -> None:
    rows = [
        {
            "group": name,
            "people": one.people,
            "share": round(one.population, 3),
            "labels": round(one.share, 3),
            "value": asdict(one.value),
            "gap": asdict(one.gap),
        }
        for name, one in found.groups.items()
    ]
    print_table(rows)
    told = {"believed": found.believed, "population": found.population}
    told |= {"epsilon, mean": found.epsilon_mean, "epsilon, worst group": found.epsilon_worst}
    lines = [f"{name}: {_ends(estimate)}" for name, estimate in told.items()]
    lines.append(f"labels that count after weighting to the population: {found.effective:.1f}")
    lines.append(f"population in groups of 30 people or more: {found.coverage:.0%}")
    lines.append(f"samples per group that always do: {found.needed:,}")
    if robustness is not None:
        lines.append(f"failures: {robustness.failures} of {robustness.trials}, at most {robustness.rate.high:.4g}")
    if report.operations is not None:
        lines.append(f"log2 of the operations, a lower bound: {report.operations:.1f}")
    lines += [
        f"{corner}: {verdict} ({report.distance[corner]:.3g} times the aim)"
        for corner, verdict in report.verdicts.items()
    ]
    lines += [f"would help ({one.corner}): {one.change} {one.now:.4g} -> {one.then:.4g}" for one in report.relaxations]
    print("\n".join([*lines, *(f"note: {note}" for note in found.notes)]))


def _ends(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"
