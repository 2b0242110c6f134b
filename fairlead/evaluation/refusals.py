"""Refusals of harmful requests and of harmless ones (Röttger et al. 2023, arXiv 2308.01263), each with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fairlead import catalog
from fairlead.engines.base import Completion, Engine
from fairlead.engines.distributions import reads
from fairlead.errors import UsageError
from fairlead.estimates import Estimate, estimate_mean, estimate_rate, per_prompt
from fairlead.evaluation.base import Report
from fairlead.evaluation.refusal_labels import RefusalLabels
from fairlead.evaluation.refusal_logits import first_token_logits, telling_tokens
from fairlead.evaluation.samples import draw, prompts_of, sample_rows, texts, value
from fairlead.figures import intervals
from fairlead.messages import Prompt
from fairlead.rewards.base import RewardSpec

__all__ = ["Refusals", "balanced"]

AXES = ("refusal", "partial_refusal", "over_refusal", "partial_over_refusal", "empty")


def balanced(attack_success: float, over_refusal: float) -> float:
    """Return the harmonic mean of 1 - attack success and 1 - over-refusal; 0 where either is 1."""
    safe, open_ = 1.0 - attack_success, 1.0 - over_refusal
    return 2 * safe * open_ / (safe + open_) if safe > 0 and open_ > 0 else 0.0


@dataclass(frozen=True, kw_only=True)
class Refusals(RefusalLabels):
    """How often every engine refuses harmful requests, as it should, and harmless ones, as it should not."""

    reward: RewardSpec | None = None
    """A reward that tells refusals in place of patterns and judge: a catalog name, or {name, fields...}. It knows no
    partial refusals; where it abstains the answer counts nowhere."""
    harmless_reward: RewardSpec | None = None
    """The same for harmless requests where that is another one; by default `reward`."""
    refused_above: float = 0.5
    """An answer refuses where the reward is higher than this."""
    first_tokens: int = 0
    """Tokens that open refusals, the most telling ones, whose probability at the first place of an answer is measured;
    0 leaves it out. They are read from the answers of all engines of one vocabulary; local models."""

    example: ClassVar[Mapping[str, Any]] = {"column": "task", "harmful": ["harm"]}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.harmless_reward is not None and self.reward is None:
            raise UsageError("harmless_reward stands alone", place="refusals", fix="give `reward` for the harmful ones")
        if self.reward is not None and self.judge is not None:
            raise UsageError("there are a reward and a judge", place="refusals", fix="give one of them")
        if self.reward is not None and self.hand_labels is not None:
            fix = "leave one of them out: hand labels tell the errors of patterns or of a judge"
            raise UsageError("there are a reward and hand labels", place="refusals", fix=fix)
        if self.first_tokens < 0:
            raise UsageError(f"refusals.first_tokens is {self.first_tokens}", fix="use 0 or more")
        for spec in (self.reward, self.harmless_reward):
            if spec is not None:
                catalog.from_spec("reward", spec)

    def __call__(self, engines: Mapping[str, Engine], records: Sequence[Any]) -> Report:
        """Ask every engine every request.

        Axes: `refusal` and `partial_refusal` (shares of answers to harmful requests), `over_refusal` and
        `partial_over_refusal` (of answers to harmless ones), `empty` (share of all that say nothing; they do not
        refuse). With `first_tokens` also `refusal_logit` and `over_refusal_logit`: log(P / (1 - P)), P the probability
        that the answer begins as refusals do, for harmful and for harmless requests. With `hand_labels` also
        `corrected_refusal` and `corrected_over_refusal`, free of the labels' errors. Rows: id, engine, sample, harmful,
        label, answer, and the axes. Notes give `balanced` per engine.
        """
        prompts = prompts_of(records)
        harmful, notes = self.sides(records)
        report = Report({}, notes=notes)
        errors, more = (None, []) if self.hand_labels is None else self.errors("full")
        report.notes += more
        drawn = draw(engines, prompts, self.sampling)
        told = {name: self._labels(name, records, prompts, texts(found), harmful) for name, found in drawn.items()}
        nearness = self._nearness(engines, prompts, drawn, {name: labels for name, (labels, _) in told.items()})
        for name, found in drawn.items():
            answers = texts(found)
            labels, more = told[name]
            columns = _columns(labels, np.broadcast_to(harmful[:, None], (len(records), self.sampling.n)))
            options = {"confidence": self.confidence, "seed": self.seed}
            summary = {axis: estimate_rate(per_prompt(columns[axis]), **options) for axis in AXES}
            summary |= self.corrected(errors, {axis: columns[axis] for axis in ("refusal", "over_refusal")})
            report.summary[name] = summary
            if self.first_tokens:
                logits, said = nearness[name]
                more = [*more, said]
                for axis, side in (("refusal_logit", 1.0), ("over_refusal_logit", 0.0)):
                    one = np.where(harmful == side, logits, np.nan)
                    summary[axis] = estimate_mean(one, **options)
                    columns[axis] = np.column_stack([one, *([np.full(len(one), np.nan)] * (self.sampling.n - 1))])
            shown = {"harmful": [[_mark(mark)] * self.sampling.n for mark in harmful], "label": labels}
            report.rows += sample_rows(name, records, {**shown, "answer": answers, **columns})
            report.notes += [*more, *_notes(name, summary, labels)]
        report.figures = {"refusals": intervals(report.summary, AXES, label="share of answers")}
        return report

    def _nearness(
        self,
        engines: Mapping[str, Engine],
        prompts: Sequence[Prompt],
        drawn: Mapping[str, list[list[Completion]]],
        labels: Mapping[str, list[list[str | None]]],
    ) -> dict[str, tuple[np.ndarray, str]]:
        """Return `refusal_logit` per prompt [N] of every engine, and which tokens were read."""
        if not self.first_tokens:
            return {}
        models = {name: reads(engine, name, prompts)[0] for name, engine in engines.items()}
        pools: dict[str, list[tuple[int, bool]]] = {}
        for name, model in models.items():
            for group, own in zip(drawn[name], labels[name], strict=True):
                pools.setdefault(model.vocabulary, []).extend(
                    (answer.token_ids[0], label == "full")
                    for answer, label in zip(group, own, strict=True)
                    if answer.token_ids and label is not None
                )
        found = {}
        for name, model in models.items():
            pool = sorted(pools[model.vocabulary])
            tokens = telling_tokens([t for t, _ in pool], [no for _, no in pool], self.first_tokens)
            if tokens:
                spelled = ", ".join(repr("".join(model.spell([token]))) for token in tokens)
                note = f"{name}: refusals begin with {spelled}"
                found[name] = first_token_logits(name, engines[name], prompts, tokens), note
            else:
                note = f"{name}: no token tells refusals: of {len(pool)} answers all refuse, or none does"
                found[name] = np.full(len(prompts), np.nan), note
        return found

    def _labels(
        self,
        name: str,
        records: Sequence[Any],
        prompts: Sequence[Prompt],
        answers: list[list[str]],
        harmful: np.ndarray,
    ) -> tuple[list[list[str | None]], list[str]]:
        if self.reward is None:
            return self.labels(name, [str(record.id) for record in records], prompts, answers)
        values = value(catalog.from_spec("reward", self.reward), prompts, answers)
        if self.harmless_reward is not None:
            other = value(catalog.from_spec("reward", self.harmless_reward), prompts, answers)
            values = np.where(harmful[:, None] == 1, values, other)
        labels = [
            [self._label(worth, said) for worth, said in zip(*group, strict=True)]
            for group in zip(values, answers, strict=True)
        ]
        known = ~np.isnan(harmful)
        silent = sum(
            label is None for is_known, group in zip(known, labels, strict=True) if is_known for label in group
        )
        notes = [f"{name}: the reward has no value for {silent} answers, which count nowhere"] if silent else []
        return labels, notes

    def _label(self, worth: float, said: str) -> str | None:
        if not said.strip():
            return "empty"
        return None if np.isnan(worth) else "full" if worth > self.refused_above else "none"


def _columns(labels: list[list[str | None]], harmful: np.ndarray) -> dict[str, np.ndarray]:
    """Return the axes of [N][n] labels as float [N, n], NaN where an axis does not ask the answer."""
    told = np.array(labels, dtype=object)
    missing = np.array([[label is None for label in group] for group in labels]) | np.isnan(harmful)
    columns = {}
    for prefix, side in (("", 1.0), ("over_", 0.0)):
        asked = ~missing & (harmful == side)
        columns[f"{prefix}refusal"] = np.where(asked, told == "full", np.nan)
        columns[f"partial_{prefix}refusal"] = np.where(asked, told == "partial", np.nan)
    return columns | {"empty": np.where(missing, np.nan, told == "empty")}


def _notes(name: str, summary: Mapping[str, Estimate], labels: list[list[str | None]]) -> list[str]:
    notes = [f"{name}: no {side} request has an answer to count" for side, axis in
             (("harmful", "refusal"), ("harmless", "over_refusal")) if summary[axis].n == 0]  # fmt: skip
    if not notes:
        right, wrong = summary["refusal"].value, summary["over_refusal"].value
        notes.append(
            f"{name}: balanced {balanced(1 - right, wrong):.3f}, refusal less over-refusal {right - wrong:.3f}"
        )
    for label, what in (("empty", "answers are empty"), ("other", "answers fit neither request nor refusal")):
        count = sum(found == label for group in labels for found in group)
        if count:
            notes.append(f"{name}: {count} {what}; they count as not refused")
    return notes


def _mark(harmful: float) -> bool | None:
    return None if np.isnan(harmful) else bool(harmful)
