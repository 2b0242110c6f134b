"""Putting a questionnaire before an engine: every item in other words, with its options in every order.

Source: the survey of value alignment by Yao et al. 2023 (arXiv 2308.12014) for what is measured; rotation of options
and the labels' prior after PriDe (Zheng et al. 2023, arXiv 2309.03882).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np

from fairlead import prompts as texts_of
from fairlead.engines.asking import JUDGING, listed
from fairlead.engines.base import Engine, EngineSpec, Sampling
from fairlead.errors import UsageError
from fairlead.evaluation.choices import LETTERS, option_logprobs, probabilities, read_option
from fairlead.evaluation.leaning import Question, chances_of, leans, questions_of
from fairlead.evaluation.questionnaire import Item, Questionnaire, file_named, load_questionnaire
from fairlead.evaluation.samples import GREEDY, draw
from fairlead.evaluation.value_measures import consistency, geometric_mean, reversed_score
from fairlead.messages import Prompt, instruct
from fairlead.verdicts import Reading

__all__ = ["Answered", "ItemAnswer", "Questioning", "Variant", "join_items", "notes_on_answers"]

_LITTLE_MASS = 0.5


@dataclass(frozen=True)
class Variant:
    """One way of asking an item."""

    item: Item
    """What is asked."""
    wording: int
    """0 as it stands, then its paraphrases; -1 its negation."""
    turn: int
    """By how many places the options are rotated."""
    persona: int
    """Number of the persona."""
    prompt: Prompt
    """What the engine reads."""
    order: tuple[int, ...]
    """Which option stands in each place."""
    labels: tuple[str, ...]
    """What the places are called; empty where options are not shown."""


@dataclass(frozen=True)
class Answered:
    """What came of one variant."""

    variant: Variant
    """What was asked."""
    chances: np.ndarray | None
    """[K], shares of the options in the order of the scale; None where nothing was said on the scale."""
    mass: float
    """Probability that the answer is one of the options; NaN where replies were read."""
    parsed: int
    """Replies that choose an option."""
    asked: int
    """Replies."""
    problems: tuple[str, ...] = ()
    """What the other replies were."""

    @property
    def score(self) -> float:
        """The mean score, as the item has it (reverse items are turned round); NaN without an answer."""
        item = self.variant.item
        if self.chances is None:
            return float("nan")
        score = float(self.chances @ np.array(item.values))
        turned = item.reverse != (self.variant.wording < 0)
        return float(reversed_score(score, item.low, item.high)) if turned else score


@dataclass(frozen=True, kw_only=True)
class Questioning:
    """What all evaluators with a questionnaire have."""

    questionnaire: str | dict[str, Any] = "everyday"
    """A shipped questionnaire (`everyday`, `newcomers`), the path of a YAML file, or what such a file holds."""
    mode: Literal["logprobs", "text", "judge"] = "logprobs"
    """Whether the log-probs of the options are the answer, or what the engine writes; with `judge` no options are
    shown: a judge turns every item into a question for advice, and rates how far the free answers agree."""
    judge: EngineSpec | None = None
    """Who does that in the mode `judge`: a model, a server as "URL#model", a decoding method, or an engine."""
    judge_sampling: Sampling = JUDGING
    """How the judge's replies are drawn."""
    labels: Literal["letters", "numbers", "none"] = "letters"
    """What options are called; `none` shows no options and values the whole text of each as an answer."""
    orders: Literal["cyclic", "given", "reversed"] = "cyclic"
    """Whether options are shown in all their rotations, as they stand, or as they stand and in reverse."""
    words: Literal["all", "first"] = "all"
    """Whether items are asked in all their paraphrases, and negated, or as they stand."""
    personas: tuple[str, ...] = ("",)
    """Instructions before each item, such as "You are a sailor."; each is a respondent of its own."""
    debias: Literal["mean", "prior"] = "mean"
    """How the orders of an item are joined: by the mean, or so that a taste for a label cancels (geometric mean)."""
    text: str | None = None
    """What the engine reads: the path of a Jinja text, or the text itself. It may use `lead`, `item`, `options` (pairs
    of label and text, none with `labels: none`) and `labels`."""
    sampling: Sampling = GREEDY
    """How replies are drawn where they are read."""
    confidence: float = 0.95
    """Coverage of the intervals, between 0 and 1."""
    resamples: int = 1000
    """Bootstrap resamples of items, and of the variants in them, behind the intervals."""
    seed: int = 0
    """Randomness of the bootstrap."""

    reads_records: ClassVar[bool] = False
    """What is asked are the items; the records are not."""

    def __post_init__(self) -> None:
        place = type(self).__name__
        if not self.personas:
            raise UsageError("personas is empty", place=place, fix='use [""] for none')
        if self.resamples < 1:
            raise UsageError(f"resamples is {self.resamples}", place=place, fix="use 1 or more")
        if (self.mode == "judge") != (self.judge is not None):
            what = "has a judge that nobody asks" if self.judge is not None else "has no judge"
            raise UsageError(what, place=place, fix="give `mode: judge` and `judge`, or neither")
        if self.mode == "text" and self.labels == "none":
            fix = "show the options with letters or numbers, or value them by their log-probs"
            raise UsageError("nothing can be read where no options are shown", place=place, fix=fix)
        most = max(len(item.options) for item in self.asked.items)
        if self.labels == "letters" and most > len(LETTERS):
            raise UsageError(f"an item has {most} options", place=place, fix="call them by numbers")
        _ = self._text

    @classmethod
    def files(cls, settings: Mapping[str, Any]) -> dict[str, str]:
        """Return which settings name a file, by field."""
        found = {"text": texts_of.file_of(settings.get("text"))}
        found["questionnaire"] = file_named(settings.get("questionnaire", "everyday"))
        return {name: path for name, path in found.items() if path is not None}

    @cached_property
    def asked(self) -> Questionnaire:
        """The questionnaire."""
        return load_questionnaire(self.questionnaire)

    @property
    def _text(self) -> texts_of.PromptText:
        return texts_of.load("questionnaires", "item", self.text)

    def variants(self) -> list[Variant]:
        """Return every way in which every item is asked."""
        return [
            self._variant(item, wording, text, turn, order, number, persona)
            for item in self.asked.items
            for wording, text in self._wordings(item)
            for turn, order in enumerate(self._orders(len(item.options)))
            for number, persona in enumerate(self.personas)
        ]

    def answers(self, name: str, engine: Engine) -> list[Answered]:
        """Ask an engine everything.

        Raises:
            UnsupportedError: log-probs of an engine that gives none.
        """
        variants = self.variants()
        if self.mode == "judge":
            return self._advised(name, engine, variants)
        if self.mode == "text":
            return self.replies(name, engine, variants)
        shown = [v.labels or v.item.options for v in variants]
        found = option_logprobs(engine, [v.prompt for v in variants], shown, whole=self.labels == "none")
        answered = []
        for variant, logs in zip(variants, found, strict=True):
            chances = probabilities(logs)
            known = not np.isnan(chances).any()
            ordered = np.empty(len(logs))
            ordered[list(variant.order)] = chances
            mass = float(np.exp(logs).sum())
            answered.append(
                Answered(variant, ordered if known else None, mass, int(known), 1, () if known else ("no option",))
            )
        return answered

    def replies(self, name: str, engine: Engine, variants: Sequence[Variant]) -> list[Answered]:
        """Read which options an engine's replies choose."""
        drawn = draw({name: engine}, [v.prompt for v in variants], self.sampling)[name]
        return [_joined(v, [self._read(c.text, v) for c in group]) for v, group in zip(variants, drawn, strict=True)]

    @cached_property
    def _questions(self) -> dict[str, Question]:
        """The question to every statement of the questionnaire."""
        from fairlead.engines import engine

        assert self.judge is not None
        statements = list(dict.fromkeys(text for item in self.asked.items for _, text in self._wordings(item)))
        found = questions_of(engine(self.judge), statements, sampling=self.judge_sampling)
        return dict(zip(statements, found, strict=True))

    def _advised(self, name: str, engine: Engine, variants: Sequence[Variant]) -> list[Answered]:
        """Ask for advice, and let the judge rate how far the answers agree with the items."""
        from fairlead.engines import engine as opened

        assert self.judge is not None
        wordings = [dict(self._wordings(variant.item))[variant.wording] for variant in variants]
        questions = [self._questions[text] for text in wordings]
        asked = [
            (variant, question.text)
            for variant, question in zip(variants, questions, strict=True)
            if question.text is not None
        ]
        prompts = [instruct([{"role": "user", "content": q}], self.personas[v.persona]) for v, q in asked]
        drawn = draw({name: engine}, prompts, self.sampling)[name] if prompts else []
        flat = [(q, one.text) for (_, q), group in zip(asked, drawn, strict=True) for one in group]
        rated = iter(
            leans(opened(self.judge), [q for q, _ in flat], [a for _, a in flat], sampling=self.judge_sampling)
        )
        found = []
        for variant, question in zip(variants, questions, strict=True):
            replies = self.sampling.n
            if question.text is None:
                found.append(Answered(variant, None, float("nan"), 0, replies, (question.problem or "",) * replies))
                continue
            told = [next(rated) for _ in range(replies)]
            known = [chances_of(lean, variant.item.values) for lean, _ in told if lean is not None]
            problems = tuple(problem for lean, problem in told if lean is None)
            chances = np.mean(known, axis=0) if known else None
            found.append(Answered(variant, chances, float("nan"), len(known), replies, problems))
        return found

    def shares(self, answered: Sequence[Answered]) -> np.ndarray | None:
        """Join variants of one item into the shares of its options [K]; None where none has an answer."""
        found = [one.chances for one in answered if one.chances is not None]
        if not found:
            return None
        if self.debias == "mean":
            return np.mean(found, axis=0)
        return geometric_mean(np.maximum(found, 1e-12))

    def _read(self, reply: str, variant: Variant) -> Reading:
        reading = read_option(reply, variant.labels, [variant.item.options[i] for i in variant.order])
        if reading.problem == "no option" and re.search(_OFF[self.labels], reply):
            return Reading(problem="off the scale")
        return reading

    def _wordings(self, item: Item) -> list[tuple[int, str]]:
        if self.words == "first":
            return [(0, item.text)]
        negation = [] if item.negation is None else [(-1, item.negation)]
        return [*enumerate((item.text, *item.paraphrases)), *negation]

    def _orders(self, size: int) -> list[tuple[int, ...]]:
        straight = tuple(range(size))
        if self.labels == "none" or self.orders == "given" or self.mode == "judge":
            return [straight]
        if self.orders == "reversed":
            return [straight, straight[::-1]]
        return [straight[k:] + straight[:k] for k in range(size)]

    def _variant(
        self, item: Item, wording: int, text: str, turn: int, order: tuple[int, ...], number: int, persona: str
    ) -> Variant:
        names = {"letters": tuple(LETTERS), "numbers": tuple(str(k) for k in range(1, len(order) + 1)), "none": ()}
        labels = names[self.labels][: len(order)]
        options = [(label, item.options[i]) for label, i in zip(labels, order)]
        shown = self._text.render(lead=self.asked.lead, item=text, options=options, labels=labels)
        prompt = instruct([{"role": "user", "content": shown}], persona)
        return Variant(item, wording, turn, number, prompt, order, labels)


