"""Which of two answers is better, in the opinion of a judge that sees both: in both orders, and audited for its taste.

Sources: AlpacaEval (Dubois et al. 2023, arXiv 2305.14387; 2024, arXiv 2404.04475) for win rates and equal lengths,
MT-Bench (Zheng et al. 2023, arXiv 2306.05685) for two orders and the names of the biases, Arena-Hard (Li et al. 2024,
arXiv 2406.11939) for the five labels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import chain
from typing import Any, ClassVar, Literal

import numpy as np

from fairlead import prompts as texts_of
from fairlead.engines.asking import Case, Verdict, check_ids, listed, notes_on
from fairlead.engines.base import Engine, EngineSpec
from fairlead.errors import UsageError
from fairlead.estimates import Estimate, estimate_rate, estimate_ratio
from fairlead.evaluation.base import Report
from fairlead.evaluation.judging import Judging, form_of
from fairlead.evaluation.pairs import Pair, judge_by_choice, pair_slots, pairs_of, reference_answers
from fairlead.evaluation.preferences import (
    LengthControlled,
    LengthReference,
    has_list,
    length_controlled,
    self_preference,
)
from fairlead.evaluation.samples import draw, other_engines, prompts_of, texts
from fairlead.figures import intervals, shares
from fairlead.messages import Prompt
from fairlead.verdicts import LABELS, points_of_label, read_label, strong_points

__all__ = ["PairwiseJudge"]

_BIASES = ("consistent", "first_slot", "prefers_longer", "prefers_list")
_FORM = form_of({"key": None, "reason": None, "verdict": LABELS})
_OUTCOMES = ((0.5, "tie"), (1.0, "win"), (0.0, "loss"))


@dataclass(frozen=True, kw_only=True)
class PairwiseJudge(Judging):
    """Win rate of every engine against a baseline, in the opinion of a judge.

    Sample i of an engine meets sample i of the baseline; equal texts are a tie and are not judged. Intervals are over
    prompts.
    """

    baseline: str
    """Name of the engine that the others are compared with; with `reference`, what its answers are called."""
    reference: str | None = None
    """Data with the baseline's answers (conversations), found by prompt; then no engine answers for it."""
    orders: Literal["both", "random"] = "both"
    """Whether every pair is judged in both orders, or in one, by a coin that the pair's texts toss."""
    soft: bool = False
    """Whether the judge's log-probs of "A" and "B" are the verdict, instead of what it writes. A server's are those of
    the 20 likeliest tokens that a reply begins with."""
    last_verdict: bool = False
    """Whether of several verdicts in a reply that differ the last counts; otherwise the judge is asked again."""
    verdict_at_end: bool = False
    """Whether only what stands behind a reply's last blank line is read, for judges that are told to end with it."""
    margin: int = 30
    """Characters by which one of two answers must be longer for the audit of length."""
    text: str | None = None
    """What the judge reads: the path of a Jinja text, or the text itself. It may use `conversation`, `answer_a` and
    `answer_b` (in marks that bear `key`), `question`, `a` and `b` (bare), `key` and `labels`."""
    panel: dict[str, EngineSpec] = field(default_factory=dict)
    """More judges by name. One that has the name of a compared engine is taken to be that engine: the report tells
    how much better it fares under itself than under the others."""
    length_reference: str | None = None
    """A CSV of item difficulties and lengths of the baseline, as AlpacaEval has them (see `LengthReference`), in whose
    order the records stand. Without, the rate at equal lengths knows no difficulty."""
    resamples: int = 200
    """Fits behind the interval of the win rate at equal lengths."""

    example: ClassVar[Mapping[str, Any]] = {"baseline": "base", "reward_judge": {"reward": "harbor"}}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.soft and self.judge is None:
            raise UsageError("a reward has no log-probs", place="pairwise_judge.soft", fix="leave `soft` out")
        if self.margin < 0 or self.resamples < 0:
            raise UsageError("margin and resamples are counts", place="pairwise_judge", fix="use 0 or more")

    @classmethod
    def files(cls, settings: Mapping[str, Any]) -> dict[str, str]:
        """Return which settings name a file or a data set, by field."""
        named = {name: settings[name] for name in ("reference", "length_reference") if settings.get(name) is not None}
        return super().files(settings) | named

    @cached_property
    def shown(self) -> texts_of.PromptText:
        """The text that the judge reads."""
        return texts_of.load("judging", "choice" if self.soft else "pair", self.text)

    def __call__(self, engines: Mapping[str, Engine], records: Sequence[Any]) -> Report:
        """Judge every other engine's answers beside the baseline's.

        Axes, each a mean over prompts: `rate` (points: 1 win, .5 tie, 0 loss, mean of both orders), `wins`, `ties`,
        `losses`, `recovered` (share not lost in every order asked), `judged` (share of pairs with a verdict); of the
        judge `consistent` (same verdict in both orders), `first_slot` (the answer shown first wins; .5 is unbiased),
        `prefers_longer`, `prefers_list`; then `length_controlled`, the rate at equal lengths; `arena`, where far better
        counts three times; `self_preference` of an engine that is on the panel. Rows: id, engine,
        sample, these but the last three, and the points, status and reply of either order, both answers, and who
        judged.
        """
        from fairlead.engines import engine

        check_ids(records)
        known = {self.baseline: _ABSENT, **engines} if self.reference else engines
        others = other_engines(known, self.baseline, "baseline")
        prompts = prompts_of(records)
        report = Report({})
        baseline, drawn = self._answers(engines, others, prompts, records, report)
        judges = {"judge": self.opened}
        judges |= {f"panel {name}": engine(spec) for name, spec in self.panel.items()}
        given: dict[str, list[Verdict]] = {role: [] for role in judges}
        for name in others:
            pairs = pairs_of(records, prompts, baseline, drawn[name])
            tables = {role: self.judged(f"{name}, {role}", judge, pairs, report) for role, judge in judges.items()}
            for role, found in tables.items():
                given[role] += chain(*found)
            rows = [self.row(name, pair, *found) for pair, found in zip(pairs, tables["judge"], strict=True)]
            for role in list(tables)[1:]:
                points = [_mean(self._points(*found)) for found in tables[role]]
                rows = [row | {role.replace(" ", "_"): p} for row, p in zip(rows, points, strict=True)]
            signed = {"baseline": self.baseline, "judge": judges["judge"].fingerprint[:12]}
            report.rows += [row | signed for row in rows]
            report.summary[name] = self._summary(name, rows, pairs, report)
        self._explain(judges, given, report)
        report.figures = self._figures(report, list(engines))
        return report

    def _answers(
        self,
        engines: Mapping[str, Engine],
        others: Mapping[str, Engine],
        prompts: list[Prompt],
        records: Sequence[Any],
        report: Report,
    ) -> tuple[list[list[str | None]], dict[str, list[list[str]]]]:
        """Return the baseline's answers [N][n] (None where it has none) and those of all engines."""
        asked = engines if self.reference is None else others
        drawn = {name: texts(found) for name, found in draw(asked, prompts, self.sampling).items()}
        if self.reference is None:
            return [list(group) for group in drawn[self.baseline]], drawn
        found = reference_answers(self.reference, prompts)
        absent = [str(record.id) for record, answer in zip(records, found, strict=True) if answer is None]
        if absent:
            what = f"{self.baseline}: {len(absent)} of {len(records)} prompts have no answer in {self.reference}"
            report.notes.append(f"{what}, and no verdict: {listed(absent)}")
        return [[answer] * self.sampling.n for answer in found], drawn

    def judged(self, subject: str, judge: Engine, pairs: Sequence[Pair], report: Report) -> list[tuple[Verdict, ...]]:
        """Return every pair's verdicts: the baseline shown first, and the baseline shown second."""
        calls = [(pair, swapped) for pair in pairs if pair.open for swapped in pair.orders(self.orders)]
        slots = [pair_slots(pair, swapped) for pair, swapped in calls]
        shown: list[Prompt] = [[{"role": "user", "content": self.shown.render(**slot)}] for slot in slots]
        if self.soft:
            verdicts = judge_by_choice(judge, shown)
        else:
            cases = [
                Case(
                    pair.id,
                    prompt,
                    partial(
                        read_label,
                        key=slot["key"],
                        answers=(slot["a"], slot["b"]),
                        last=self.last_verdict,
                        at_end=self.verdict_at_end,
                    ),
                    _FORM,
                )
                for (pair, _), slot, prompt in zip(calls, slots, shown, strict=True)
            ]
            verdicts = self.verdicts(judge, cases)
        report.notes += notes_on(subject, [pair.id for pair, _ in calls], verdicts)
        found = {(id(pair), swapped): verdict for (pair, swapped), verdict in zip(calls, verdicts, strict=True)}
        usual = {id(pair): pair.settled for pair in pairs}
        return [tuple(found.get((id(pair), swapped), usual[id(pair)]) for swapped in (False, True)) for pair in pairs]

    def _points(self, straight: Verdict, swapped: Verdict) -> list[float]:
        """Return the points of the engine in both orders; NaN where there is no verdict or the order was not asked."""
        one, two = (_points_of(verdict) for verdict in (straight, swapped))
        return [one, 1.0 - two]

    def row(self, name: str, pair: Pair, straight: Verdict, swapped: Verdict) -> dict[str, Any]:
        """Return what the report has of one pair of engine `name`, judged in both orders or in one."""
        points = self._points(straight, swapped)
        asked = [v for v in (straight, swapped) if v.status != "not asked"]
        rate = _mean(points) if all(v.value is not None for v in asked) else None
        outcome = next((word for value, word in _OUTCOMES if rate is not None and _sign(rate) == value), None)
        shown = [p for p in points if not math.isnan(p)]
        firsts = [1.0 - points[0], points[1]] if pair.open else []
        both = len(shown) == 2 and pair.open
        return {
            "id": pair.id,
            "engine": name,
            "sample": pair.sample,
            "rate": rate,
            "outcome": outcome,
            "wins": None if rate is None else rate > 0.5,
            "ties": None if rate is None else rate == 0.5,
            "losses": None if rate is None else rate < 0.5,
            "recovered": None if rate is None else max(shown) > 0,
            "judged": rate is not None,
            "consistent": _sign(shown[0]) == _sign(shown[1]) if both else None,
            "first_slot": _mean([_sign(p) for p in firsts]) if both or self.orders == "random" else None,
            "prefers_longer": _side(rate, pair.gap, self.margin),
            "prefers_list": _side(rate, has_list(pair.answer) - has_list(pair.baseline or "")),
            "points": _plain(points[0]),
            "points_swapped": _plain(points[1]),
            "status": straight.status,
            "status_swapped": swapped.status,
            "reply": straight.reply,
            "reply_swapped": swapped.reply,
            "tries": straight.tries + swapped.tries,
            "answer": pair.answer,
            "baseline_answer": pair.baseline,
            "label": straight.value if isinstance(straight.value, str) else None,
            "label_swapped": swapped.value if isinstance(swapped.value, str) else None,
        }

    def _summary(self, name: str, rows: list[dict], pairs: Sequence[Pair], report: Report) -> dict[str, Estimate]:
        options = {"confidence": self.confidence, "seed": self.seed}
        summary = {}
        for axis in ("rate", "wins", "ties", "losses", "recovered", "judged", *_BIASES):
            summary[axis] = estimate_rate(_by_prompt(rows, axis), **options)
        controlled = self._controlled(rows, pairs)
        summary["length_controlled"] = controlled.rate
        report.notes += [f"{name}: {note}" for note in controlled.notes]
        if self.orders == "both" and any(_labelled(row) for row in rows):
            summary["arena"] = self._arena(rows)
        if name in self.panel:
            by_judge = {role: [row[role] for row in rows] for role in (f"panel_{other}" for other in self.panel)}
            by_judge = {"judge": [row["rate"] for row in rows], **by_judge}
            summary["self_preference"] = self_preference(by_judge, f"panel_{name}", **options)
        return summary

    def _controlled(self, rows: list[dict], pairs: Sequence[Pair]) -> LengthControlled:
        places = {name: place for place, name in enumerate(dict.fromkeys(pair.id for pair in pairs))}
        kept = [(row, pair) for row, pair in zip(rows, pairs, strict=True) if pair.baseline is not None]
        return length_controlled(
            np.array([row["rate"] for row, _ in kept], dtype=np.float64),
            [len(pair.answer) for _, pair in kept],
            [len(pair.baseline or "") for _, pair in kept],
            items=[places[pair.id] for _, pair in kept],
            reference=None if self.length_reference is None else LengthReference.read(self.length_reference),
            resamples=self.resamples,
            confidence=self.confidence,
            seed=self.seed,
        )

    def _arena(self, rows: list[dict]) -> Estimate:
        """Return the mean over all scores, the intervals over pairs: those of one pair are not independent."""
        lists = [strong_points(row["label"], row["label_swapped"]) for row in rows if _labelled(row)]
        options = {"confidence": self.confidence, "seed": self.seed}
        return estimate_ratio([sum(one) for one in lists], [len(one) for one in lists], **options)

    def _explain(self, judges: Mapping[str, Any], given: Mapping[str, Sequence[Verdict]], report: Report) -> None:
        order = {"both": "both orders", "random": "one order per pair, by a coin"}[self.orders]
        report.notes += [f"{self.note(role, judge, given[role])}, {order}" for role, judge in judges.items()]

    def _figures(self, report: Report, order: Sequence[str]) -> dict[str, str]:
        parts = {"won": "wins", "tied": "ties", "lost": "losses"}
        bars = {name: {part: axes[axis].value for part, axis in parts.items()} for name, axes in report.summary.items()}
        label = f"share of pairs with {self.baseline}"
        told = [axis for axis in _BIASES if any(axes[axis].n for axes in report.summary.values())]
        drawn = {"win rates": ("win rate", ["rate", "length_controlled"]), "the judge": ("share", told)}
        return {f"against {self.baseline}": shares(bars, label=label)} | {
            title: intervals(report.summary, axes, label=unit, order=order)
            for title, (unit, axes) in drawn.items()
            if axes
        }


