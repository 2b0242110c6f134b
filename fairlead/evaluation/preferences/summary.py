"""A report on verdicts that are there already: the leaderboard, the judges' biases, agreement with people."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fairlead.errors import DataError
from fairlead.estimates import Estimate, estimate_rate
from fairlead.evaluation.base import Report
from fairlead.evaluation.preferences.agreement import cohen_kappa, judge_agreement, kendall, middle, spearman
from fairlead.evaluation.preferences.bias import self_preference
from fairlead.evaluation.preferences.files import Verdicts
from fairlead.evaluation.preferences.judged import Judged, Settings, side_of, subject_of
from fairlead.evaluation.preferences.length_control import USUAL_C, LengthReference

__all__ = ["reference_places", "summarise"]


def summarise(
    verdicts: Verdicts,
    *,
    people: Verdicts | None = None,
    reference: LengthReference | None = None,
    c: float = USUAL_C,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Report:
    """Summarise judged pairs.

    Subjects and axes: every model (with its baseline and judge in its name where there are several) has `rate`,
    `discrete`, `length_controlled`, `style_controlled`, `length` (mean characters), `elo`, and `lead` and `lead_p`,
    the difference to the next model on the same items and McNemar's p-value for it. Every judge ("judge NAME") has
    `prefers_longer`, `prefers_list`; where both orders are known `consistent` and `first_slot`; `self_preference`
    where it is one of the models; beside people `with_people`, `with_majority`, `kappa`, `among_people` (the ceiling),
    `left_out`, and `spearman` and `kendall` of the models' rates. Every two judges have `agreement` and `kappa`. Rows:
    id, engine, baseline, judge, rate, points, points_swapped, length, baseline_length.

    Args:
        verdicts: see `read_verdicts`.
        people: verdicts of persons, each a judge, on some of the same pairs, in either order of the models.
        reference: AlpacaEval's items, for `length_controlled` as it computes it; the verdicts must be on its items,
            and one model must have them all, in their order.
        c: inverse strength of the penalty of that fit.
        resamples: fits to resamples behind the intervals of `length_controlled` and `elo`.
        confidence: coverage of the intervals.
        seed: randomness of the resamples.

    Raises:
        DataError: verdicts on other items than the reference's.
    """
    options = Settings(reference, c, resamples, confidence, seed)
    places = None if reference is None else reference_places(verdicts, reference)
    report = Report({}, rows=_rows(verdicts), notes=list(verdicts.notes))
    judges = list(dict.fromkeys(verdicts.judge))
    for judge in judges:
        part = verdicts.where(np.array(verdicts.judge) == judge)
        suffix = f", judged by {judge}" if len(judges) > 1 else ""
        Judged(part, judge, suffix, options, places).into(report)
        if people is not None:
            report.summary[subject_of(judge)] |= _beside_people(part, people, judge, options, report)
    _between(verdicts, judges, options, report)
    return report


def reference_places(verdicts: Verdicts, reference: LengthReference) -> dict[str, int]:
    """Return item -> its place in the reference, from a model that has all items in the reference's order.

    Raises:
        DataError: no model has, or other models have other items.
    """
    names = list(zip(verdicts.model, verdicts.baseline, verdicts.judge))
    for name in dict.fromkeys(names):
        part = [i for i, other in enumerate(names) if other == name]
        if len(part) == len(reference.difficulty) and (
            (verdicts.baseline_length[part] == reference.baseline_length).all()
        ):
            found = {verdicts.item[i]: place for place, i in enumerate(part)}
            other = next((item for item in verdicts.item if item not in found), None)
            if other is not None:
                raise DataError(f"item {other} is none of the reference's", fix="leave such items out")
            return found
    size = len(reference.difficulty)
    what = f"no model has all {size} items of the reference, with baseline answers of its lengths, in its order"
    raise DataError(what, fix="add a model that has them all, or leave the reference out")


def _beside_people(
    part: Verdicts, people: Verdicts, judge: str, options: Settings, report: Report
) -> dict[str, Estimate]:
    """Compare a judge with persons on the pairs that both judged."""
    persons = list(dict.fromkeys(people.judge))
    said: dict[tuple[str, str, str], np.ndarray] = {}
    for item, model, baseline, person, points in zip(
        people.item, people.model, people.baseline, people.judge, people.points.tolist()
    ):
        for key, value in (((item, model, baseline), points), ((item, baseline, model), 1 - points)):
            said.setdefault(key, np.full(len(persons), np.nan))[persons.index(person)] = value
    keys = list(zip(part.item, part.model, part.baseline))
    kept = np.array([key in said for key in keys], dtype=bool)
    report.notes.append(f"{subject_of(judge)}: {int(kept.sum())} of {len(keys)} pairs were judged by people, too")
    if not kept.any():
        return {}
    table = np.stack([said[key] for key in keys if key in said])
    points = part.points[kept]
    found = judge_agreement(points, table, **options.interval)
    majority = middle(table)
    models = np.array(part.model)[kept]
    names = list(dict.fromkeys(models.tolist()))
    both = ~np.isnan(points) & ~np.isnan(majority)
    rates = [[column[both & (models == name)] for name in names] for column in (points, majority)]
    systems = [[float(np.mean(values)) if len(values) else math.nan for values in row] for row in rates]
    kappa = cohen_kappa(side_of(points), side_of(majority))
    return {
        "with_people": found.with_each,
        "with_majority": found.with_majority,
        "kappa": Estimate(kappa, math.nan, math.nan, int(both.sum())),
        "among_people": found.among_people,
        "left_out": found.left_out,
        "spearman": spearman(*systems, confidence=options.confidence),
        "kendall": kendall(*systems, confidence=options.confidence),
    }


def _between(verdicts: Verdicts, judges: list[str], options: Settings, report: Report) -> None:
    """Compare the judges with each other, and each that is a model with the others on itself."""
    if len(judges) < 2:
        return
    keys = list(zip(verdicts.item, verdicts.model, verdicts.baseline))
    places = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    table = np.full((len(judges), len(places)), np.nan)
    for key, judge, points in zip(keys, verdicts.judge, verdicts.points.tolist()):
        table[judges.index(judge), places[key]] = points
    for i, one in enumerate(judges):
        for j in range(i):
            same = np.where(np.isnan(table[i] + table[j]), np.nan, side_of(table[i]) == side_of(table[j]))
            kappa = cohen_kappa(side_of(table[i]), side_of(table[j]))
            agreement = estimate_rate(same, **options.interval)
            report.summary[f"judges {judges[j]} and {one}"] = {
                "agreement": agreement,
                "kappa": Estimate(kappa, math.nan, math.nan, agreement.n),
            }
        own = np.array([model == one for _, model, _ in places])
        if own.any():
            points = {judge: table[k, own] for k, judge in enumerate(judges)}
            report.summary[subject_of(one)]["self_preference"] = self_preference(points, one, **options.interval)


def _rows(verdicts: Verdicts) -> list[dict[str, Any]]:
    columns = {
        "id": verdicts.item,
        "engine": verdicts.model,
        "baseline": verdicts.baseline,
        "judge": verdicts.judge,
        "rate": _plain(verdicts.points),
        "points": _plain(verdicts.straight),
        "points_swapped": _plain(verdicts.swapped),
        "length": _plain(verdicts.length),
        "baseline_length": _plain(verdicts.baseline_length),
    }
    return [dict(zip(columns, values)) for values in zip(*columns.values())]


def _plain(values: np.ndarray) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]
