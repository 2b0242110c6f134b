"""Which value a model puts before which, from dilemmas whose two options each hold another one.

A Bradley-Terry model of the choices gives every value a priority (survey of value alignment by Yao et al. 2023, arXiv
2308.12014). Choices may be cyclic, which no order of the values can say: so transitivity is told beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from fairlead.engines.base import Engine
from fairlead.errors import UsageError
from fairlead.estimates import Estimate, estimate_mean
from fairlead.evaluation.base import Report
from fairlead.evaluation.questioning import ItemAnswer, Questioning, join_items, notes_on_answers
from fairlead.evaluation.questionnaire import Questionnaire, load_questionnaire, read_questionnaire
from fairlead.evaluation.value_measures import transitivity, utilities
from fairlead.figures import intervals

__all__ = ["Dilemmas"]

_QUALITIES = ("validity", "mass", "consistency", "order_consistency", "wording_consistency")


@dataclass(frozen=True, kw_only=True)
class Dilemmas(Questioning):
    """The order in which every engine puts values, with how steadily it chooses."""

    questionnaire: str | dict[str, Any] = "harbour_dilemmas"
    """Dilemmas: shipped ones (`harbour_dilemmas`), the path of a YAML file, or what such a file holds: `items` with
    `text` and `options`, a mapping of two values to the answers that hold them; where wanted `id`, `paraphrases`."""
    l2: float = 1.0
    """Weight of u^2 / 2 that keeps the priorities finite, where one value always wins too."""
    resamples: int = 200
    """Bootstrap resamples of dilemmas behind the intervals; each is a fit."""

    example: ClassVar[Mapping[str, Any]] = {
        "questionnaire": {
            "items": [
                {"id": "one", "text": "which ?", "options": {"warm": "red", "cold": "blue"}, "paraphrases": ["what ?"]},
                {
                    "id": "two",
                    "text": "and now ?",
                    "options": {"cold": "sure", "calm": "safe"},
                    "paraphrases": ["now ?"],
                },
                {"id": "three", "text": "and then ?", "options": {"calm": "safe", "warm": "red"}},
                {"id": "four", "text": "once more ?", "options": {"warm": "red", "cold": "is blue"}},
                {"id": "five", "text": "and more ?", "options": {"cold": "sure", "calm": "stay safe"}},
                {"id": "six", "text": "and less ?", "options": {"calm": "safe", "warm": "it is red"}},
            ]
        },
        "labels": "none",
        "resamples": 20,
    }
    needs_records: ClassVar[bool] = False
    """The records are not asked."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.l2 > 0:
            raise UsageError(f"dilemmas.l2 is {self.l2}", fix="use a weight above 0, such as 1")
        if self.mode == "judge":
            fix = "use mode: logprobs or text"
            raise UsageError("a dilemma is no statement to agree with", place="dilemmas", fix=fix)
        if any(item.negation is not None for item in self.asked.items):
            raise UsageError("a dilemma has no negation", place="dilemmas", fix="leave `negation` out")

    @cached_property
    def asked(self) -> Questionnaire:
        """The dilemmas as items: the first value's option scores 1, the other's 0."""
        return load_questionnaire(self._plain)

    @cached_property
    def _plain(self) -> dict[str, Any]:
        whole = read_questionnaire(self.questionnaire)
        rows, values = [], self.values
        for row, pair in zip(whole["items"], values, strict=True):
            inner = {k: v for k, v in row.items() if k != "options"}
            rows.append(inner | {"options": [str(row["options"][v]) for v in pair], "values": [1, 0], "dimension": "_"})
        return {k: v for k, v in whole.items() if k != "values"} | {"items": rows}

    @cached_property
    def values(self) -> list[tuple[str, str]]:
        """The two values of every dilemma, in order."""
        found: list[tuple[str, str]] = []
        rows = read_questionnaire(self.questionnaire).get("items")
        for number, row in enumerate(rows if isinstance(rows, list) else [], 1):
            options = row.get("options") if isinstance(row, Mapping) else None
            if not isinstance(options, Mapping) or len(options) != 2:
                fix = "write `options` as a mapping of two values to their answers"
                raise UsageError("is no dilemma", place=f"dilemmas: item {number}", fix=fix)
            one, other = map(str, options)
            for name in (one, other):
                if "." in name:
                    raise UsageError(f"a value is called {name!r}", place="dilemmas", fix="leave the dot out")
            found.append((one, other))
        return found

    def __call__(self, engines: Mapping[str, Engine], records: Sequence[Any]) -> Report:
        """Ask every engine the dilemmas; the records are not read.

        Axes: for every value V `priority.V` (its utility, mean 0 over the values: a difference u is odds of e^u) and
        `wins.V` (probability of the option that holds it, mean over its dilemmas); `transitive` (share of triples of
        values without a cycle; .75 is random, NaN where no three have met); `validity` (share of answers that choose an
        option), `mass`, `consistency`, `order_consistency`, `wording_consistency`, means over dilemmas and personas.
        Rows: one per dilemma, persona and engine: both values, `chance` of the first one's option, these.
        """
        if not engines:
            raise UsageError("there is no engine to evaluate", fix="give at least one engine by name")
        report = Report({})
        for name, engine in engines.items():
            answered = self.answers(name, engine)
            items = join_items(self, answered)
            rows = [self._row(name, item) for item in items]
            report.rows += rows
            report.notes += notes_on_answers(name, items, answered)
            report.summary[name] = self._qualities(rows) | self._priorities(name, items, report)
        report.figures = self._figures(report)
        return report

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(value for pair in self.values for value in pair))

    def _row(self, name: str, answer: ItemAnswer) -> dict[str, Any]:
        first, second = self.values[self._place(answer)]
        chance = None if answer.chances is None else float(answer.chances[0])
        row: dict[str, Any] = {"id": answer.item.id, "engine": name, "persona": answer.persona}
        row |= {"first": first, "second": second, "chance": chance}
        told = {axis: float(getattr(answer, axis)) for axis in _QUALITIES}
        row |= {axis: None if np.isnan(value) else value for axis, value in told.items()}
        problems = ", ".join(f"{problem} {count}" for problem, count in sorted(answer.problems.items()))
        return row | {"problems": problems or None}

    def _place(self, answer: ItemAnswer) -> int:
        return [item.id for item in self.asked.items].index(answer.item.id)

    def _qualities(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Estimate]:
        found = {}
        for axis in _QUALITIES:
            values = [np.nan if row[axis] is None else float(row[axis]) for row in rows]
            if axis == "validity" or not np.isnan(values).all():
                found[axis] = estimate_mean(values, confidence=self.confidence, seed=self.seed)
        return found

    def _priorities(self, name: str, items: Sequence[ItemAnswer], report: Report) -> dict[str, Estimate]:
        told: dict[int, list[float]] = {}
        for item in items:
            if item.chances is not None:
                told.setdefault(self._place(item), []).append(float(item.chances[0]))
        places, chances = list(told), np.array([np.mean(found) for found in told.values()])
        pairs = np.array([[self._names.index(value) for value in self.values[i]] for i in places]).reshape(-1, 2)
        missing = [value for k, value in enumerate(self._names) if k not in pairs]
        if missing:
            report.notes.append(f"{name}: no dilemma about {', '.join(missing)} has an answer")
        if not len(places):
            return {}
        rng = np.random.default_rng(self.seed)
        draws = [rng.integers(len(places), size=len(places)) for _ in range(self.resamples)]
        drawn = [self._fit(pairs[some], chances[some]) for some in draws]
        value, order = self._fit(pairs, chances)
        found = {}
        for k, label in enumerate(self._names):
            n = int((pairs == k).any(1).sum())
            found[f"priority.{label}"] = self._between(value[k], [each[k] for each, _ in drawn], n)
            won = [p if i == k else 1 - p for (i, j), p in zip(pairs, chances, strict=True) if k in (i, j)]
            found[f"wins.{label}"] = estimate_mean(won, confidence=self.confidence, seed=self.seed)
        return found | {"transitive": self._between(order, [each for _, each in drawn], len(places))}

    def _fit(self, pairs: np.ndarray, chances: np.ndarray) -> tuple[np.ndarray, float]:
        """Return the priorities [D], NaN for values that no dilemma joins to the others, and the transitivity."""
        size = len(self._names)
        priority = np.full(size, np.nan)
        fitted = utilities(pairs[:, 0].tolist(), pairs[:, 1].tolist(), chances, self.l2)
        priority[: len(fitted)] = fitted
        won = np.zeros((size, size))
        np.add.at(won, (pairs[:, 0], pairs[:, 1]), chances)
        np.add.at(won, (pairs[:, 1], pairs[:, 0]), 1 - chances)
        return priority, transitivity(won)

    def _between(self, value: float, drawn: Sequence[float], n: int) -> Estimate:
        """Return a number with the interval of its resamples; those in which it is not known are left out."""
        known = np.array([one for one in drawn if not np.isnan(one)])
        if np.isnan(value):
            return Estimate(float("nan"), float("nan"), float("nan"), 0)
        if n < 2 or len(known) < 2:
            return Estimate(float(value), float("nan"), float("nan"), n)
        low, high = np.quantile(known, [(1 - self.confidence) / 2, (1 + self.confidence) / 2])
        return Estimate(float(value), float(min(low, value)), float(max(high, value)), n)

    def _figures(self, report: Report) -> dict[str, str]:
        order = list(report.summary)
        shown = {
            subject: {
                value: axes[f"priority.{value}"] for value in self._names if axes.get(f"priority.{value}") is not None
            }
            for subject, axes in report.summary.items()
        }
        figures = {}
        if any(shown.values()):
            figures["priorities"] = intervals(shown, list(self._names), label="priority", order=order)
        steady = [axis for axis in _QUALITIES if any(axis in axes for axes in report.summary.values())]
        return figures | {"reliability": intervals(report.summary, steady, label="mean over dilemmas", order=order)}