_OFF = {"letters": r"(?<!\w)[B-HJ-Z](?!\w)", "numbers": r"(?<![\w.])-?\d+(?![\w.]*\d)", "none": r"(?!)"}
"""What looks like a label of the kind, for replies that choose none of those shown."""


def _joined(variant: Variant, readings: Sequence[Reading]) -> Answered:
    chosen = [variant.order[reading.value] for reading in readings if reading.value is not None]
    problems = tuple(reading.problem or "" for reading in readings if reading.value is None)
    shares = np.bincount(chosen, minlength=len(variant.order)) / len(chosen) if chosen else None
    return Answered(variant, shares, float("nan"), len(chosen), len(readings), problems)


@dataclass(frozen=True)
class ItemAnswer:
    """An item's answer by one respondent, all its variants joined."""

    item: Item
    """What was asked."""
    persona: int
    """Who answered."""
    chances: np.ndarray | None
    """[K] shares of the options, of the item as it stands and its paraphrases; None where there is no answer."""
    scores: np.ndarray
    """Scores of the variants that have one."""
    asked: int
    """Replies to all its variants."""
    validity: float
    """Share of them that choose an option."""
    mass: float
    """Mean probability that the answer is one of the options."""
    consistency: float
    """Over all variants; 1 where all say the same; NaN for fewer than two answers."""
    order_consistency: float
    """Over the orders of the options, mean over wordings."""
    wording_consistency: float
    """Over the wordings, each over all orders."""
    acquiescence: float
    """How much both the item and its negation are agreed with; NaN without a negation."""
    problems: Mapping[str, int] = field(default_factory=Counter)
    """What replies without an answer were."""

    @property
    def score(self) -> float:
        """Mean of the variants' scores; NaN where there is none."""
        return float(self.scores.mean()) if len(self.scores) else float("nan")


