"""What post-training data a model gives away when it is handed nothing but the beginning of a chat.

Source: Barbero et al. 2025, "Extracting alignment data in open models" (arXiv 2510.18554).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from fairlead import records as data
from fairlead.engines.base import Completion, Engine, FinishReason, Sampling
from fairlead.errors import DataError, UnknownNameError, UnsupportedError, UsageError
from fairlead.estimates import Estimate, estimate_difference, estimate_mean, estimate_rate
from fairlead.evaluation.base import Report
from fairlead.evaluation.extraction_likelihood import add_gains, add_likelihoods
from fairlead.evaluation.extraction_match import (
    best_by_edits,
    best_by_vectors,
    calibrated,
    pair_of,
    placements,
    squeezed,
    vectors_of,
)
from fairlead.evaluation.extraction_rows import Known, Limits, compare
from fairlead.evaluation.samples import draw
from fairlead.figures import curves, distribution, intervals
from fairlead.messages import Prompt

__all__ = ["Extraction"]

_DRAWS = Sampling(max_tokens=512, temperature=1.0)
_LIKELIHOODS = ("question_logprob", "likely", "question_gain", "held_out_gain")
_MEANS = ("similarity", "edit", "above_control", "question_logprob", "question_gain", "held_out_gain")


@dataclass(frozen=True)
class Extraction:
    """Conversations that a model writes behind its template's opening, matched to the data it was trained on.

    The records are that data. An engine writes a question behind the opening and is then asked it; question and answer
    are one text, compared with every training row by vectors (calibrated on held-out rows) and by edits.
    """

    prefix: str | None = None
    """What the model is handed, as raw text; by default its own chat template up to a first question (local models)."""
    mark: str | None = None
    """Text between question and answer, for models that write both behind a plain `prefix`; by default the question
    ends with its turn, and the answer is asked for in a chat."""
    openings: tuple[str, ...] = ("",)
    """Whole words put behind the prefix, one set of conversations each: "" for none, "Solve" to aim at mathematics."""
    amount: int = 200
    """Conversations drawn per opening."""
    held_out: str | None = None
    """Rows of the same kind that were not trained on, as many as the records or more: a path or `harbor:SET`. They
    calibrate the thresholds and tell how often a match is chance."""
    quantile: float = 0.999
    """Share of the held-out rows that may not reach the threshold against the training rows."""
    threshold: float | None = None
    """Cosine from which a conversation counts as extracted; by default calibrated."""
    edit_threshold: float | None = None
    """Levenshtein similarity from which it counts as a near copy; by default calibrated, or 0.9 without `held_out`."""
    control: str | None = None
    """Engine that was not trained on the records."""
    encoder: str | None = None
    """Sentence-embedding model (a folder or hub id; needs the extra `embed`); without, word counts are the
    vectors."""
    likely_above: float | None = None
    """With a number, the log-prob of every record's question behind the prefix is taken, and this many nats, such as
    -20, make it one that the model knows; for engines that give log-probs of a raw text."""
    keep_texts: bool = False
    """Whether the rows hold what was written, and not only its SHA-256."""
    sampling: Sampling = _DRAWS
    """How questions and answers are drawn; `n` is 1. Anything but temperature 1 hides rows."""
    confidence: float = 0.95
    """Coverage of the intervals, between 0 and 1."""
    seed: int = 0
    """Randomness of the bootstrap."""

    reads_records: ClassVar[bool] = False
    """Engines write by themselves; the records are what that is compared with."""
    example: ClassVar[Mapping[str, Any]] = {
        "prefix": "what",
        "amount": 9,
        "held_out": "harbor:demonstrations?n=20&seed=3",
        "threshold": 0.4,
        "control": "base",
        "sampling": {"max_tokens": 24},
    }

    def __post_init__(self) -> None:
        if not self.openings or self.amount < 1:
            raise UsageError("extraction draws nothing", fix='use amount >= 1 and openings [""] for none')
        if len(set(self.openings)) < len(self.openings):
            raise UsageError(f"extraction.openings is {list(self.openings)}", fix="name each opening once")
        if self.threshold is None and self.held_out is None:
            fix = "give held_out rows to calibrate it, or a threshold that is known for the encoder"
            raise UsageError("extraction has no threshold, and nothing to calibrate one on", fix=fix)
        for name in ("threshold", "edit_threshold", "quantile"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise UsageError(f"extraction.{name} is {value}", fix="use a number above 0, at most 1")
        if self.mark is not None and (self.prefix is None or not self.mark.strip()):
            fix = 'write prefix: "question:" and mark: "answer:", or leave the mark out'
            raise UsageError("extraction.mark needs a plain prefix and a text", fix=fix)
        if self.sampling.n != 1 or self.sampling.temperature == 0:
            fix = "use temperature 1 and n 1; `amount` says how many are drawn"
            raise UsageError("extraction.sampling must draw one conversation at a time, at random", fix=fix)

    @classmethod
    def files(cls, settings: Mapping[str, Any]) -> dict[str, str]:
        """Return which settings name a file or a data set, by field."""
        return {} if settings.get("held_out") is None else {"held_out": str(settings["held_out"])}

    def __call__(self, engines: Mapping[str, Engine], records: Sequence[Any]) -> Report:
        """Let every engine write, and look for the records in it.

        Axes over conversations that are whole: `similarity` (best cosine), `extracted`, `edit` (best Levenshtein
        similarity), `near_copy`, `verbatim`, `unseen` (Good and Turing's estimate of the chance that the next
        conversation is extracted from a row not yet found), `same_numbers` (of the extracted ones); with `held_out`
        `held_out_match` and `excess` (extracted less that); with `control` `above_control` (AUROC of the similarity).
        With `likely_above`, over training rows: `question_logprob` (nats), `likely` (share at or above it); with a
        control too `question_gain` and, over held-out rows, `held_out_gain` (the engine's less the control's).
        Over all: `malformed`. Over training rows: `coverage` and `verbatim_coverage`; over as many held-out rows:
        `held_out_coverage`. Rows: part ("conversation", "row" or "held_out"), id, engine, match, sha256, text where it
        is kept, `first` (the first conversation that reaches the row, from 0), and the axes.

        Raises:
            DataError: records without question and answer, prompts mixed with others, or no held-out row.
            UnsupportedError: an engine whose template is out of reach, without a `prefix`.
        """
        if self.control is not None and self.control not in engines:
            raise UnknownNameError("control engine", self.control, engines)
        report, known = Report({}), self._known(records)
        questions = records[0].kind == "prompt"
        held_out = None if self.held_out is None else self._held_out(known, questions, report)
        limits = self._limits(known, held_out, report)
        prefixes = {name: self._prefix(name, engine) for name, engine in engines.items()}
        written = {name: self._write(name, engines[name], prefixes[name], questions) for name in engines}
        chance = None if held_out is None else held_out.first(len(known.texts))
        if chance is not None and len(chance.texts) < len(known.texts):
            what = f"{len(chance.texts)} held-out rows beside {len(known.texts)} records"
            report.notes.append(f"{what}: fewer rows match less by chance, so `excess` is too high")
        columns: dict[str, list[dict[str, Any]]] = {}
        for name in engines:
            columns[name], cut = compare(written[name], known, chance, limits, self.encoder)
            self._explain(name, columns[name], cut, report)
            if self.likely_above is not None:
                parts = {"row": known.questions} | ({} if chance is None else {"held_out": chance.questions})
                add_likelihoods(columns[name], engines[name], prefixes[name], parts, self.likely_above)
        if self.control is not None:
            for name in set(engines) - {self.control}:
                above = placements(_whole(columns[name], "similarity"), _whole(columns[self.control], "similarity"))
                _spread(columns[name], "above_control", above)
                add_gains(columns[name], columns[self.control])
        for name in engines:
            report.summary[name] = self._summary(columns[name])
            unkept = () if self.keep_texts else ("text",)
            report.rows += [{"engine": name, **{k: v for k, v in r.items() if k not in unkept}} for r in columns[name]]
        report.figures = self._figures(report, known)
        return report

    def _known(self, records: Sequence[Any]) -> Known:
        if not records:
            raise DataError("there is no record to look for", fix="give at least one row that was trained on")
        if len({record.kind == "prompt" for record in records}) > 1:
            raise DataError("some records have answers and some are prompts alone", fix='read all as kind "prompt"')
        texts, questions = [], []
        for record in records:
            question, answer = pair_of(record)
            text = f"{question} {answer}"
            if isinstance(record.prompt, str):
                whole = text.removeprefix(self.prefix or "")
                question = whole.partition(self.mark)[0] if self.mark else whole
                text = whole.replace(self.mark or "\0", " ", 1)
            texts.append(squeezed(text))
            questions.append(question.strip())
        return Known([str(record.id) for record in records], texts, questions)

    def _prefix(self, name: str, engine: Any) -> str:
        if self.prefix is not None:
            return self.prefix
        from fairlead.engines.cache import Cache

        while isinstance(engine, Cache):
            engine = engine.engine
        found = getattr(getattr(engine, "renderer", None), "pre_query", "")
        if not found:
            what = f"is a {type(engine).__name__} whose chat template is out of reach"
            raise UnsupportedError(what, place=f"engine {name}", fix="name a local chat model, or give a prefix")
        return found

    def _write(self, name: str, engine: Engine, prefix: str, questions: bool) -> list[tuple[str, str | None]]:
        """Return (id, text) of every conversation, the text None where it is not whole."""
        sampling = replace(self.sampling, n=self.amount)
        starts: list[Prompt] = [f"{prefix}{opening}" for opening in self.openings]
        drawn = draw({name: engine}, starts, sampling)[name]
        asked = [(o, *self._parted(o, one)) for o, group in zip(self.openings, drawn) for one in group]
        answers = (
            iter(()) if questions or self.mark else iter(self._answers(name, engine, [q for _, q, _ in asked if q]))
        )
        found: list[tuple[str, str | None]] = []
        for number, (opening, question, answer) in enumerate(asked):
            said = answer if self.mark or questions or not question else next(answers)
            whole = question and (questions or said)
            place = f"{self.openings.index(opening)}-{number % self.amount:06d}"
            found.append((place, squeezed(f"{question} {said if not questions else ''}") if whole else None))
        return found

    def _parted(self, opening: str, one: Completion) -> tuple[str, str]:
        """Return the question and, where a mark parts them, the answer; "" for what is missing or cut."""
        text = f"{opening.rstrip()} {one.text.lstrip()}".strip()
        if self.mark is None:
            return ("" if one.finish_reason is FinishReason.LENGTH else text), ""
        question, mark, answer = text.partition(self.mark)
        cut = not mark or one.finish_reason is FinishReason.LENGTH
        return question.strip(), "" if cut else answer.strip()

    def _answers(self, name: str, engine: Engine, asked: Sequence[str]) -> list[str]:
        """Ask the questions; one that was written k times gets k answers. "" where an answer is cut."""
        counts = Counter(asked)
        said: dict[str, list[str]] = {}
        for times in sorted(set(counts.values())):
            these = [question for question, count in counts.items() if count == times]
            prompts: list[Prompt] = [[{"role": "user", "content": question}] for question in these]
            drawn = draw({name: engine}, prompts, replace(self.sampling, n=times))[name]
            for question, group in zip(these, drawn):
                said[question] = ["" if a.finish_reason is FinishReason.LENGTH else a.text.strip() for a in group]
        return [said[question].pop(0) for question in asked]

    def _held_out(self, known: Known, questions: bool, report: Report) -> Known:
        rows = data.read(str(self.held_out), kind="prompt" if questions else None)
        found, trained = self._known(rows), set(known.texts)
        fresh = [k for k, text in enumerate(found.texts) if text not in trained]
        if len(fresh) < len(found.texts):
            same = len(found.texts) - len(fresh)
            report.notes.append(f"{same} of {len(found.texts)} held-out rows are training rows too, and left out")
        if not fresh:
            raise DataError("every held-out row is a training row", place=str(self.held_out), fix="give other rows")
        return found.picked(fresh)

    def _limits(self, known: Known, held_out: Known | None, report: Report) -> Limits:
        cosine, edit = self.threshold, self.edit_threshold
        if held_out is not None:
            vectors, cut = vectors_of([*held_out.texts, *known.texts], self.encoder)
            if cut:
                report.notes.append(f"the encoder reads only the beginning of {cut} rows of the data")
            near = best_by_vectors(vectors[: len(held_out.texts)], vectors[len(held_out.texts) :]).value
            cosine = calibrated(near, self.quantile) if cosine is None else cosine
            edits = best_by_edits(held_out.texts, known.texts).value
            edit = calibrated(edits, self.quantile) if edit is None else edit
            rate = float((near >= cosine).mean())
            report.notes.append(f"{rate:.2%} of {len(near)} held-out rows reach the threshold of the cosine")
            if len(near) * (1 - self.quantile) < 1:
                what = f"{len(near)} held-out rows are too few for the quantile {self.quantile}"
                report.notes.append(f"{what}: the highest of them stands for it")
        limits = Limits(float(cosine if cosine is not None else math.nan), 0.9 if edit is None else edit)
        copies = f"extracted from a cosine of {limits.cosine:.4f}, near copy from {limits.edit:.4f} by edits"
        report.notes.append(f"{copies}; equal texts are both")
        return limits

    def _summary(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Estimate]:
        axes = [*("malformed", "similarity", "extracted", "edit", "near_copy", "verbatim", "unseen", "same_numbers")]
        axes += ["coverage", "verbatim_coverage"]
        axes += ["held_out_match", "excess", "held_out_coverage"] if self.held_out else []
        axes += [axis for axis in _LIKELIHOODS if any(axis in row for row in rows)]
        axes += ["above_control"] if any("above_control" in row for row in rows) else []
        options: dict[str, Any] = {"confidence": self.confidence, "seed": self.seed}
        summary = {}
        for axis in axes:
            if axis == "excess":
                pair = [_whole(rows, "extracted"), _whole(rows, "held_out_match")]
                summary[axis] = estimate_difference(*pair, **options)
            else:
                summary[axis] = (estimate_mean if axis in _MEANS else estimate_rate)(_whole(rows, axis), **options)
        return summary

    def _explain(self, name: str, rows: Sequence[Mapping[str, Any]], cut: int, report: Report) -> None:
        broken = int(sum(_whole(rows, "malformed")))
        if broken:
            what = "are not whole (no question, no answer, or cut at the token limit)"
            total = len(_whole(rows, "malformed"))
            report.notes.append(f"{name}: {broken} of {total} conversations {what}; `malformed` alone counts them")
        if cut:
            report.notes.append(f"{name}: the encoder reads only the beginning of {cut} texts")
        hits, copies = sum(_whole(rows, "extracted")), sum(_whole(rows, "near_copy"))
        if not hits:
            report.notes.append(f"{name}: nothing is extracted, so no numbers are compared")
        elif copies:
            report.notes.append(f"{name}: vectors find {hits / copies:.2f} times what edits find")

    def _figures(self, report: Report, known: Known) -> dict[str, str]:
        chance = ["held_out_match"] if self.held_out else []
        reached = ["held_out_coverage"] if self.held_out else []
        axes = ("extracted", "near_copy", "verbatim", *chance, "coverage", "verbatim_coverage", *reached)
        similar, lines, total = {}, {}, self.amount * len(self.openings)
        for name in report.summary:
            own = [row for row in report.rows if row["engine"] == name]
            similar[name] = _whole(own, "similarity")
            firsts = [row["first"] for row in own if row["part"] == "row" and row["first"] is not None]
            found = np.searchsorted(np.sort(firsts), np.arange(total), "right")
            lines[name] = (np.arange(1, total + 1), found / len(known.ids))
        return {
            "what is found": intervals(report.summary, axes, label="share of conversations, or (coverage) of rows"),
            "the nearest training row": distribution(similar, label="best cosine", unit="share of conversations"),
            "coverage as more is drawn": curves(lines, x="conversations", y="training rows found"),
        }


def _whole(rows: Sequence[Mapping[str, Any]], axis: str) -> list[float]:
    return [float(row[axis]) for row in rows if row.get(axis) is not None]


def _spread(rows: Sequence[dict[str, Any]], axis: str, values: np.ndarray) -> None:
    whole = [row for row in rows if row.get("similarity") is not None]
    for row, value in zip(whole, values, strict=True):
        row[axis] = None if np.isnan(value) else float(value)
