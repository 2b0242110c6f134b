"""How much an engine's own draws differ in meaning, and whether that tells when its answer is wrong.

Source: semantic entropy (Kuhn et al. 2023, arXiv 2302.09664).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, ClassVar

import numpy as np

from fairlead import catalog
from fairlead.engines.asking import JUDGING, Case, ask, notes_on
from fairlead.engines.base import Engine, EngineSpec, Sampling
from fairlead.errors import UsageError
from fairlead.estimates import Estimate, estimate_mean, estimate_rate
from fairlead.evaluation.base import Report
from fairlead.evaluation.calibration import (
    brier_scores,
    estimate_calibration_error,
    meaning_entropy,
    ranking_quality,
    risk_coverage,
)
from fairlead.evaluation.pairs import framed
from fairlead.evaluation.samples import GREEDY, draw, prompts_of, sample_rows, texts, value
from fairlead.figures import curves, intervals
from fairlead.messages import Prompt
from fairlead.prompts import load
from fairlead.rewards.base import RewardSpec
from fairlead.verdicts import read_class

__all__ = ["SemanticEntropy", "meaning_of"]

_RESAMPLES = 500
_SAME = ("same", "different")


def meaning_of(text: str, pattern: str | None = None) -> str:
    """Return what stands for an answer's meaning: its words in lower case, or what the pattern finds last in it.

    A group of the pattern, where it has one, else the whole match; where it finds nothing, all words.
    """
    low = text.lower()
    found = [] if pattern is None else list(re.finditer(pattern, low))
    if found:
        last = found[-1]
        return (last.group(1) if last.re.groups else last.group()) or ""
    return " ".join(re.findall(r"\w+", low))


@dataclass(frozen=True, kw_only=True)
class SemanticEntropy:
    """The entropy of an engine's draws over their meanings, and what it tells of the answer that the engine gives."""

    draws: int = 10
    """Draws per prompt."""
    draw_sampling: Sampling = Sampling(temperature=1.0)
    """How they are drawn."""
    pattern: str | None = None
    """A regular expression for lower-case text; what it finds last in an answer is its meaning. Without it, and without
    a judge, answers of the same words mean the same."""
    judge: EngineSpec | None = None
    """Who says whether two answers mean the same: a model, a server, a decoding method, or an engine. Each draw is
    compared with the first of every meaning so far."""
    retries: int = 2
    """How often the judge is asked again where its reply holds no verdict."""
    judge_sampling: Sampling = JUDGING
    """How the judge's replies are drawn."""
    truth: RewardSpec = None
    """A reward that tells whether the engine's answer is right: a catalog name, or {name, fields...}."""
    right_from: float = 0.5
    """An answer is right when the reward is at least this."""
    sampling: Sampling = GREEDY
    """How the engine's answer is drawn; of several the first counts."""
    confidence: float = 0.95
    """Coverage of the intervals, between 0 and 1."""
    seed: int = 0
    """Randomness of the bootstrap."""

    example: ClassVar[Mapping[str, Any]] = {
        "draws": 4,
        "draw_sampling": {"temperature": 1.0, "max_tokens": 3},
        "truth": {"name": "harbor", "axis": "total"},
    }

    def __post_init__(self) -> None:
        if self.draws < 2:
            raise UsageError(f"semantic_entropy.draws is {self.draws}", fix="use 2 or more, such as 10")
        if self.draw_sampling.temperature == 0 or self.draw_sampling.n != 1:
            fix = "give draw_sampling a temperature above 0, such as 1, and set `draws`"
            raise UsageError("all draws would be the same, or more than draws", place="semantic_entropy", fix=fix)
        if self.pattern is not None and self.judge is not None:
            fix = "leave one of them out"
            raise UsageError("there are a pattern and a judge", place="semantic_entropy", fix=fix)
        try:
            re.compile(self.pattern or "")
        except re.error as error:
            what = f"pattern {self.pattern!r}: {error}"
            raise UsageError(what, place="semantic_entropy", fix="mend the expression") from error
        if self.truth is not None:
            catalog.from_spec("reward", self.truth)

    @cached_property
    def _drawn(self) -> Sampling:
        return replace(self.draw_sampling, n=self.draws)

    def __call__(self, engines: Mapping[str, Engine], records: Sequence[Any]) -> Report:
        """Let every engine answer the records' prompts, once as it does and several times at random.

        Axes: `entropy` (of the draws over their meanings, nats), `meanings` (how many there are), `agreement` (share of
        the draws that mean what the answer means). With a truth `accuracy`; `auroc`, the chance that the entropy of a
        wrong answer is above that of a right one (.5: it tells nothing); `surest_half`, the accuracy of the half with
        the least entropy; `brier` and `ece` of the agreement as the chance to be right. Rows: id, engine, sample (0),
        the answer, these of a prompt.
        """
        prompts, report = prompts_of(records), Report({})
        lines: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        answers = draw(engines, prompts, self.sampling)
        for name, engine in engines.items():
            said = [group[0] for group in texts(answers[name])]
            drawn = texts(draw({name: engine}, prompts, self._drawn)[name])
            groups = self._meanings(name, records, prompts, [[s, *d] for s, d in zip(said, drawn)], report)
            columns: dict[str, np.ndarray] = {
                "entropy": np.array([meaning_entropy(group[1:]) for group in groups]),
                "meanings": np.array([float(len(set(group[1:]))) for group in groups]),
                "agreement": np.array([group[1:].count(group[0]) / self.draws for group in groups]),
            }
            options = {"confidence": self.confidence, "seed": self.seed}
            report.summary[name] = {axis: estimate_mean(found, **options) for axis, found in columns.items()}
            if self.truth is not None:
                worth = value(catalog.from_spec("reward", self.truth), prompts, [[one] for one in said])[:, 0]
                right = np.where(np.isnan(worth), np.nan, worth >= self.right_from)
                columns |= {"accuracy": right, "brier": np.full(len(right), np.nan)}
                kept = ~np.isnan(right)
                columns["brier"][kept] = brier_scores(columns["agreement"][kept], right[kept])
                report.summary[name] |= self._told(columns, kept)
                if kept.any():
                    lines[name] = risk_coverage(-columns["entropy"][kept], right[kept])
                if not kept.all():
                    report.notes.append(f"{name}: the truth has no value for {int((~kept).sum())} answers")
            shown = {axis: found[:, None] for axis, found in columns.items()}
            report.rows += sample_rows(name, records, {"answer": [[one] for one in said], **shown})
        report.figures = self._figures(report, lines)
        return report

    def _told(self, columns: Mapping[str, np.ndarray], kept: np.ndarray) -> dict[str, Estimate]:
        """Return what the entropy tells of the answers that are known to be right or wrong."""
        right, entropy, agreement = (columns[k][kept] for k in ("accuracy", "entropy", "agreement"))
        options = {"confidence": self.confidence, "seed": self.seed}
        return {
            "accuracy": estimate_rate(right, **options),
            "auroc": self._resampled(lambda e, r: ranking_quality(-e, r), entropy, right),
            "surest_half": self._resampled(_surest_half, entropy, right),
            "brier": estimate_mean(columns["brier"][kept], **options),
            "ece": estimate_calibration_error(agreement, right, **options),
        }

    def _resampled(
        self, statistic: Callable[[np.ndarray, np.ndarray], float], one: np.ndarray, other: np.ndarray
    ) -> Estimate:
        """Estimate a statistic of two columns [N]; resamples in which it is not known are left out."""
        n, found = len(one), statistic(one, other) if len(one) else math.nan
        if math.isnan(found):
            return Estimate(math.nan, math.nan, math.nan, 0)
        rng = np.random.default_rng(self.seed)
        places = [rng.integers(n, size=n) for _ in range(_RESAMPLES)]
        drawn = np.array([statistic(one[some], other[some]) for some in places])
        drawn = drawn[~np.isnan(drawn)]
        if n < 2 or len(drawn) < 2:
            return Estimate(found, math.nan, math.nan, n)
        low, high = np.quantile(drawn, [(1 - self.confidence) / 2, (1 + self.confidence) / 2])
        return Estimate(found, min(float(low), found), max(float(high), found), n)

    def _meanings(
        self,
        name: str,
        records: Sequence[Any],
        prompts: Sequence[Prompt],
        answers: Sequence[Sequence[str]],
        report: Report,
    ) -> list[list[str]]:
        """Return what stands for the meaning of answers [N][n]."""
        plain = [[meaning_of(answer, self.pattern) for answer in group] for group in answers]
        if self.judge is None:
            return plain
        ids = [str(record.id) for record in records]
        return self._judged(name, ids, prompts, answers, plain, report)

    def _judged(
        self,
        name: str,
        ids: Sequence[str],
        prompts: Sequence[Prompt],
        answers: Sequence[Sequence[str]],
        plain: Sequence[Sequence[str]],
        report: Report,
    ) -> list[list[str]]:
        """Join equal words to meanings by a judge; all prompts at once, one comparison each at a time."""
        from fairlead.engines import engine

        judge, told, verdicts, asked = engine(self.judge), [], [], []  # type: ignore[arg-type]
        wordings = [dict(zip(words[::-1], group[::-1])) for words, group in zip(plain, answers, strict=True)]
        clusters: list[dict[str, str]] = [{} for _ in ids]
        waiting = [[(word, list[str]()) for word in dict.fromkeys(words)] for words in plain]
        while True:
            for i, queue in enumerate(waiting):
                while queue and all(first in queue[0][1] for first in set(clusters[i].values())):
                    word, _ = queue.pop(0)
                    clusters[i][word] = word
            open_ = [i for i, queue in enumerate(waiting) if queue]
            if not open_:
                break
            firsts = [next(f for f in dict.fromkeys(clusters[i].values()) if f not in waiting[i][0][1]) for i in open_]
            cases = [
                self._case(ids[i], prompts[i], wordings[i][first], wordings[i][waiting[i][0][0]])
                for i, first in zip(open_, firsts, strict=True)
            ]
            told = ask(judge, cases, self.judge_sampling, retries=self.retries)
            verdicts += told
            asked += [case.id for case in cases]
            for i, first, verdict in zip(open_, firsts, told, strict=True):
                word, seen = waiting[i][0]
                if verdict.value == "same":
                    clusters[i][word] = first
                    waiting[i].pop(0)
                else:
                    seen.append(first)
        report.notes += notes_on(f"{name}, same meaning", asked, verdicts)
        return [[clusters[i][word] for word in words] for i, words in enumerate(plain)]

    def _case(self, name: str, prompt: Prompt, a: str, b: str) -> Case:
        slots = framed(prompt, a, b)
        shown: Prompt = [{"role": "user", "content": load("judging", "same").render(**slots)}]
        return Case(name, shown, partial(read_class, classes=_SAME, key=slots["key"], answers=(a, b)))

    def _figures(self, report: Report, lines: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, str]:
        order = list(report.summary)
        figures = {"entropy of meanings": intervals(report.summary, ["entropy"], label="nats", order=order)}
        if lines:
            drawn = {name: (100 * coverage, 100 * risk) for name, (coverage, risk) in lines.items()}
            figures["answering the surest"] = curves(drawn, x="answered, %", y="wrong among them, %", order=order)
        return figures


def _surest_half(entropy: np.ndarray, right: np.ndarray) -> float:
    """Return the accuracy of the half with the least entropy; equal entropies are as good as their mean."""
    _, risk = risk_coverage(-entropy, right)
    return float(1 - risk[(len(risk) + 1) // 2 - 1])
