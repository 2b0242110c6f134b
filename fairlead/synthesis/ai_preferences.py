"""Constitutional AI, second stage (Bai et al. 2022, arXiv 2212.08073): preferences of a model, with how sure it is.

A judge reads two answers and a principle. Nothing is drawn from it: the log-probs of the two labels give the
probability that the first answer is better, which the record carries for objectives that learn from soft labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from fairlead import prompts
from fairlead.engines.asking import frame, frame_prompt, key_for, plain_prompt
from fairlead.engines.base import Sampling
from fairlead.errors import DataError, UnknownNameError, UsageError
from fairlead.messages import Message, Prompt
from fairlead.synthesis.base import Draft, Row, Synthesizer
from fairlead.synthesis.constitution import Article, check_articles, drawn, read_constitution
from fairlead.verdicts import choice_points

if TYPE_CHECKING:
    from fairlead.engines.base import Engine

__all__ = ["AIPreferences", "Opinion", "clamped", "joined", "label_logprobs", "probability"]

_TEXTS = ("pair", "reasons", "each")
_EACH = "{{ request }} question: {{ question }} answer: {{ said }}"
_SAME = 1e-4


@dataclass(frozen=True)
class Opinion:
    """What the log-probs of one principle say."""

    straight: tuple[float, float]
    """Log-probs of the label of the answer shown first and of the one shown second, nats."""
    swapped: tuple[float, float] | None = None
    """The same with the answers in the other order; None where they were shown in one."""


def probability(first: float, second: float) -> float:
    """Return e^first / (e^first + e^second); NaN where both are -inf."""
    return 1 - choice_points(first, second)


def joined(opinions: Sequence[Opinion], least: float = -10.0) -> float | None:
    """Return the mean probability that the first answer is better; the two orders of a principle count half each.

    None where no principle has an opinion: one whose labels both have a log-prob below `least`, in any order, has none.
    """
    found = []
    for opinion in opinions:
        ways = [opinion.straight, *([opinion.swapped] if opinion.swapped is not None else [])]
        if any(max(way) < least for way in ways):
            continue
        straight = probability(*opinion.straight)
        found.append(straight if opinion.swapped is None else (straight + 1 - probability(*opinion.swapped)) / 2)
    return float(np.mean(found)) if found else None


def clamped(chance: float, limits: tuple[float, float] | None) -> float:
    """Return a probability held within limits."""
    return chance if limits is None else min(max(chance, limits[0]), limits[1])


def label_logprobs(
    judge: Engine, asked: Sequence[Prompt], labels: Sequence[Sequence[str]], before: Sequence[str] | None = None
) -> np.ndarray:
    """Return the log-prob of every label as the beginning of a reply: float64 [prompts, labels], nats.

    Args:
        judge: who is asked.
        asked: the prompts.
        labels: the ways of writing each label; those that are different tokens are added up.
        before: what each reply says before its label.

    Raises:
        UnsupportedError: an engine without log-probs.
    """
    before = [""] * len(asked) if before is None else before
    ways = [(k, way) for k, texts in enumerate(labels) for way in texts]
    pairs = [(prompt, said + way) for prompt, said in zip(asked, before, strict=True) for _, way in ways]
    rows = judge.logprobs([prompt for prompt, _ in pairs], [text for _, text in pairs])
    found = np.empty((len(asked), len(labels)))
    for i in range(len(asked)):
        own = [np.asarray(row, dtype=np.float64)[:-1] for row in rows[i * len(ways) : (i + 1) * len(ways)]]
        skip = _common(own) if before[i] else 0
        for k in range(len(labels)):
            mine = [row[skip:] for row, (of, _) in zip(own, ways, strict=True) if of == k]
            different = [row for n, row in enumerate(mine) if not any(_equal(row, other) for other in mine[:n])]
            found[i, k] = np.logaddexp.reduce([float(row.sum()) for row in different])
    return found


def _common(rows: Sequence[np.ndarray]) -> int:
    """Return how many tokens all rows begin with, by their log-probs; at least one of each is left."""
    width = min(len(row) for row in rows) - 1
    same = [all(abs(row[t] - rows[0][t]) < _SAME for row in rows) for t in range(width)]
    return same.index(False) if False in same else max(width, 0)


def _equal(one: np.ndarray, other: np.ndarray) -> bool:
    return len(one) == len(other) and bool(np.allclose(one, other, atol=_SAME))


@dataclass(frozen=True)
class AIPreferences(Synthesizer):
    """Preference pairs with the probability that a judge gives to the chosen answer: `chosen_probability`."""

    answers: Literal["drawn", "given"] = "drawn"
    """Whether the role `model` answers every prompt twice, or the seeds are pairs, whose order does not matter."""
    judging: Literal["pair", "each"] = "pair"
    """`pair`: the judge sees both answers as (A) and (B); `each`: one at a time, and the log-probs of `approvals` take
    the place of the labels'."""
    principles: str | tuple[Article, ...] | None = None
    """The constitution: a YAML file, or the list itself; by default the eight principles that are shipped, which
    compare two answers."""
    principles_per_pair: int = 1
    """Principles that are drawn for a pair, whose probabilities are averaged."""
    swap: bool = True
    """Whether the judge sees both orders; their mean is free of a liking for one place."""
    reasons: bool = False
    """Whether the judge writes down its reasons first; the labels then come behind them and `lead`."""
    lead: str = "\n\nSo the better answer is "
    """What stands between reasons and label."""
    labels: tuple[tuple[str, ...], tuple[str, ...]] = (("A", " A", "(A"), ("B", " B", "(B"))
    """Ways of writing the label of the answer that is shown first, and of the other one."""
    approvals: tuple[str, ...] = ("yes", "Yes")
    """What a judge who sees one answer says where it is good."""
    clamp: tuple[float, float] | None = None
    """Limits of the probability; the paper holds it within 0.4 and 0.6 where reasons come first."""
    least_certainty: float = 0.5
    """Pairs whose chosen answer has a smaller probability are left out, before `clamp`; in [0.5, 1)."""
    least_logprob: float = -10.0
    """Where both labels have a smaller log-prob the judge did not follow the form, and the pair is left out."""
    texts: dict[str, str] = field(default_factory=dict)
    """What the judge reads in place of the shipped texts: `pair` and `reasons` may use `request` (the principle's),
    `conversation`, `answer_a`, `answer_b` (in marks that bear `key`) and `key`; `each` may use `request`, `question`
    and `said`."""
    reasoning: Sampling = Sampling(temperature=0.0, max_tokens=512)
    """How reasons are drawn."""
    sampling: Sampling = Sampling(max_tokens=1024)
    """How the two answers are drawn."""

    example: ClassVar[Mapping[str, Any]] = {
        "judging": "each",
        "principles": [{"title": "quality", "judge": "judge this."}],
        "approvals": ["the answer is good.", "the answer is safe."],
        "sampling": {"max_tokens": 24},
    }
    makes: ClassVar[str] = "preference"
    rows_per_seed: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not 0.5 <= self.least_certainty < 1:
            raise UsageError(f"ai_preferences.least_certainty is {self.least_certainty}", fix="use a share in [0.5, 1)")
        if self.clamp is not None and not 0 <= self.clamp[0] <= 0.5 <= self.clamp[1] <= 1:
            raise UsageError(f"ai_preferences.clamp is {self.clamp}", fix="use limits on both sides of 0.5: [0.4, 0.6]")
        if not 1 <= self.principles_per_pair <= len(self.articles):
            what = f"ai_preferences.principles_per_pair is {self.principles_per_pair}"
            raise UsageError(what, fix=f"use 1 to {len(self.articles)}, the number of principles")
        if self.judging == "each" and (self.reasons or not isinstance(self.principles, str | tuple)):
            what = "ai_preferences.judging is each" + (
                " with reasons" if self.reasons else " with the shipped principles"
            )
            raise UsageError(what, fix="give principles that ask about one answer, and no reasons")
        if not self.approvals or not all(self.labels):
            raise UsageError("ai_preferences has a label without a way of writing it", fix="give one text or more")
        if self.sampling.n != 1 or self.reasoning.n != 1:
            raise UsageError("ai_preferences.sampling.n is set", fix="leave it out: two answers are compared")
        if self.answers == "drawn" and self.sampling.temperature == 0:
            raise UsageError(
                "ai_preferences.sampling.temperature is 0", fix="greedy answers are all the same: raise it"
            )
        for name in self.texts:
            if name not in _TEXTS:
                raise UnknownNameError("text", name, _TEXTS, place="ai_preferences.texts")
        check_articles(self.articles, ["judge"], "ai_preferences")
        _ = self.shown

    @property
    def engines(self) -> Mapping[str, str]:
        """The judge, and who answers where answers are drawn."""
        drawing = {"model": "answers every prompt twice"} if self.answers == "drawn" else {}
        return {**drawing, "judge": "says by its log-probs which answer is better"}

    @property
    def reads(self) -> str:
        """Prompts, or pairs."""
        return "prompt" if self.answers == "drawn" else "preference"

    @cached_property
    def articles(self) -> tuple[Article, ...]:
        """The constitution."""
        own = self.principles
        return read_constitution(own) if own is None or isinstance(own, str) else own

    @cached_property
    def shown(self) -> dict[str, prompts.PromptText]:
        """Name -> what the judge reads."""
        own = {"each": _EACH, **self.texts}
        return {name: prompts.load("constitutional", name, own.get(name)) for name in _TEXTS}

    def draft(self, engines: Mapping[str, Engine], seeds: Sequence[Any]) -> Iterator[Draft]:
        """Answer, where answers are drawn, and read the judge's log-probs pair by pair.

        A log-prob may differ in its last digits with what else is read at once, and a label must not.
        """
        pairs = self._answered(engines, seeds)
        articles = [drawn(self.articles, self.principles_per_pair, self.sampling.seed, seed.id) for seed in seeds]
        asked = [
            (i, article)
            for i, (one, other) in enumerate(pairs)
            if one.strip() and other.strip() and one.split() != other.split()
            for article in articles[i]
        ]
        judged = self._each if self.judging == "each" else self._pairs
        opinions: list[list[dict[str, Any]]] = [[] for _ in seeds]
        found = judged(engines["judge"], [(seeds[i].prompt, pairs[i], article) for i, article in asked])
        for (i, article), told in zip(asked, found, strict=True):
            opinions[i].append({"principle": article.title, **told})
        for seed, (one, other), own in zip(seeds, pairs, opinions, strict=True):
            prompt = seed.prompt if isinstance(seed.prompt, str) else [dict(turn) for turn in seed.prompt]
            yield Draft(seed.id, {"prompt": prompt, "answers": [one, other], "opinions": own})

    def _answered(self, engines: Mapping[str, Engine], seeds: Sequence[Any]) -> list[tuple[str, str]]:
        if self.answers == "given":
            return [(_text(seed, seed.chosen), _text(seed, seed.rejected)) for seed in seeds]
        found = engines["model"].generate([seed.prompt for seed in seeds], replace(self.sampling, n=2))
        return [(row[0].text.strip(), row[1].text.strip()) for row in found]

    def _each(self, judge: Engine, cases: Sequence[tuple[Prompt, tuple[str, str], Article]]) -> list[dict[str, Any]]:
        rows = []
        for prompt, pair, article in cases:
            slots = {"request": article.judge, "question": plain_prompt(prompt)}
            asked = [_user(self.shown["each"].render(**slots, said=said)) for said in pair]
            found = label_logprobs(judge, asked, [self.approvals])[:, 0]
            rows.append({"straight": [float(value) for value in found], "swapped": None})
        return rows

    def _pairs(self, judge: Engine, cases: Sequence[tuple[Prompt, tuple[str, str], Article]]) -> list[dict[str, Any]]:
        ways = 2 if self.swap else 1
        asked: list[Prompt] = []
        for prompt, pair, article in cases:
            asked += [self._shown_pair(prompt, own, article) for own in (pair, pair[::-1])[:ways]]
        before, thoughts = None, [None] * len(asked)
        if self.reasons:
            thoughts = [row[0].text.strip() for row in judge.generate(asked, self.reasoning)]
            before = [text + self.lead for text in thoughts]
        rows = []
        for start in range(0, len(asked), ways):
            own = slice(start, start + ways)
            found = label_logprobs(judge, asked[own], self.labels, None if before is None else before[own])
            told = [[float(value) for value in way] for way in found]
            row: dict[str, Any] = {"straight": told[0], "swapped": told[1] if self.swap else None}
            rows.append(row | ({"reasons": thoughts[own]} if self.reasons else {}))
        return rows

    def _shown_pair(self, prompt: Prompt, pair: Sequence[str], article: Article) -> list[Message]:
        key = key_for(prompt, *pair)
        answers = {f"answer_{k.lower()}": frame(f"answer-{k}", said, key) for k, said in zip("AB", pair, strict=True)}
        text = self.shown["reasons" if self.reasons else "pair"]
        return _user(text.render(request=article.judge, conversation=frame_prompt(prompt, key), key=key, **answers))

    def finish(self, drafts: Sequence[Draft], counts: Counter[str]) -> Iterator[Row]:
        """Turn log-probs into pairs, the likelier answer chosen; of two that are equally likely the first."""
        for draft in drafts:
            own, (one, other) = draft.found["opinions"], draft.found["answers"]
            if not own:
                counts["dropped_blank_or_equal"] += 1
                continue
            opinions = [_opinion(told) for told in own]
            chance = joined(opinions, self.least_logprob)
            if chance is None:
                counts["dropped_without_an_opinion"] += 1
                continue
            sure = max(chance, 1 - chance)
            if sure < self.least_certainty:
                counts["dropped_uncertain"] += 1
                continue
            straight = [probability(*opinion.straight) > 0.5 for opinion in opinions if opinion.swapped is not None]
            swapped = [probability(*opinion.swapped) > 0.5 for opinion in opinions if opinion.swapped is not None]
            counts["orders_disagree"] += sum(a == b for a, b in zip(straight, swapped, strict=True))
            better, worse = (one, other) if chance >= 0.5 else (other, one)
            yield {
                "parent": draft.parent,
                "prompt": draft.found["prompt"],
                "chosen": better if isinstance(draft.found["prompt"], str) else _said(better),
                "rejected": worse if isinstance(draft.found["prompt"], str) else _said(worse),
                "chosen_probability": clamped(sure, self.clamp),
                "opinions": own,
            }


def _opinion(told: Mapping[str, Any]) -> Opinion:
    straight, swapped = told["straight"], told["swapped"]
    return Opinion((straight[0], straight[1]), None if swapped is None else (swapped[0], swapped[1]))


def _text(record: Any, answer: Any) -> str:
    if isinstance(answer, str):
        return answer
    if [turn["role"] for turn in answer] == ["assistant"]:
        return answer[0]["content"]
    raise DataError("an answer is several turns", place=f"record {record.id}", fix="give each answer as one turn")


def _user(text: str) -> list[Message]:
    return [{"role": "user", "content": text}]


def _said(text: str) -> list[Message]:
    return [{"role": "assistant", "content": text}]