class _Absent:
    """Stands for the baseline whose answers are given."""


_ABSENT: Any = _Absent()


def _points_of(verdict: Verdict) -> float:
    if verdict.value is None:
        return math.nan
    return points_of_label(verdict.value) if isinstance(verdict.value, str) else float(verdict.value)


def _labelled(row: Mapping[str, Any]) -> bool:
    return row["label"] is not None and row["label_swapped"] is not None


def _mean(values: Sequence[float]) -> float | None:
    kept = [value for value in values if not math.isnan(value)]
    return math.fsum(kept) / len(kept) if kept else None


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value


def _sign(points: float) -> float:
    return points if math.isnan(points) or points == 0.5 else float(points > 0.5)


def _side(rate: float | None, gap: float, margin: float = 0) -> float | None:
    """Return whether the side with more of something won; None where there is no verdict, or no such side."""
    if rate is None or abs(gap) <= margin:
        return None
    return _sign(rate) if gap > 0 else 1.0 - _sign(rate)


def _by_prompt(rows: Sequence[Mapping[str, Any]], axis: str) -> np.ndarray:
    """Return the mean of an axis over the samples of each prompt; NaN where none has a value."""
    groups: dict[str, list[float]] = {}
    for row in rows:
        values = groups.setdefault(row["id"], [])
        if row[axis] is not None:
            values.append(row[axis])
    return np.array([math.fsum(values) / len(values) if values else np.nan for values in groups.values()])
