"""What one judge says of the models: rates, ratings, its own biases, figures."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from fairlead.estimates import Estimate, estimate_difference, estimate_mean, estimate_rate
from fairlead.evaluation.base import Report
from fairlead.evaluation.preferences import drawings
from fairlead.evaluation.preferences.bias import first_slot_rate, order_consistency
from fairlead.evaluation.preferences.files import Verdicts
from fairlead.evaluation.preferences.length_control import (
    LengthControlled,
    LengthReference,
    length_controlled,
    paired_win_rate,
)
from fairlead.evaluation.preferences.ratings import Ratings, bradley_terry, ill_posed
from fairlead.evaluation.preferences.style_control import style_controlled
from fairlead.evaluation.preferences.win_rates import mcnemar, win_rate

__all__ = ["Judged", "Settings", "side_of", "subject_of"]

_MARGIN = 30
_BINS = 8


@dataclass(frozen=True)
class Settings:
    """What all verdicts of a report are summarised with."""

    reference: LengthReference | None
    """AlpacaEval's items, or None."""
    c: float
    """Inverse strength of the penalty at equal lengths."""
    resamples: int
    """Fits behind an interval."""
    confidence: float
    """Coverage of the intervals."""
    seed: int
    """Randomness of the resamples."""

    @property
    def interval(self) -> dict[str, Any]:
        """What estimates take."""
        return {"confidence": self.confidence, "seed": self.seed}


@dataclass
class Judged:
    """One judge's verdicts, and what they are summarised with."""

    verdicts: Verdicts
    """Of this judge alone."""
    judge: str
    """Its name."""
    suffix: str
    """What is put behind the models' names."""
    options: Settings
    """See there."""
    places: Mapping[str, int] | None
    """item -> its place in the reference, or None."""

    def into(self, report: Report) -> None:
        """Add what they say to a report."""
        found = self.verdicts
        several = len(set(found.baseline)) > 1
        sides = list(zip(found.model, found.baseline))
        parts: dict[str, Verdicts] = {}
        fits: dict[str, LengthControlled] = {}
        for model, baseline in dict.fromkeys(sides):
            name = f"{model} against {baseline}{self.suffix}" if several else f"{model}{self.suffix}"
            parts[name] = found.where(np.array([side == (model, baseline) for side in sides]))
            report.summary[name], fit = self._model(name, parts[name], report)
            if fit is not None:
                fits[name] = fit
        for name, part in parts.items():
            missing = len(set(found.item)) - len(part)
            if missing > 0:
                report.notes.append(f"{name}: {missing} of {len(set(found.item))} items were not judged")
        order = sorted(parts, key=lambda name: -_worth(report.summary[name]))
        self._leads(sorted(parts, key=lambda name: -np.nan_to_num(report.summary[name]["rate"].value)), parts, report)
        ratings = self._ratings(report)
        report.summary[subject_of(self.judge)] = self._biases()
        self._draw(order, parts, fits, ratings, report)

    def _model(self, name: str, part: Verdicts, report: Report) -> tuple[dict[str, Estimate], LengthControlled | None]:
        options = self.options
        found = win_rate(part.points, **options.interval)
        axes = {"rate": found.rate, "discrete": found.discrete}
        if found.missing:
            report.notes.append(f"{name}: {found.missing} of {len(part)} verdicts are missing")
        known = ~np.isnan(part.length) & ~np.isnan(part.baseline_length)
        if not known.all():
            report.notes.append(f"{name}: {int((~known).sum())} of {len(part)} pairs have no texts, so no lengths")
        if not known.any():
            return axes, None
        kept = part.where(known)
        fit = length_controlled(
            kept.points,
            kept.length,
            kept.baseline_length,
            items=None if self.places is None else [self.places[item] for item in kept.item],
            reference=options.reference,
            c=options.c,
            resamples=options.resamples,
            **options.interval,
        )
        report.notes += [f"{name}: {note}" for note in fit.notes]
        axes |= {"length_controlled": fit.rate, "length": estimate_mean(kept.length, **options.interval)}
        if kept.style is not None and not np.isnan(kept.style).all():
            fitted = {"c": options.c, "resamples": options.resamples, **options.interval}
            axes["style_controlled"] = style_controlled(kept.points, kept.style, **fitted).rate
        return axes, fit

    def _leads(self, order: list[str], parts: Mapping[str, Verdicts], report: Report) -> None:
        """Compare every model with the next one on the items that both have, against one baseline."""
        for name, after in pairwise(order):
            one, two = parts[name], parts[after]
            if one.baseline[0] != two.baseline[0]:
                continue
            points = dict(zip(two.item, two.points.tolist()))
            pairs = [(p, points[item]) for item, p in zip(one.item, one.points.tolist()) if item in points]
            if pairs:
                mine, theirs = np.array(pairs).T
                lead = estimate_difference(mine, theirs, **self.options.interval)
                p_value = mcnemar(mine, theirs)
                report.summary[name] |= {"lead": lead, "lead_p": Estimate(p_value, math.nan, math.nan, lead.n)}

    def _ratings(self, report: Report) -> Ratings | None:
        found, options = self.verdicts, self.options
        if np.isnan(found.points).all():
            return None
        columns = (found.model, found.baseline, found.points)
        problem = ill_posed(*columns)
        if problem:
            report.notes.append(f"ratings{self.suffix}: {problem}; so games were added")
        ratings = bradley_terry(
            *columns,
            baseline=Counter(found.baseline).most_common(1)[0][0],
            items=found.item,
            pseudo_games=0.5 if problem else 0.0,
            resamples=options.resamples,
            **options.interval,
        )
        report.notes += [f"ratings{self.suffix}: {note}" for note in ratings.notes]
        for player, estimate in ratings.elo.items():
            report.summary.setdefault(f"{player}{self.suffix}", {})["elo"] = estimate
        return ratings

    def _biases(self) -> dict[str, Estimate]:
        found, interval = self.verdicts, self.options.interval
        gap = np.where(np.abs(found.length - found.baseline_length) > _MARGIN, found.length - found.baseline_length, 0)
        axes = {
            "prefers_longer": _won(found.points, gap, interval),
            "prefers_list": _won(found.points, found.lists, interval),
        }
        if not (np.isnan(found.straight) | np.isnan(found.swapped)).all():
            axes["consistent"] = order_consistency(found.straight, found.swapped, **interval)
        firsts = np.concatenate([1 - found.straight, found.swapped])
        if not np.isnan(firsts).all():
            axes["first_slot"] = first_slot_rate(firsts, **interval)
        return axes

    def _draw(
        self,
        order: list[str],
        parts: Mapping[str, Verdicts],
        fits: Mapping[str, LengthControlled],
        ratings: Ratings | None,
        report: Report,
    ) -> None:
        named = {name: name.removesuffix(self.suffix) for name in order}
        shown = {"as judged": "rate", "at equal lengths": "length_controlled", "at equal style": "style_controlled"}
        series = {
            label: {named[name]: report.summary[name][axis] for name in order if axis in report.summary[name]}
            for label, axis in shown.items()
        }
        series = {label: found for label, found in series.items() if found}
        against = ", ".join(dict.fromkeys(self.verdicts.baseline))
        title = f"leaderboard{self.suffix}"
        report.figures[title] = drawings.leaderboard(series, list(named.values()), label=f"win rate against {against}")
        if fits:
            kept = [name for name in order if name in fits and fits[name].rate.n > 1]
            lines = {named[name]: _line(parts[name], fits[name]) for name in kept}
            dots = {named[name]: _dots(parts[name]) for name in kept}
            x = "characters that the answer is longer"
            report.figures[f"length and verdict{self.suffix}"] = drawings.fits(lines, dots, x=x, y="win rate")
        if ratings is not None:
            self._draw_matrix(order, named, fits, ratings, report)

    def _draw_matrix(
        self,
        order: list[str],
        named: Mapping[str, str],
        fits: Mapping[str, LengthControlled],
        ratings: Ratings,
        report: Report,
    ) -> None:
        reference = self.options.reference
        if reference is not None and fits:
            names = [name for name in order if name in fits]
            rates = np.array([[paired_win_rate(fits[a], fits[b], reference) for b in names] for a in names])
            players, label = [named[name] for name in names], "row beats column at equal lengths, in %"
        else:
            players = sorted(ratings.players, key=lambda player: -ratings.elo[player].value)
            rates = np.array([[ratings.chance(a, b) for b in players] for a in players])
            label = "row beats column by their ratings, in %"
        report.figures[f"who beats whom{self.suffix}"] = drawings.matrix(rates, players, label=label)


