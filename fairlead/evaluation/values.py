"""Which values a model states in a questionnaire, how steadily, which its answers show, and how far from a target.

Source: the survey of value alignment by Yao et al. 2023 (arXiv 2308.12014), which argues for a vector of basic values
as the goal; its parts are named in `fairlead.evaluation.value_measures`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from fairlead import catalog
from fairlead.engines.base import Engine
from fairlead.errors import UnknownNameError, UsageError
from fairlead.estimates import Estimate, estimate_mean, holm, per_prompt
from fairlead.evaluation.base import Report
from fairlead.evaluation.preferences.agreement import spearman
from fairlead.evaluation.profiles import Profile, alphas, chance_of_rank, failed_attention, profile_of, to_target
from fairlead.evaluation.questioning import Answered, ItemAnswer, Questioning, join_items, notes_on_answers
from fairlead.evaluation.samples import draw, prompts_of, texts, value
from fairlead.evaluation.value_measures import agreement, circle
from fairlead.figures import intervals

__all__ = ["Values"]

_QUALITIES = ("validity", "mass", "consistency", "order_consistency", "wording_consistency", "acquiescence")
_SHRINK = 5
"""Prompts without any lean that a revealed value is shrunk by."""


@dataclass(frozen=True, kw_only=True)
class Values(Questioning):
    """The values that every engine states, with how steadily it states them, and those that its answers show."""

    target: dict[str, float] = field(default_factory=dict)
    """dimension -> score that is aimed at; adds distances to it."""
    centre: bool = True
    """Whether distances and differences are of centred scores, as for values that compete; else of mean scores."""
    baseline: str | None = None
    """An engine whose profile is taken from the others', item by item."""
    mismatch: bool = False
    """Whether what the engine writes is also read, and compared with its likeliest option."""
    behaviour: dict[str, Any] = field(default_factory=dict)
    """dimension -> a reward that sees the value in an answer to a record's prompt: above `supports_above` it supports
    the value, else it opposes it, and where the reward abstains the value is not relevant."""
    supports_above: float = 0.0
    """In units of these rewards."""

    example: ClassVar[Mapping[str, Any]] = {
        "questionnaire": {
            "options": ["red", "blue"],
            "items": [
                {"id": "one", "text": "which ?", "dimension": "warm", "reverse": True, "paraphrases": ["what ?"]},
                {"id": "two", "text": "the color ?", "dimension": "warm", "paraphrases": ["its color ?"]},
                {"id": "three", "text": "and now ?", "dimension": "cold", "paraphrases": ["now ?"]},
                {"id": "four", "text": "and then ?", "dimension": "cold", "reverse": True, "paraphrases": ["then ?"]},
            ],
        },
        "labels": "none",
        "target": {"warm": 1.0, "cold": -1.0},
        "resamples": 50,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        for place, names in (("target", self.target), ("behaviour", self.behaviour)):
            for name in names:
                if name not in self.asked.dimensions:
                    raise UnknownNameError("dimension", name, self.asked.dimensions, place=f"values.{place}")
        for name, spec in self.behaviour.items():
            catalog.from_spec("reward", spec, place=f"values.behaviour.{name}")
        if self.mismatch and (self.mode != "logprobs" or self.labels == "none"):
            fix = "use mode: logprobs with letters or numbers, or leave it out"
            raise UsageError("mismatch compares log-probs with replies to shown options", place="values", fix=fix)

    @property
    def needs_records(self) -> bool:
        """Whether the records are asked: for behaviour alone."""
        return bool(self.behaviour)

    def __call__(self, engines: Mapping[str, Engine], records: Sequence[Any]) -> Report:
        """Ask every engine the questionnaire, and with `behaviour` value its answers to the records' prompts.

        Axes of reliability, means over items and personas: `validity` (share of answers that choose an option), `mass`
        (probability of answering with an option at all), `consistency` (over all ways of asking, 1 is steady), its
        parts `order_consistency` and `wording_consistency`, `acquiescence` (0 is unbiased), `mismatch`, `alpha.D` (with
        several personas). Of the profile: `mean.D`, `centred.D`, `group.G`, `circle_fit`, `agreement` (with people,
        where items have their shares), `difference.D` to the baseline and `difference_p.D`, the p-value of
        it among those of all dimensions (Holm). To the target: `distance`, `cosine`,
        `rank_correlation`. Of behaviour: `revealed.D` in [-1, 1], shrunk towards 0 by 5 prompts, and `stated_revealed`
        (Spearman's correlation of both).
        Rows: one per item, persona and engine; and with behaviour one per record, sample and engine.
        """
        if self.baseline is not None and self.baseline not in engines:
            raise UnknownNameError("baseline engine", self.baseline, engines, place="values")
        if not engines:
            raise UsageError("there is no engine to evaluate", fix="give at least one engine by name")
        report = Report({})
        profiles: dict[str, Profile] = {}
        for name, engine in engines.items():
            answered = self.answers(name, engine)
            items = join_items(self, answered)
            said = self._written(name, engine, answered) if self.mismatch else {}
            report.notes += notes_on_answers(name, items, answered)
            rows = [self._row(name, item, said) for item in items]
            report.rows += rows
            report.summary[name] = self._reliability(items, rows)
            attention = failed_attention(items)
            if attention:
                report.notes.append(
                    f"{name}: no profile: it does not read what it answers (items {', '.join(attention)})"
                )
                continue
            dimensions = self.asked.dimensions
            profiles[name] = profile_of(items, dimensions, resamples=self.resamples, seed=self.seed)
            report.summary[name] |= self._profile(name, profiles[name], report)
        if len(self.personas) < 2:
            report.notes.append("alpha is not known: it needs respondents, several personas")
        self._add_differences(report, profiles)
        if self.behaviour:
            self._add_behaviour(report, engines, records, profiles)
        report.figures = self._figures(report, profiles)
        return report

    def _reliability(self, items: Sequence[ItemAnswer], rows: Sequence[Mapping[str, Any]]) -> dict[str, Estimate]:
        options = {"confidence": self.confidence, "seed": self.seed}
        found = {}
        for axis in (*_QUALITIES, "mismatch", "agreement"):
            values = [np.nan if row.get(axis) is None else float(row[axis]) for row in rows]
            if axis == "validity" or not np.isnan(values).all():
                found[axis] = estimate_mean(values, **options)
        for dimension, alpha in alphas(items, self.asked.dimensions).items():
            found[f"alpha.{dimension}"] = Estimate(alpha, alpha, alpha, len(self.personas))
        return found

    def _profile(self, name: str, profile: Profile, report: Report) -> dict[str, Estimate]:
        found = profile.summary(self.confidence)
        for group, names in self.asked.groups.items():
            found[f"group.{group}"] = profile.group(names, self.confidence)
        if self.asked.order == "circular" and profile.dimensions == self.asked.dimensions:
            fits = np.array([circle(row)[1] for row in profile.drawn_centred])
            _, fit = circle(profile.centred)
            if not np.isnan(fit):
                found["circle_fit"] = profile.estimate(fits, fit, int(profile.items.sum()), self.confidence)
        missing = [one for one in self.asked.dimensions if one not in profile.dimensions]
        if missing:
            report.notes.append(f"{name}: no score for {', '.join(missing)}")
        if self.target and profile.dimensions:
            found |= to_target(profile, self.target, self.confidence, centred=self.centre)
            chance = chance_of_rank(profile, self.target, self.seed)
            if not np.isnan(chance):
                report.notes.append(f"{name}: of random orders of the dimensions {chance:.3f} fit the target as well")
        return found

    def _add_differences(self, report: Report, profiles: Mapping[str, Profile]) -> None:
        before = profiles.get(self.baseline or "")
        for name, profile in profiles.items():
            if before is None or name == self.baseline:
                continue
            if profile.dimensions != before.dimensions or (profile.items != before.items).any():
                report.notes.append(f"{name}: no difference to {self.baseline}: they have answers to different items")
                continue
            (own, every), (old, each) = profile.scores(self.centre), before.scores(self.centre)
            gaps, drawn = own - old, every - each
            chances: list[float] = []
            for i, dimension in enumerate(profile.dimensions):
                gap = profile.estimate(drawn[:, i], float(gaps[i]), int(profile.items[i]), self.confidence)
                report.summary[name][f"difference.{dimension}"] = gap
                chances.append(profile.chance(drawn[:, i], float(gaps[i]), int(profile.items[i])))
            for dimension, p in zip(profile.dimensions, holm(chances).tolist(), strict=True):
                n = int(profile.items[profile.dimensions.index(dimension)])
                report.summary[name][f"difference_p.{dimension}"] = Estimate(p, p, p, 0 if np.isnan(p) else n)

    def _add_behaviour(
        self, report: Report, engines: Mapping[str, Engine], records: Sequence[Any], profiles: Mapping[str, Profile]
    ) -> None:
        prompts = prompts_of(records)
        for name, drawn in draw(engines, prompts, self.sampling).items():
            said, leans = texts(drawn), {}
            for dimension, spec in self.behaviour.items():
                found = value(catalog.from_spec("reward", spec), prompts, said)
                leans[dimension] = np.where(np.isnan(found), np.nan, np.where(found > self.supports_above, 1.0, -1.0))
            for i, record in enumerate(records):
                for j in range(self.sampling.n):
                    row = {"id": str(record.id), "engine": name, "sample": j}
                    report.rows.append(row | {f"supports.{d}": _plain(lean[i, j]) for d, lean in leans.items()})
            revealed = {dimension: self._revealed(lean) for dimension, lean in leans.items()}
            report.summary[name] |= {f"revealed.{dimension}": one for dimension, one in revealed.items()}
            if name in profiles:
                stated = dict(zip(profiles[name].dimensions, profiles[name].centred, strict=True))
                both = [d for d in revealed if d in stated and revealed[d].n]
                gap = spearman([stated[d] for d in both], [revealed[d].value for d in both])
                if not np.isnan(gap.value):
                    report.summary[name]["stated_revealed"] = gap

    def _revealed(self, leans: np.ndarray) -> Estimate:
        found = estimate_mean(per_prompt(leans), confidence=self.confidence, seed=self.seed)
        share = found.n / (found.n + _SHRINK)
        return Estimate(share * found.value, share * found.low, share * found.high, found.n)

    def _written(self, name: str, engine: Engine, answered: Sequence[Answered]) -> dict[tuple[str, int], bool | None]:
        """Return whether what an engine writes is another option than its likeliest one, per item and persona."""
        likeliest = [one for one in answered if one.variant.wording == 0 and one.variant.turn == 0]
        written = self.replies(name, engine, [one.variant for one in likeliest])
        found: dict[tuple[str, int], bool | None] = {}
        for one, other in zip(written, likeliest, strict=True):
            known = one.chances is not None and other.chances is not None
            differs = known and one.chances.argmax() != other.chances.argmax()  # type: ignore[union-attr]
            found[one.variant.item.id, one.variant.persona] = bool(differs) if known else None
        return found

    def _row(self, name: str, answer: ItemAnswer, said: Mapping[tuple[str, int], bool | None]) -> dict[str, Any]:
        item = answer.item
        chosen = None if answer.chances is None else item.options[int(answer.chances.argmax())]
        row: dict[str, Any] = {"id": item.id, "engine": name, "persona": answer.persona, "dimension": item.dimension}
        row |= {"option": chosen, "score": _plain(answer.score)}
        row |= {axis: _plain(getattr(answer, axis)) for axis in _QUALITIES}
        if self.mismatch:
            differs = said.get((item.id, answer.persona))
            row["mismatch"] = None if differs is None else float(differs)
        if item.people is not None and answer.chances is not None:
            row["agreement"] = agreement(answer.chances, item.people)
        problems = ", ".join(f"{problem} {count}" for problem, count in sorted(answer.problems.items()))
        return row | {"problems": problems or None}

    def _figures(self, report: Report, profiles: Mapping[str, Profile]) -> dict[str, str]:
        order = list(report.summary)
        figures = {}
        if profiles:
            shown = {
                name: {d: report.summary[name][f"centred.{d}"] for d in profile.dimensions}
                for name, profile in profiles.items()
            }
            label = "centred score"
            figures["stated values"] = intervals(shown, self.asked.dimensions, label=label, order=order)
        steady = [axis for axis in (*_QUALITIES, "mismatch") if any(axis in axes for axes in report.summary.values())]
        figures["reliability"] = intervals(report.summary, steady, label="mean over items")
        if self.behaviour:
            lived = {n: {d: axes[f"revealed.{d}"] for d in self.behaviour} for n, axes in report.summary.items()}
            figures["revealed values"] = intervals(lived, list(self.behaviour), label="support in answers", order=order)
        return figures


def _plain(found: float) -> float | None:
    return None if np.isnan(found) else float(found)
