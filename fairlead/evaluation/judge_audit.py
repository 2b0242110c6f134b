"""Whether a judge can be believed: how far it agrees with people on their own pairs, and what sways it.

Sources: MT-Bench (Zheng et al. 2023, arXiv 2306.05685) for agreement with people and the names of the biases; Zheng et
al. 2024 (arXiv 2410.07137) for answers that say nothing and win; Cohen 1960 for kappa.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, cast

import numpy as np

from fairlead import prompts as texts_of
from fairlead.engines.asking import JUDGING, Guided, check_ids
from fairlead.engines.base import Engine, Sampling
from fairlead.errors import DataError, UsageError
from fairlead.estimates import RESAMPLES, Estimate, estimate_difference, estimate_mean, estimate_rate
from fairlead.evaluation.base import Report
from fairlead.evaluation.pair_accuracy import single_pairs
from fairlead.evaluation.pairs import Pair
from fairlead.evaluation.pairwise_judge import PairwiseJudge
from fairlead.evaluation.reward_judge import RewardJudge
from fairlead.figures import intervals

__all__ = ["JudgeAudit"]

_LENGTH = "length"
"""The subject that stands for no judge at all."""
_TASTES = ("consistent", "first_slot", "prefers_longer", "prefers_list", "null_wins")


@dataclass(frozen=True, kw_only=True)
class JudgeAudit:
    """How far judges agree with people about preference pairs, and how they stand the usual tests.

    Every engine is a judge here; rewards may be, too. All judge every pair in both orders.
    """

    reward_judges: dict[str, RewardJudge] = field(default_factory=dict)
    """Rewards that judge as well, by name."""
    soft: bool = False
    """Whether the engines' log-probs of "A" and "B" are the verdict, instead of what they write."""
    null_answer: str | None = "Thank you for your question. I hope that this answer is helpful and to the point."
    """A constant answer that says nothing, put beside every pair's preferred answer: it must not win. None leaves
    that out."""
    margin: str | None = None
    """Column that says how much better the preferred answer is: of this name, or the difference of chosen_NAME and
    rejected_NAME (or NAME_chosen and NAME_rejected). Agreement is then told by the size of it, too."""
    parts: int = 3
    """Groups of equally many pairs, from the smallest margins to the largest."""
    longer_by: int = 30
    """Characters by which one of two answers must be longer for the audit of length."""
    retries: int = 2
    """How often a judge is asked again where its reply holds no verdict."""
    retry_temperature: float = 0.3
    """Temperature of these replies; each has the next seed."""
    judge_sampling: Sampling = JUDGING
    """How verdicts are drawn."""
    guided: Guided = "auto"
    """Whether judges are held to the form of a verdict (see the evaluator `pairwise_judge`)."""
    text: str | None = None
    """What the judges read in place of the shipped text: the path of a Jinja text, or the text itself."""
    confidence: float = 0.95
    """Coverage of the intervals, between 0 and 1."""
    seed: int = 0
    """Randomness of the bootstrap."""

    example: ClassVar[Mapping[str, Any]] = {"reward_judges": {"exact": {"reward": "harbor"}}}

    def __post_init__(self) -> None:
        if self.longer_by < 0 or self.parts < 1:
            fix = "use 0 and 1 or more"
            raise UsageError(f"longer_by is {self.longer_by}, parts {self.parts}", place="judge_audit", fix=fix)
        _ = self._texts

    @classmethod
    def files(cls, settings: Mapping[str, Any]) -> dict[str, str]:
        """Return which settings name a file, by field."""
        own = texts_of.file_of(settings.get("text"))
        return {} if own is None else {"text": own}

    @cached_property
    def _texts(self) -> tuple[texts_of.PromptText, ...]:
        kinds = ("pair", "choice") if self.soft else ("pair",)
        return tuple(texts_of.load("judging", kind, self.text) for kind in kinds)

    def __call__(self, engines: Mapping[str, Engine], records: Sequence[Any]) -> Report:
        """Let every engine, and every reward judge, judge the records, which must be preferences.

        Axes of each judge: `accuracy` (points of the answer that people prefer: 1 found better, .5 tie, mean of both
        orders), `kappa` (Cohen's, with people, over single verdicts: 0 is chance), `gain` (accuracy less that of "the
        longer answer is better"), `accuracy.margin_1` and so on by growing margin, `judged` (share of pairs with a
        verdict in both orders); `consistent` (same verdict in both orders), `first_slot` (the answer shown first wins;
        .5 is unbiased), `prefers_longer`, `prefers_list`; `null_wins` (points of the constant answer), `null_judged`.
        The subject `length` has the accuracies of "the longer answer is better". Rows: id, engine, these of a pair, the
        margin, the points, statuses and replies of either order.

        Raises:
            DataError: a record that is no preference, or a margin that is no number.
            UsageError: two judges of one name, or one called `length`.
        """
        names = [*engines, *self.reward_judges]
        twice = next((name for name in names if names.count(name) > 1 or name == _LENGTH), None)
        if twice is not None:
            what = f"{twice!r} cannot be the name of a judge here" if twice == _LENGTH else f"two judges are {twice!r}"
            raise UsageError(what, place="judge_audit", fix="rename one")
        check_ids(records)
        report = Report({})
        kept = single_pairs(records)
        if len(kept) < len(records):
            left_out = len(records) - len(kept)
            report.notes.append(f"{left_out} of {len(records)} pairs are left out: their answers are several turns")
        pairs = [Pair(str(record.id), 0, prompt, rejected, chosen) for record, prompt, chosen, rejected in kept]
        probes = [Pair(str(record.id), 0, prompt, chosen, self.null_answer or "") for record, prompt, chosen, _ in kept]
        margins = self._margins([record for record, *_ in kept])
        judges = {**engines, **{name: cast(Engine, judge) for name, judge in self.reward_judges.items()}}
        longer = np.array([(np.sign(pair.gap) + 1) / 2 for pair in pairs])
        for name, judge in judges.items():
            asker = self._asker(judge, name in engines)
            verdicts = asker.judged(name, judge, pairs, report)
            rows = [_row(asker.row(name, pair, *both)) for pair, both in zip(pairs, verdicts, strict=True)]
            if self.null_answer is not None:
                answers = asker.judged(f"{name}, constant answer", judge, probes, report)
                told = [asker.row(name, probe, *both) for probe, both in zip(probes, answers, strict=True)]
                rows = [row | {"null_wins": r["rate"], "null_judged": r["judged"]} for row, r in zip(rows, told)]
            for row, margin, baseline in zip(rows, margins, longer.tolist(), strict=True):
                gain = None if row["accuracy"] is None else row["accuracy"] - baseline
                report.rows.append(row | {"gain": gain, "margin": margin})
            report.summary[name] = self._summary(rows, longer, margins)
            report.notes.append(asker.note(name, judge, [one for both in verdicts for one in both]))
        self._add_length(report, pairs, longer, margins)
        report.figures = self._figures(report)
        return report

    def _asker(self, judge: Engine, is_engine: bool) -> PairwiseJudge:
        """Return what puts pairs before a judge, the answer that people prefer in the place of the compared model's."""
        who: dict[str, Any] = {"judge": judge, "soft": self.soft} if is_engine else {"reward_judge": judge}
        shared = ("retries", "retry_temperature", "judge_sampling", "guided", "text")
        options = {name: getattr(self, name) for name in shared}
        return PairwiseJudge(baseline="rejected", margin=self.longer_by, **who, **options)

    def _margins(self, records: Sequence[Any]) -> list[float | None]:
        """Return how much better every preferred answer is."""
        if self.margin is None:
            return [None] * len(records)
        found = []
        for record in records:
            value = _margin_of(record.extra, self.margin)
            if value is None or math.isnan(value):
                fix = f"give {self.margin}, or chosen_{self.margin} and rejected_{self.margin}, or leave `margin` out"
                raise DataError(f"no number says the margin {self.margin!r}", place=f"record {record.id}", fix=fix)
            found.append(value)
        return found

    def _summary(
        self, rows: Sequence[Mapping[str, Any]], longer: np.ndarray, margins: Sequence[float | None]
    ) -> dict[str, Estimate]:
        options = {"confidence": self.confidence, "seed": self.seed}
        columns = {axis: _column(rows, axis) for axis in ("accuracy", "judged", *_TASTES, "null_judged")}
        right = columns["accuracy"]
        found = {"accuracy": estimate_rate(right, **options), "kappa": self._kappa(rows)}
        found["gain"] = estimate_difference(right, longer, **options)
        found |= self._by_margin(right, margins)
        for axis in ("judged", *_TASTES, "null_judged"):
            if self.null_answer is not None or not axis.startswith("null"):
                found[axis] = estimate_rate(columns[axis], **options)
        return found

    def _by_margin(self, right: np.ndarray, margins: Sequence[float | None]) -> dict[str, Estimate]:
        if self.margin is None:
            return {}
        order = np.argsort(np.array(margins, dtype=np.float64), kind="stable")
        options = {"confidence": self.confidence, "seed": self.seed}
        groups = np.array_split(order, self.parts)
        return {f"accuracy.margin_{k}": estimate_rate(right[part], **options) for k, part in enumerate(groups, start=1)}

    def _kappa(self, rows: Sequence[Mapping[str, Any]]) -> Estimate:
        """Return Cohen's kappa of single verdicts with people, who find the preferred answer better in either place.

        People's labels are half of either place, so chance agrees with half of the verdicts that are no tie.
        """
        table = np.array([[row["points"], row["points_swapped"]] for row in rows if row["accuracy"] is not None], float)
        if not len(table):
            return Estimate(math.nan, math.nan, math.nan, 0)
        agreed, decided = (table > 0.5).sum(1), (table != 0.5).sum(1)

        def kappa(counts: np.ndarray) -> np.ndarray:
            calls = 2 * counts.sum(-1)
            observed, chance = counts @ agreed / calls, counts @ decided / calls / 2
            return (observed - chance) / (1 - chance)

        n = len(table)
        value = float(kappa(np.ones(n)))
        if n == 1:
            return Estimate(value, math.nan, math.nan, 1)
        drawn = kappa(np.random.default_rng(self.seed).multinomial(n, np.full(n, 1 / n), size=RESAMPLES))
        low, high = np.quantile(drawn, [(1 - self.confidence) / 2, (1 + self.confidence) / 2])
        return Estimate(value, min(float(low), value), max(float(high), value), n)

    def _add_length(
        self, report: Report, pairs: Sequence[Pair], longer: np.ndarray, margins: Sequence[float | None]
    ) -> None:
        right = estimate_mean(longer, confidence=self.confidence, seed=self.seed)
        report.summary[_LENGTH] = {"accuracy": right, **self._by_margin(longer, margins)}
        report.rows += [
            {"id": pair.id, "engine": _LENGTH, "accuracy": float(value), "margin": margin}
            for pair, value, margin in zip(pairs, longer, margins, strict=True)
        ]

    def _figures(self, report: Report) -> dict[str, str]:
        order = list(report.summary)
        figures = {"with people": intervals(report.summary, ["accuracy"], label="agreement with people", order=order)}
        told = [axis for axis in _TASTES if any(axis in axes and axes[axis].n for axes in report.summary.values())]
        if told:
            judges = {name: axes for name, axes in report.summary.items() if name != _LENGTH}
            figures["what sways them"] = intervals(judges, told, label="share of pairs", order=order)
        if self.margin is not None:
            parts = [f"accuracy.margin_{k}" for k in range(1, self.parts + 1)]
            figures["by margin"] = intervals(report.summary, parts, label="agreement with people", order=order)
        return figures


def _margin_of(extra: Mapping[str, Any], name: str) -> float | None:
    if extra.get(name) is not None:
        return _number(extra[name])
    for one, other in ((f"chosen_{name}", f"rejected_{name}"), (f"{name}_chosen", f"{name}_rejected")):
        values = [_number(extra.get(one)), _number(extra.get(other))]
        if None not in values:
            return values[0] - values[1]  # type: ignore[operator]
    return None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _row(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of a pair from that of a comparison of the preferred answer with the other."""
    kept = ("judged", "consistent", "first_slot", "prefers_longer", "prefers_list", "points", "points_swapped")
    told = ("status", "status_swapped", "reply", "reply_swapped", "tries")
    named = {"id": found["id"], "engine": found["engine"], "accuracy": found["rate"]}
    return named | {name: found[name] for name in (*kept, *told)}


def _column(rows: Sequence[Mapping[str, Any]], axis: str) -> np.ndarray:
    return np.array([math.nan if row.get(axis) is None else float(row[axis]) for row in rows])