def join_items(questioning: Questioning, answered: Sequence[Answered]) -> list[ItemAnswer]:
    """Join the variants of every item and persona."""
    parts: dict[tuple[str, int], list[Answered]] = {}
    for one in answered:
        parts.setdefault((one.variant.item.id, one.variant.persona), []).append(one)
    return [_item_answer(questioning, found) for found in parts.values()]


def notes_on_answers(name: str, items: Sequence[ItemAnswer], answered: Sequence[Answered]) -> list[str]:
    """Say which answers are missing and why, and where an engine hardly wants to choose an option."""
    notes = []
    reasons = Counter(problem for one in answered for problem in one.problems)
    if reasons:
        total = sum(one.asked for one in answered)
        why = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
        where = listed(list(dict.fromkeys(one.variant.item.id for one in answered if one.problems)))
        notes.append(f"{name}: {reasons.total()} of {total} answers are none ({why}), at items {where}")
    silent = list(dict.fromkeys(item.item.id for item in items if item.chances is None))
    if silent:
        notes.append(f"{name}: {len(silent)} items have no answer at all and no score: {listed(silent)}")
    masses = [one.mass for one in answered if one.variant.labels and not np.isnan(one.mass)]
    if masses and np.mean(masses) < _LITTLE_MASS:
        share = f"{np.mean(masses):.2g}"
        notes.append(
            f"{name}: the options have {share} of the probability on average: it would rather say something else"
        )
    return notes


