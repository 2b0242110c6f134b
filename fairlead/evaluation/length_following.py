"""How far answers are as long as they were asked to be.

Sources: Bai et al. 2024, LongWriter (arXiv 2408.07055), whose length score it is; "Minimum Tuning to Unlock Long
Output" 2024 (arXiv 2410.10210).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np

from fairlead.engines.base import Completion, Engine, EngineSpec, FinishReason, Sampling
from fairlead.errors import UsageError
from fairlead.estimates import (
    Estimate,
    estimate_mean,
    estimate_mean_of_means,
    estimate_quantile,
    estimate_rate,
    per_prompt,
)
from fairlead.evaluation.base import Report
from fairlead.evaluation.ngrams import distinct, ngrams, words_of
from fairlead.evaluation.samples import GREEDY, draw, prompts_of, sample_rows
from fairlead.evaluation.writing import rate_writing
from fairlead.figures import distribution, intervals
from fairlead.messages import last_question
from fairlead.rewards.lengths import COUNTS, REQUESTS, Request, given_request, length_score

__all__ = ["LengthFollowing"]

_BANDED = "score"
_REASONS = {"none": "ask for no length", "several": "ask for several lengths", "zero": "ask for length 0"}


@dataclass(frozen=True)
class LengthFollowing:
    """The score of the length of every answer, 0 to 100, by how much was asked for.

    100 is the length asked for; the score falls evenly to 0 at four times as much, and to 0 at a third.
    """

    required: int | None = None
    """Length asked of every answer, in words; by default what the record or its prompt says."""
    column: str = "length"
    """Column of the records with the length asked for; where it is empty the prompt's last question is read."""
    parser: Literal["strict", "extended"] = "extended"
    """How it is read: as the published filter does ("500 words", no other English form), or however it is written."""
    count: Literal["published", "words"] = "published"
    """What is a word: Chinese characters and runs of ASCII letters, or `length_limit`'s words in any alphabet."""
    bands: tuple[int, ...] = (500, 2000, 4000)
    """Lengths asked for at which a new band begins, each with a score of its own, in words."""
    obeyed_from: float = 80.0
    """An answer obeys from this score on; 80 is 5/7 to 1.6 times the length."""
    judge: EngineSpec | None = None
    """Who rates how well the answers are written, by six aspects and whatever their length; adds `quality` and `both`.
    A model, a server as "URL#model", a decoding method, or an engine."""
    sampling: Sampling = GREEDY
    """How answers are drawn."""
    confidence: float = 0.95
    """Coverage of the intervals, between 0 and 1."""
    seed: int = 0
    """Randomness of the bootstrap."""

    example: ClassVar[Mapping[str, Any]] = {"required": 9, "bands": [5, 10]}

    def __post_init__(self) -> None:
        if self.required is not None and self.required < 1:
            raise UsageError(f"length_following.required is {self.required}", fix="use a number of words, from 1")
        if any(low >= high for low, high in pairwise((0, *self.bands))):
            raise UsageError(f"length_following.bands is {list(self.bands)}", fix="use rising numbers above 0")
        if not 0 < self.obeyed_from <= 100:
            raise UsageError(f"length_following.obeyed_from is {self.obeyed_from}", fix="use more than 0, at most 100")

    def __call__(self, engines: Mapping[str, Engine], records: Sequence[Any]) -> Report:
        """Measure every engine's answers to the records' prompts.

        Axes: `score` (0 to 100), the same per band (`score.below_500`, `score.500_to_2000`, `score.from_4000`), `obeys`
        (share that scores `obeyed_from` or more), `ratio_lower`, `ratio_median`, `ratio_upper` (quartiles of length
        over length asked for), `cut` (share that reached the token limit), `distinct_4` (share of different runs of
        four words: low is repetition). With a judge: `quality` (0 to 100: its scores from 1 to 5, less 1, times 25) and
        `both` (the mean of `score` and `quality`). Rows: id, engine, sample, required, words, ratio, and score, obeys,
        cut, distinct_4, quality. Records without exactly one length are left out and counted.

        Raises:
            DataError: no records, or a column that does not hold a length.
        """
        prompts = prompts_of(records)
        asked = [self._request(record) for record in records]
        report = Report({}, notes=self._notes(records, asked))
        drawn = draw(engines, prompts, self.sampling)
        quality = self._quality(records, asked, drawn, report)
        for name, answers in drawn.items():
            columns = self._columns(asked, answers) | quality.get(name, {})
            report.summary[name] = self._summary(asked, columns)
            report.rows += sample_rows(name, records, columns)
            short = int((np.isnan(columns["distinct_4"]) & ~np.isnan(columns["score"])).sum())
            if short:
                report.notes.append(f"{name}: {short} answers have fewer than four words, so no distinct_4")
        ratios = {name: [r["ratio"] for r in report.rows if r["engine"] == name] for name in report.summary}
        axes = [axis for axis in next(iter(report.summary.values())) if axis.split(".")[0] == _BANDED]
        report.figures = {
            "length score": intervals(report.summary, axes, label="length score, 0 to 100"),
            "length over length asked for": distribution(ratios, label="ratio", unit="share of answers"),
        }
        return report

    def _request(self, record: Any) -> Request:
        if self.required is not None:
            return Request(self.required)
        given = record.extra.get(self.column)
        if given is None:
            return REQUESTS[self.parser](last_question(record.prompt))
        return given_request(given, f"record {record.id}, column {self.column!r}")

    def _notes(self, records: Sequence[Any], asked: Sequence[Request]) -> list[str]:
        reasons = Counter(request.reason for request in asked if request.reason)
        notes = [f"{count} of {len(asked)} records {_REASONS[key]}, left out" for key, count in sorted(reasons.items())]
        if self.required is None:
            read = [last_question(record.prompt) for record in records if record.extra.get(self.column) is None]
            differing = sum(len({parse(text).length for parse in REQUESTS.values()}) > 1 for text in read)
            if differing:
                notes.append(f"the strict and the extended parser read {differing} of {len(read)} prompts differently")
        return notes

    def _quality(
        self,
        records: Sequence[Any],
        asked: Sequence[Request],
        drawn: Mapping[str, Sequence[Sequence[Completion]]],
        report: Report,
    ) -> dict[str, dict[str, np.ndarray]]:
        """Return the column `quality` [N, n] by engine; none without a judge, NaN for records without a length."""
        places = [i for i, request in enumerate(asked) if request.length is not None]
        if self.judge is None or not places:
            return {}
        answers = {name: [found[i] for i in places] for name, found in drawn.items()}
        rated, notes = rate_writing(self.judge, answers, [records[i] for i in places])
        report.notes += notes
        columns = {name: np.full((len(asked), values.shape[1]), np.nan) for name, values in rated.items()}
        for name, values in rated.items():
            columns[name][places] = values
        return {name: {"quality": values} for name, values in columns.items()}

    def _columns(self, asked: Sequence[Request], answers: Sequence[Sequence[Completion]]) -> dict[str, Any]:
        words = np.array([[float(COUNTS[self.count](answer.text)) for answer in group] for group in answers])
        required = np.array([[math.nan if r.length is None else float(r.length)] for r in asked]) + 0 * words
        kept = ~np.isnan(required)
        score = np.full(words.shape, np.nan)
        score[kept] = [length_score(x, y) for x, y in zip(required[kept], words[kept], strict=True)]
        fours = np.array([[_distinct_fours(answer.text) for answer in group] for group in answers])
        cut = np.array([[float(answer.finish_reason is FinishReason.LENGTH) for answer in group] for group in answers])
        return {
            "required": required,
            "words": words,
            "ratio": words / required,
            "score": score,
            "obeys": np.where(kept, score >= self.obeyed_from, np.nan),
            "cut": np.where(kept, cut, np.nan),
            "distinct_4": np.where(kept, fours, np.nan),
        }

    def _summary(self, asked: Sequence[Request], columns: Mapping[str, np.ndarray]) -> dict[str, Estimate]:
        options = {"confidence": self.confidence, "seed": self.seed}
        means: dict[str, Callable[..., Estimate]] = {
            "score": estimate_mean,
            "obeys": estimate_rate,
            "cut": estimate_rate,
            "distinct_4": estimate_mean,
        }
        summary = {axis: estimate(per_prompt(columns[axis]), **options) for axis, estimate in means.items()}
        for axis, share in (("ratio_lower", 0.25), ("ratio_median", 0.5), ("ratio_upper", 0.75)):
            summary[axis] = estimate_quantile(per_prompt(columns["ratio"]), share, **options)
        if "quality" in columns:
            parts = [per_prompt(columns[axis]) for axis in ("score", "quality")]
            summary["quality"] = estimate_mean(parts[1], **options)
            summary["both"] = estimate_mean_of_means(np.stack(parts, 1), **options)
        for title, low, high in _bands(self.bands):
            inside = np.array([r.length is not None and low <= r.length < high for r in asked])
            if inside.any():
                summary[f"{_BANDED}.{title}"] = estimate_mean(per_prompt(columns["score"][inside]), **options)
        return summary


def _bands(edges: Sequence[int]) -> list[tuple[str, float, float]]:
    """Return (title, least, less than) of every band; none where there are no edges."""
    if not edges:
        return []
    inner = [(f"{low}_to_{high}", float(low), float(high)) for low, high in pairwise(edges)]
    return [(f"below_{edges[0]}", 0.0, edges[0]), *inner, (f"from_{edges[-1]}", edges[-1], math.inf)]


def _distinct_fours(text: str) -> float:
    return distinct(list(ngrams(words_of(text), 4).values()))
