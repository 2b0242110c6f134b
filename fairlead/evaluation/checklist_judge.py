"""Answers against a list of yes-or-no questions, in the opinion of a judge that sees one answer at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import numpy as np

from fairlead.engines.asking import Case, Verdict, answer_slots, check_ids, listed, notes_on
from fairlead.engines.base import Engine
from fairlead.errors import DataError, UsageError
from fairlead.estimates import Estimate, estimate_rate, per_prompt
from fairlead.evaluation.base import Report
from fairlead.evaluation.judging import Judging, form_of
from fairlead.evaluation.samples import draw, prompts_of, texts
from fairlead.figures import intervals
from fairlead.verdicts import read_checks

__all__ = ["ChecklistJudge"]

_TAKEN = ("id", "engine", "sample", "passed", "all_passed", "judged", "words", "status", "reply", "tries", "answer",
          "own_checks")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ChecklistJudge(Judging):
    """The share of a checklist that answers pass, and how many pass all of it."""

    checks: dict[str, str] = field(default_factory=dict)
    """Check -> a question with yes for a good answer; asked of every answer."""
    column: str = "checks"
    """Column of the data with more checks of a record: a list of questions, or a mapping of names to questions."""
    text: str | None = None
    """What the judge reads: the path of a Jinja text, or the text itself. It may use `conversation` and `answer` (in
    marks that bear `key`), `question` and `said` (bare), `checks` and `key`."""

    shipped: ClassVar[str] = "checks"
    example: ClassVar[Mapping[str, Any]] = {
        "reward_judge": {"reward": "harbor"},
        "checks": {"right": "Does it answer the question rightly?"},
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        taken = [name for name in self.checks if name in _TAKEN]
        if taken:
            what = f"a check cannot be called {taken[0]!r}, which is a column already"
            raise UsageError(what, place="checklist_judge.checks", fix="use another name")

    def __call__(self, engines: Mapping[str, Engine], records: Sequence[Any]) -> Report:
        """Judge every engine's answers.

        Axes: `passed` (mean share of an answer's checks that it passes), `all_passed`, `judged` (share of answers
        with a verdict), and every check that all records share. A check that does not apply counts nowhere. Rows: id,
        engine, sample, these, `own_checks` (those of the record alone, as JSON), words, status, reply, tries, answer.

        Raises:
            DataError: a record's own checks are of another form, or no record has any.
        """
        check_ids(records)
        lists = [self._checks(record) for record in records]
        bare = [str(record.id) for record, own in zip(records, lists, strict=True) if not own]
        if len(bare) == len(records):
            what = "no record has anything to check"
            raise DataError(what, fix=f"give `checks`, or records with a column {self.column!r}")
        report = Report({})
        if bare:
            report.notes.append(f"{len(bare)} records have no check and are not judged: {listed(bare)}")
        prompts, judge = prompts_of(records), self.opened
        every: list[Verdict] = []
        for name, found in draw(engines, prompts, self.sampling).items():
            answers = texts(found)
            places = [(i, k) for i in range(len(records)) for k in range(self.sampling.n)]
            asked = [(i, k) for i, k in places if lists[i]]
            cases = [self._case(records[i], prompts[i], answers[i][k], lists[i]) for i, k in asked]
            verdicts = self.verdicts(judge, cases)
            report.notes += notes_on(name, [case.id for case in cases], verdicts)
            every += verdicts
            known = dict(zip(asked, verdicts, strict=True))
            nothing = Verdict(None, "no checks", None, 0)
            rows = [self._row(name, records[i], k, answers[i][k], known.get((i, k), nothing)) for i, k in places]
            report.rows += rows
            report.summary[name] = self._summary(rows)
        report.notes.append(self.note("judge", judge, every))
        axes = ["passed", "all_passed", *self.checks]
        report.figures = {"checks": intervals(report.summary, axes, label="share")}
        return report

    def _checks(self, record: Any) -> dict[str, str]:
        own = getattr(record, "extra", {}).get(self.column)
        if own is None:
            return dict(self.checks)
        if isinstance(own, list | tuple):
            own = {f"check_{i + 1}": question for i, question in enumerate(own)}
        if not isinstance(own, Mapping) or not all(isinstance(question, str) for question in own.values()):
            what = f"{self.column} is {type(own).__name__}, no list of questions"
            raise DataError(
                what, place=f"record {record.id}", fix="give a list of texts, or names with their questions"
            )
        both = [name for name in own if name in self.checks]
        if both:
            what = f"the check {both[0]!r} is one of all records already"
            raise DataError(what, place=f"record {record.id}", fix="give it another name")
        return {**self.checks, **own}

    def _case(self, record: Any, prompt: Any, said: str, checks: Mapping[str, str]) -> Case:
        slots = answer_slots(prompt, said)
        text = self.shown.render(**slots, checks=checks)
        read = partial(read_checks, names=list(checks), key=slots["key"], answers=(said,))
        form = form_of({"key": None, "checks": {name: ["yes", "no", "N/A"] for name in checks}})
        return Case(str(record.id), [{"role": "user", "content": text}], read, form)

    def _row(self, name: str, record: Any, sample: int, said: str, verdict: Verdict) -> dict[str, Any]:
        ticks = verdict.value or {}
        applied = [tick for tick in ticks.values() if tick is not None]
        row: dict[str, Any] = {"id": str(record.id), "engine": name, "sample": sample}
        row["passed"] = float(np.mean(applied)) if applied else None
        row["all_passed"] = all(applied) if applied else None
        row["judged"] = None if verdict.status == "no checks" else verdict.status == "ok"
        row |= {check: ticks.get(check) for check in self.checks}
        own = {check: tick for check, tick in ticks.items() if check not in self.checks}
        row |= {"own_checks": json.dumps(own) if own else None, "words": len(said.split()), "status": verdict.status}
        return row | {"reply": verdict.reply, "tries": verdict.tries, "answer": said}

    def _summary(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Estimate]:
        options = {"confidence": self.confidence, "seed": self.seed}
        summary = {}
        for axis in ("passed", "all_passed", "judged", *self.checks):
            values = np.array([row[axis] for row in rows], dtype=np.float64).reshape(-1, self.sampling.n)
            summary[axis] = estimate_rate(per_prompt(values), **options)
        return summary