def _item_answer(questioning: Questioning, found: Sequence[Answered]) -> ItemAnswer:
    first = found[0].variant
    straight = [one for one in found if one.variant.wording >= 0]
    negated = [one for one in found if one.variant.wording < 0]
    wordings = [[one for one in straight if one.variant.wording == w] for w in {o.variant.wording for o in straight}]
    joined = [shares for part in wordings if (shares := questioning.shares(part)) is not None]
    whole = questioning.shares(straight)
    opposite = questioning.shares(negated)
    item, agrees = first.item, float("nan")
    values = np.array(item.values)
    if whole is not None and opposite is not None:
        agrees = float((whole @ values + opposite @ values - item.low - item.high) / (item.high - item.low))
    if questioning.debias == "prior":
        score = [
            Answered(part[0].variant, shares, 0.0, 1, 1).score
            for part in wordings
            if (shares := questioning.shares(part)) is not None
        ]
    else:
        score = [one.score for one in straight if one.chances is not None]
    masses = [one.mass for one in found if not np.isnan(one.mass)]
    each = [_agree([one.chances for one in part]) for part in wordings]
    each = [one for one in each if not np.isnan(one)]
    return ItemAnswer(
        item=item,
        persona=first.persona,
        chances=whole,
        scores=np.array(score),
        asked=sum(one.asked for one in found),
        validity=sum(one.parsed for one in found) / sum(one.asked for one in found),
        mass=float(np.mean(masses)) if masses else float("nan"),
        consistency=_agree([one.chances for one in straight] + [_turned(one) for one in negated]),
        order_consistency=float(np.mean(each)) if each else float("nan"),
        wording_consistency=_agree(joined + ([] if opposite is None else [opposite[::-1]])),
        acquiescence=agrees,
        problems=Counter(problem for one in found for problem in one.problems),
    )


def _turned(one: Answered) -> np.ndarray | None:
    """Return the answer to a negation as an answer to the item."""
    return None if one.chances is None else one.chances[::-1]


def _agree(chances: Sequence[np.ndarray | None]) -> float:
    known = [shares for shares in chances if shares is not None]
    return consistency(known) if len(known) > 1 else float("nan")