def subject_of(judge: str) -> str:
    """Return the name under which a report has a judge."""
    return f"judge {judge}".strip()


def side_of(points: np.ndarray) -> np.ndarray:
    """Round points [N] to win (1), tie (.5), loss (0); NaN stays."""
    return np.where(np.isnan(points), np.nan, np.sign(points - 0.5) / 2 + 0.5)


def _won(points: np.ndarray, side: np.ndarray, interval: Mapping[str, Any]) -> Estimate:
    """Estimate how often the side with more of something wins, a tie counting half."""
    signed = np.where(np.nan_to_num(side) == 0, np.nan, np.sign(side))
    return estimate_rate(0.5 + (side_of(points) - 0.5) * signed, **interval)


def _worth(axes: Mapping[str, Estimate]) -> float:
    value = axes.get("length_controlled", axes["rate"]).value
    return -1.0 if math.isnan(value) else value


def _line(part: Verdicts, fit: LengthControlled) -> tuple[np.ndarray, np.ndarray]:
    gaps = part.length - part.baseline_length
    low, high = np.nanquantile(gaps, [0.02, 0.98])
    along = np.linspace(low, high, 80)
    return along, fit.at(along)


def _dots(part: Verdicts) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean gap and points of equally many pairs each."""
    gaps = part.length - part.baseline_length
    kept = ~np.isnan(gaps) & ~np.isnan(part.points)
    order = np.argsort(gaps[kept], kind="stable")
    bins = [chunk for chunk in np.array_split(order, _BINS) if len(chunk)]
    found = [(gaps[kept][chunk].mean(), part.points[kept][chunk].mean()) for chunk in bins]
    along, up = np.array(found).reshape(-1, 2).T
    return along, up
