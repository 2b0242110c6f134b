"""How different an engine's answers are: to one prompt, and from prompt to prompt.

Source: Kirk et al. 2024, "Understanding the Effects of RLHF on LLM Generalisation and Diversity" (arXiv 2310.06452):
diversity per input and across inputs, by n-grams and by embeddings.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar

import numpy as np

from fairlead.engines.base import Engine, Sampling
from fairlead.errors import UsageError
from fairlead.estimates import Estimate, estimate_mean
from fairlead.evaluation.base import Report
from fairlead.evaluation.ngrams import (
    cosine_distances,
    distinct,
    expected_distinct,
    ngrams,
    self_bleu,
    word_vectors,
    words_of,
)
from fairlead.evaluation.samples import draw, prompts_of, texts
from fairlead.figures import distribution, intervals

__all__ = ["Diversity"]

_DRAWS = Sampling(temperature=1.0, n=8)


@dataclass(frozen=True)
class Diversity:
    """Distinct n-grams, self-BLEU and the spread of embeddings, among answers to one prompt and across prompts."""

    orders: tuple[int, ...] = (1, 2)
    """Lengths of the n-grams that are counted, in words."""
    amount: int = 500
    """N-grams per prompt-to-prompt count: so many are drawn (in expectation) from all first answers, so that engines
    with long and with short answers compare."""
    encoder: str | None = None
    """Sentence-embedding model (a folder or hub id; needs the extra `embed`) for the spread; without, word counts
    are the embedding."""
    sampling: Sampling = _DRAWS
    """How answers are drawn; several per prompt, at a temperature above 0. What is measured depends on it."""
    confidence: float = 0.95
    """Coverage of the intervals, between 0 and 1."""
    seed: int = 0
    """Randomness of the bootstrap."""

    example: ClassVar[Mapping[str, Any]] = {"sampling": {"n": 3, "max_tokens": 24}, "amount": 30}

    def __post_init__(self) -> None:
        if not self.orders or min(self.orders) < 1 or len(set(self.orders)) < len(self.orders):
            raise UsageError(f"diversity.orders is {list(self.orders)}", fix="use different numbers from 1, as [1, 2]")
        if self.amount < 1:
            raise UsageError(f"diversity.amount is {self.amount}", fix="use a number of n-grams, such as 500")
        if self.sampling.n > 1 and self.sampling.temperature == 0:
            fix = "set a temperature above 0, or n to 1 for diversity across prompts alone"
            raise UsageError("diversity.sampling is greedy, so all answers to a prompt are one", fix=fix)

    def __call__(self, engines: Mapping[str, Engine], records: Sequence[Any]) -> Report:
        """Measure every engine's answers.

        Axes among the answers to one prompt, means over prompts: `unique` (share of different answers), `distinct_N`
        (share of different n-grams), `self_bleu` (mean BLEU of an answer against the others: high is alike), `spread`
        (mean cosine distance of two answers). Across prompts, of the first answers: `across_distinct_N` (expected share
        of different n-grams among `amount`) and `across_spread`, with jackknife intervals. Rows: id, engine, answers,
        and the axes of one prompt.
        """
        prompts, report = prompts_of(records), Report({})
        embed = self._embedder()
        for name, answers in draw(engines, prompts, self.sampling).items():
            split = [[words_of(text) for text in group] for group in texts(answers)]
            rows = []
            for record, group, words in zip(records, texts(answers), split, strict=True):
                row = {"id": str(record.id), "engine": name, "answers": len(group)}
                rows.append(row | {k: _plain(v) for k, v in self._within(group, words, embed).items()})
            report.rows += rows
            report.summary[name] = self._summary(rows, texts(answers), split, embed)
            self._explain(name, split, report)
        within = ("unique", *(f"distinct_{n}" for n in self.orders), "self_bleu", "spread")
        across = (*(f"across_distinct_{n}" for n in self.orders), "across_spread")
        bleus = {name: [row["self_bleu"] for row in report.rows if row["engine"] == name] for name in report.summary}
        report.figures = {
            "answers to one prompt": intervals(
                report.summary, within, label="self BLEU: higher is more alike; others: more different"
            ),
            "from prompt to prompt": intervals(report.summary, across, label="higher is more different"),
            "self BLEU per prompt": distribution(bleus, label="self-BLEU", unit="share of prompts"),
        }
        return report

    def _embedder(self) -> Any:
        if self.encoder is None:
            return lambda texts, words: word_vectors(words)
        from fairlead import models

        encoder = models.load_embedder(self.encoder, "the evaluator diversity")

        def embed(texts: Sequence[str], words: Sequence[Sequence[str]]) -> np.ndarray:
            vectors = np.asarray(encoder.encode(list(texts), show_progress_bar=False), dtype=np.float64)
            return np.where(np.array([[bool(found)] for found in words]), vectors, 0.0)

        return embed

    def _within(self, group: Sequence[str], words: Sequence[Sequence[str]], embed: Any) -> dict[str, float]:
        """Return the axes of one prompt; NaN where there are not two answers to compare."""
        if len(group) < 2:
            return dict.fromkeys(("unique", *(f"distinct_{n}" for n in self.orders), "self_bleu", "spread"), math.nan)
        counts = {n: reduce(Counter.__add__, (ngrams(w, n) for w in words), Counter()) for n in self.orders}
        bleus = self_bleu(words)
        bleus = bleus[~np.isnan(bleus)]
        distances = cosine_distances(embed(group, words))
        return {
            "unique": len(set(group)) / len(group),
            **{f"distinct_{n}": distinct(list(found.values())) for n, found in counts.items()},
            "self_bleu": float(bleus.mean()) if len(bleus) > 1 else math.nan,
            "spread": float(distances.mean()) if len(distances) else math.nan,
        }

    def _summary(
        self,
        rows: Sequence[Mapping[str, Any]],
        answers: Sequence[Sequence[str]],
        split: Sequence[Sequence[Sequence[str]]],
        embed: Any,
    ) -> dict[str, Estimate]:
        options = {"confidence": self.confidence, "seed": self.seed}
        axes = [axis for axis in rows[0] if axis not in ("id", "engine", "answers")]
        summary = {axis: estimate_mean([_number(row[axis]) for row in rows], **options) for axis in axes}
        first = [words[0] for words in split]
        for n in self.orders:
            summary[f"across_distinct_{n}"] = self._across([ngrams(words, n) for words in first])
        mean = cosine_distances(embed([group[0] for group in answers], first))
        # The mean of all pairs is the mean of the jackknife's pseudo-values, 2 h - mean, of the rows' means h.
        summary["across_spread"] = estimate_mean(2 * mean - mean.mean() if len(mean) else [], **options)
        return summary

    def _across(self, counts: Sequence[Counter]) -> Estimate:
        """Estimate the expected share of different n-grams with a jackknife interval over prompts."""
        from scipy import stats

        total: Counter = reduce(Counter.__add__, counts, Counter())
        value = expected_distinct(list(total.values()), self.amount)
        n = len(counts)
        if math.isnan(value):
            return Estimate(math.nan, math.nan, math.nan, 0)
        left = np.array([expected_distinct(_without(total, own), self.amount) for own in counts])
        if n < 2 or np.isnan(left).any():
            return Estimate(value, math.nan, math.nan, n)
        error = math.sqrt((n - 1) / n * float(np.square(left - left.mean()).sum()))
        reach = float(stats.norm.ppf((1 + self.confidence) / 2)) * error
        return Estimate(value, max(0.0, value - reach), min(1.0, value + reach), n)

    def _explain(self, name: str, split: Sequence[Sequence[Sequence[str]]], report: Report) -> None:
        silent = sum(not words for group in split for words in group)
        if silent:
            report.notes.append(f"{name}: {silent} answers have no words; they have no self-BLEU and no distances")
        if self.sampling.n < 2:
            report.notes.append(f"{name}: one answer per prompt says nothing of the answers to one prompt")
        for n in self.orders:
            found = sum(max(0, len(group[0]) - n + 1) for group in split)
            if found < self.amount:
                what = f"{name}: all first answers have {found} {n}-grams, fewer than `amount` ({self.amount})"
                report.notes.append(f"{what}, so across_distinct_{n} is unknown")


def _without(total: Counter, own: Counter) -> list[int]:
    return [count - own.get(gram, 0) for gram, count in total.items() if count > own.get(gram, 0)]


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value


def _number(value: float | None) -> float:
    return math.nan if value is None else value
