"""How many verifiable constraints answers follow: strict and loose, by prompt and by constraint.

Source: Zhou et al. 2023, "Instruction-Following Evaluation for Large Language Models" (arXiv 2311.07911).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fairlead.engines.base import Engine, Sampling
from fairlead.errors import DataError, UsageError
from fairlead.estimates import Estimate, estimate_mean, estimate_rate, estimate_ratio, pass_at_k, per_prompt
from fairlead.evaluation.base import Report
from fairlead.evaluation.constraints import Constraint, follows, follows_loosely, parse
from fairlead.evaluation.ifeval import from_ifeval
from fairlead.evaluation.samples import GREEDY, draw, prompts_of, sample_rows, texts
from fairlead.figures import intervals

__all__ = ["Rules"]

_Checked = tuple[tuple[str, Constraint], ...]


@dataclass(frozen=True)
class Rules:
    """Share of answers, and of constraints, that are followed.

    Strict looks at the answer as it stands. Loose also passes an answer that follows once its first line, its last line
    or its asterisks are left out, which forgives a preamble and markdown.
    """

    constraints: tuple[dict[str, Any], ...] = ()
    """Constraints on every answer: mappings of `check` and its fields."""
    column: str = "constraints"
    """Column of the records with a list of more of them, for the answer to this record alone. Records of IFEval have
    the columns `instruction_id_list` and `kwargs` instead."""
    pass_at: tuple[int, ...] = ()
    """For each k the chance that one of k answers follows all constraints strictly; k is at most `sampling.n`."""
    sampling: Sampling = GREEDY
    """How answers are drawn."""
    confidence: float = 0.95
    """Coverage of the intervals, between 0 and 1."""
    seed: int = 0
    """Randomness of the bootstrap."""

    example: ClassVar[Mapping[str, Any]] = {
        "constraints": [{"check": "words", "at_most": 12}, {"check": "keywords", "words": ["sorry"]}]
    }

    def __post_init__(self) -> None:
        parse(self.constraints, place="rules.constraints")
        for k in self.pass_at:
            if not 1 <= k <= self.sampling.n:
                what = f"rules.pass_at: {k} of {self.sampling.n} answers per prompt"
                raise UsageError(what, fix=f"use 1 to {self.sampling.n}, or a larger sampling.n")

    def __call__(self, engines: Mapping[str, Engine], records: Sequence[Any]) -> Report:
        """Check every engine's answers to the records' prompts.

        Axes: `prompt_strict`, `prompt_loose` (share of answers that follow all), `instruction_strict`,
        `instruction_loose` (share of constraints that are followed), `strict.CHECK` per kind of check, `pass_at_K`.
        Rows: id, engine, sample, answer, prompt_strict, prompt_loose, constraints (how many), followed_strict,
        followed_loose, broken (checks not followed strictly). Records without a constraint count for nothing.

        Raises:
            DataError: no records, or constraints of a record that cannot be read.
        """
        prompts = prompts_of(records)
        unknown: Counter[str] = Counter()
        asked = [self._constraints(record, unknown) for record in records]
        report = Report({}, notes=_left_out(asked, unknown))
        for name, answers in draw(engines, prompts, self.sampling).items():
            said = texts(answers)
            strict, loose = (_followed(asked, said, check) for check in (follows, follows_loosely))
            report.summary[name] = self._summary(asked, strict, loose)
            report.rows += sample_rows(name, records, _columns(asked, said, strict, loose))
        _draw(report)
        return report

    def _constraints(self, record: Any, unknown: Counter[str]) -> _Checked:
        """Return the constraints on the answer to a record: none if there is one that no check fits, counted."""
        own, ids = record.extra.get(self.column), record.extra.get("instruction_id_list")
        place = f"record {record.id}"
        if own is None and ids is not None:
            own, missing = from_ifeval(ids, record.extra.get("kwargs"), place=place)
            if missing:
                unknown[missing[0]] += 1
                return ()
        try:
            return parse(self.constraints) + (() if own is None else parse(own))
        except (DataError, UsageError) as error:
            raise DataError(error.what, place=f"{place}, column {self.column!r}", fix=error.fix) from error

    def _summary(self, asked: Sequence[_Checked], strict: list, loose: list) -> dict[str, Estimate]:
        options = {"confidence": self.confidence, "seed": self.seed}
        whole = [_all(strict), _all(loose)]
        summary = {
            axis: estimate_rate(per_prompt(values), **options)
            for axis, values in zip(("prompt_strict", "prompt_loose"), whole, strict=True)
        }
        every = sorted({check for found in asked for check, _ in found})
        parts: list[tuple[str, list, str | None]] = [
            ("instruction_strict", strict, None),
            ("instruction_loose", loose, None),
            *((f"strict.{check}", strict, check) for check in every),
        ]
        for axis, followed, check in parts:
            summary[axis] = _share(asked, followed, check, options)
        for k in self.pass_at:
            summary[f"pass_at_{k}"] = estimate_mean(_passes(whole[0], k), **options)
        return summary


def _left_out(asked: Sequence[_Checked], unknown: Mapping[str, int]) -> list[str]:
    notes = [f"{count} records have {name}, which is not checked here, and are left out" for name, count in
             sorted(unknown.items())]  # fmt: skip
    free = sum(not found for found in asked) - sum(unknown.values())
    return notes + ([f"{free} of {len(asked)} records have no constraint and are left out"] if free else [])


def _followed(
    asked: Sequence[_Checked], said: Sequence[Sequence[str]], check: Callable[[Constraint, str], bool]
) -> list[list[list[bool]]]:
    """Return [N prompts][n samples][constraints]."""
    return [
        [[check(one, text) for _, one in found] for text in group] for found, group in zip(asked, said, strict=True)
    ]


def _all(followed: list[list[list[bool]]]) -> np.ndarray:
    """Return whether each answer follows all: float64 [N, n], NaN where nothing is asked."""
    return np.array([[float(all(one)) if one else np.nan for one in group] for group in followed])


def _share(asked: Sequence[_Checked], followed: list, check: str | None, options: Mapping[str, Any]) -> Estimate:
    """Estimate the share of constraints (of one kind of check) that are followed."""
    chosen = [[check is None or kind == check for kind, _ in found] for found in asked]
    counts = np.array([sum(kept) * len(group) for kept, group in zip(chosen, followed, strict=True)], dtype=float)
    sums = np.array([
        float(sum(hit for one in group for hit, is_kept in zip(one, kept, strict=True) if is_kept))
        for kept, group in zip(chosen, followed, strict=True)
    ])  # fmt: skip
    if counts.max() <= 1:  # then shares of prompts, whose interval stays open at 0 and 1
        return estimate_rate(np.where(counts > 0, sums, np.nan), **options)
    return estimate_ratio(sums, counts, **options)


def _passes(whole: np.ndarray, k: int) -> np.ndarray:
    n = whole.shape[1]
    return np.array([np.nan if np.isnan(row).any() else pass_at_k(n, int(row.sum()), k) for row in whole])


def _columns(asked: Sequence[_Checked], said: list[list[str]], strict: list, loose: list) -> dict[str, Any]:
    def broken(found: _Checked, hits: Sequence[bool]) -> str:
        return ", ".join(check for (check, _), hit in zip(found, hits, strict=True) if not hit)

    return {
        "answer": said,
        "prompt_strict": _all(strict),
        "prompt_loose": _all(loose),
        "constraints": [[len(found)] * len(group) for found, group in zip(asked, strict, strict=True)],
        "followed_strict": [[sum(hits) for hits in group] for group in strict],
        "followed_loose": [[sum(hits) for hits in group] for group in loose],
        "broken": [[broken(found, hits) for hits in group] for found, group in zip(asked, strict, strict=True)],
    }


def _draw(report: Report) -> None:
    axes = next(iter(report.summary.values()))
    kinds = [axis for axis in axes if axis.startswith("strict.")]
    main = [axis for axis in axes if axis not in kinds]
    report.figures = {"constraints followed": intervals(report.summary, main, label="share followed")}
    if kinds:
        report.figures["by kind of constraint"] = intervals(report.summary, kinds, label="share followed, strict")
