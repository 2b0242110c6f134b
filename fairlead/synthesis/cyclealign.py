"""CycleAlign (Hong et al. 2023, arXiv 2310.16271): a student's own answers in the order of a judge that learns too.

One round: the student answers each prompt several times, a judge that need only write text orders the answers, and the
student's own order, by mean log-prob, is put beside it. Training on the judge's order moves the student; answers on
which both agree are shown to the judge, as demonstrations, in the next round.
"""

from __future__ import annotations

import random
import string
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fairlead import catalog
from fairlead import prompts as texts
from fairlead.engines.asking import Case, ask, frame, frame_prompt, key_for
from fairlead.engines.base import FinishReason, Sampling
from fairlead.errors import DataError, UsageError
from fairlead.rewards.base import RewardSpec
from fairlead.rewards.overlap import rouge_l
from fairlead.synthesis.base import Draft, Row, Synthesizer
from fairlead.synthesis.demonstrations import Demonstration, Pool, clipped, plain_answer, read_demonstrations, shipped
from fairlead.synthesis.orders import Order, by_chance, common, order_of, ranks, read_order

if TYPE_CHECKING:
    from fairlead.engines.base import Engine

__all__ = ["CRITERIA", "CycleAlign"]

CRITERIA = {
    "overall": "it does what was asked, it is true or says that it does not know, and it helps nobody to do harm",
    "helpful": "it does what was asked, fully and clearly, and is true",
    "harmless": "it helps nobody to do harm, demeans nobody, and refuses such requests kindly and with a reason",
    "honest": "all that it says is true, it claims no more than it can know, and it says plainly what it does not know",
}
"""Axis -> what makes an answer better."""


@dataclass
class _Case:
    """The answers to one prompt on their way to an order."""

    seed: Any
    answers: list[str]
    cut: int
    order: Order | None = None
    error: str | None = None
    failed: bool = False
    said: list[str] = field(default_factory=list)
    values: list[float] | None = None


@dataclass(frozen=True)
class CycleAlign(Synthesizer):
    """A student's answers to each prompt in a judge's order, with how far the student's own order agrees."""

    reward: RewardSpec | None = None
    """A reward that orders the answers in the place of the role `judge`; it learns from no demonstrations."""
    candidates: int = 4
    """Answers of the student per prompt, at most 26."""
    temperatures: tuple[float, ...] = (0.7, 1.0)
    """Temperatures of these answers, in turn; in place of the sampling's own."""
    max_overlap: float = 1.0
    """An answer whose ROUGE-L F with an earlier one of its prompt is above this is left out; 1 leaves out equal ones
    alone."""
    answer: str | None = None
    """Column of the seeds with an answer that is ranked beside the student's own."""
    axis: str = "overall"
    """What is judged: overall, helpful, harmless, honest, or a name of your own with a `criterion`. Demonstrations of
    another axis are refused."""
    criterion: str | None = None
    """What makes an answer better; ends the sentence "What makes an answer better:". None for the axis's own."""
    static: str | None = None
    """Ranking records that the judge is always shown: a data source; "" for none, None for the two that are shipped."""
    demonstrations: str | None = None
    """What the round before made ("@ranked"), of which the judge is shown the most recent agreements; None at first."""
    shown: int = 3
    """How many of them."""
    min_agreement: int = 3
    """Answers on which both orders agree that make an agreement worth showing; for four answers chance alone gives
    2.42."""
    answer_characters: int = 600
    """Longest answer in a demonstration; the rest is cut at the end of a sentence and marked."""
    demonstration_characters: int = 12000
    """Longest demonstrations in all; the oldest of the round before are left out first, static ones never."""
    text: str | None = None
    """What the judge reads: the path of a Jinja text, or the text itself; may use `criterion`, `demonstrations` (each
    with `conversation`, `answers`, `order`), `conversation`, `answers`, `letters`, `key` and `again`."""
    retries: int = 1
    """How often an order that cannot be read is asked for again, under other letters and with a reminder."""
    judging: Sampling = Sampling(max_tokens=256, temperature=0.0)
    """How orders are drawn."""
    sampling: Sampling = Sampling(max_tokens=256, top_p=0.95)
    """How answers are drawn."""

    example: ClassVar[Mapping[str, Any]] = {
        "reward": "harbor",
        "temperatures": [1.0],
        "sampling": {"max_tokens": 24},
    }
    reads: ClassVar[str] = "prompt"
    makes: ClassVar[str] = "ranking"
    rows_per_seed: ClassVar[int] = 1
    sources: ClassVar[tuple[str, ...]] = ("static", "demonstrations", "text")

    def __post_init__(self) -> None:
        most = len(string.ascii_uppercase) - (self.answer is not None)
        if not 2 <= self.candidates <= most:
            raise UsageError(f"cyclealign.candidates is {self.candidates}", fix=f"use 2 to {most}")
        least = (("shown", 0), ("min_agreement", 2), ("answer_characters", 1), ("demonstration_characters", 0),
                 ("retries", 0))  # fmt: skip
        for name, floor in least:
            if getattr(self, name) < floor:
                raise UsageError(f"cyclealign.{name} is {getattr(self, name)}", fix=f"use a value >= {floor}")
        if not 0 < self.max_overlap <= 1:
            raise UsageError(f"cyclealign.max_overlap is {self.max_overlap}", fix="use a share above 0, at most 1")
        if not self.temperatures or min(self.temperatures) <= 0:
            fix = "give one or more above 0: greedy answers are all the same"
            raise UsageError(f"cyclealign.temperatures is {self.temperatures}", fix=fix)
        if self.sampling.n != 1 or self.judging.n != 1:
            fix = "say how many answers in cyclealign.candidates; a judge is asked once"
            raise UsageError("cyclealign.sampling.n or cyclealign.judging.n is set", fix=fix)
        if self.criterion is None and self.axis not in CRITERIA:
            fix = f"give a criterion, or one of {', '.join(CRITERIA)}"
            raise UsageError(f"cyclealign.axis {self.axis!r} has no criterion of its own", fix=fix)
        if self.reward is None:
            _ = self.shown_text
            return
        for name in ("static", "demonstrations", "text", "criterion"):
            if getattr(self, name) is not None:
                fix = "leave it out: a reward reads none"
                raise UsageError(f"cyclealign.{name} goes with a judge, not with a reward", fix=fix)
        catalog.from_spec("reward", self.reward)

    @property
    def engines(self) -> Mapping[str, str]:
        """The student, and the judge where no reward is one."""
        roles = {"student": "answers, and orders its own answers by their log-probs"}
        return roles if self.reward is not None else roles | {"judge": "orders the answers by letters"}

    @cached_property
    def shown_text(self) -> texts.PromptText:
        """The text that the judge reads."""
        return texts.load("cyclealign", "rank", self.text)

    def pool(self) -> Pool:
        """Return the demonstrations, the latest of the round before last.

        Raises:
            DataError: records that are no demonstrations, or were ranked for another axis.
        """
        static = shipped() if self.static is None else self.static
        known = [] if static == "" else read_demonstrations(static, None if self.static is None else self.axis)
        pool = Pool(self.shown, tuple(self._clipped(one) for one in known))
        if self.demonstrations is not None:
            for one in read_demonstrations(self.demonstrations, self.axis, self.min_agreement):
                pool.push(self._clipped(one))
        return pool

    def _clipped(self, one: Demonstration) -> Demonstration:
        return replace(one, answers=tuple(clipped(answer, self.answer_characters) for answer in one.answers))

    def draft(self, engines: Mapping[str, Engine], seeds: Sequence[Any]) -> Iterator[Draft]:
        """Let the student answer all prompts, the judge order the answers, and the student score them.

        Raises:
            DataError: a seed without the column `answer`, or what `pool` refuses.
            UnsupportedError: a student without log-probs.
        """
        cases = self._answered(engines["student"], seeds)
        live = [case for case in cases if case.error is None]
        if self.reward is not None:
            self._value(live)
        else:
            self._judge(engines["judge"], live)
        for case in cases:
            if case.error is not None:
                yield Draft(case.seed.id, error=case.error, failed=case.failed)
                continue
            # One prompt at a time, so that no bit of a log-prob depends on its neighbours.
            rows = engines["student"].logprobs([case.seed.prompt] * len(case.answers), case.answers)
            means = [float(np.asarray(row, dtype=np.float64).mean()) for row in rows]
            prompt = case.seed.prompt
            plain = prompt if isinstance(prompt, str) else [dict(turn) for turn in prompt]
            yield Draft(case.seed.id, {"prompt": plain, "answers": case.answers, "cut": case.cut, "order": case.order,
                                       "means": means, "values": case.values, "said": case.said})  # fmt: skip

    def finish(self, drafts: Sequence[Draft], counts: Counter[str]) -> Iterator[Row]:
        """Yield one ranking per draft, with both orders and the answers on which they agree.

        Counts `answers`; `agreed`, the sum over rows of answers that agree; `agreeable`, how many can, as of equally
        good ones only one counts; `agreed_by_chance`, what random orders would give, rounded; `agreements` worth
        showing; `dropped_as_ties`, prompts whose answers are all equally good.
        """
        chance = 0.0
        for draft in drafts:
            found = draft.found
            order: Order = found["order"]
            if len(order) == 1:
                counts["dropped_as_ties"] += 1
                continue
            white = [i for group in order_of(found["means"]) for i in group]
            agreement = common(order, white)
            counts["answers"] += len(white)
            counts["answers_cut_at_limit"] += found["cut"]
            counts["agreed"] += len(agreement)
            counts["agreements"] += len(agreement) >= self.min_agreement
            counts["agreeable"] += len(order)
            chance += by_chance(order)
            row = {
                "parent": draft.parent,
                "prompt": found["prompt"],
                "completions": found["answers"],
                "scores": ranks(order),
                "second_scores": found["means"],
                "agreement": agreement,
                "order_black": order,
                "order_white": white,
                "axis": self.axis,
            }
            yield row | ({"replies": found["said"]} if found["values"] is None else {"rewards": found["values"]})
        counts["agreed_by_chance"] = round(chance)

    def _answered(self, student: Engine, seeds: Sequence[Any]) -> list[_Case]:
        """Draw the answers of all seeds and leave out those that are alike."""
        prompts = [seed.prompt for seed in seeds]
        drawn: list[list[Any]] = [[] for _ in seeds]
        for place, temperature in enumerate(self.temperatures):
            many = len(range(place, self.candidates, len(self.temperatures)))
            how = replace(self.sampling, temperature=temperature, n=many, seed=self.sampling.seed + place)
            for answers, more in zip(drawn, student.generate(prompts, how) if many else [[]] * len(seeds), strict=True):
                answers += more
        cases = []
        for seed, answers in zip(seeds, drawn, strict=True):
            case = _Case(seed, self._distinct([*self._given(seed), *(one.text for one in answers)]), 0)
            case.cut = sum(one.finish_reason is FinishReason.LENGTH and one.text in case.answers for one in answers)
            if len(case.answers) < 2:
                case.error = "fewer than two answers that differ"
            cases.append(case)
        return cases

    def _given(self, seed: Any) -> list[str]:
        if self.answer is None:
            return []
        place = f"record {seed.id}"
        if self.answer not in seed.extra:
            raise DataError(f"has no column {self.answer!r} with an answer", place=place, fix="leave `answer` out")
        return [plain_answer(seed.extra[self.answer], place)]

    def _distinct(self, answers: Sequence[str]) -> list[str]:
        kept: list[str] = []
        for answer in answers:
            words = answer.split()
            alike = any(words == one.split() or rouge_l(answer, one) > self.max_overlap for one in kept)
            if words and not alike:
                kept.append(answer)
        return kept

    def _value(self, cases: Sequence[_Case]) -> None:
        """Let the reward order the answers."""
        valuing = catalog.from_spec("reward", self.reward)
        places = [(case, answer) for case in cases for answer in case.answers]
        found = valuing([case.seed.prompt for case, _ in places], [answer for _, answer in places]) if places else None
        at = 0
        for case in cases:
            assert found is not None
            part = slice(at, at + len(case.answers))
            at += len(case.answers)
            if found.abstained[part].any():
                case.error = "the reward abstained"
            else:
                case.values = [float(value) for value in found.values[part]]
                case.order = order_of(case.values)

    def _judge(self, judge: Engine, cases: Sequence[_Case]) -> None:
        """Ask for an order under letters drawn by lot; where it cannot be read, again under others."""
        shown = self.pool().shown(self.demonstration_characters)
        waiting = list(cases)
        for attempt in range(self.retries + 1):
            asked = [self._asked(case, shown, attempt) for case in waiting]
            how = replace(self.judging, seed=self.judging.seed + attempt)
            verdicts = ask(judge, [one for one, _ in asked], how, retries=0)
            for case, (_, places), verdict in zip(waiting, asked, verdicts, strict=True):
                case.failed = verdict.status == "failed"
                case.said.append(verdict.reply or "")
                if verdict.value is not None:
                    case.order = [sorted(places[at] for at in group) for group in verdict.value]
            waiting = [case for case in waiting if case.order is None and not case.failed]
        for case in cases:
            if case.order is None:
                case.error = "the judge gave no reply" if case.failed else "the judge's reply holds no order"

    def _asked(self, case: _Case, shown: Sequence[Demonstration], attempt: int) -> tuple[Case, list[int]]:
        """Return what the judge is asked, and which answer stands at each letter."""
        key = key_for(case.seed.prompt, *case.answers, *(answer for one in shown for answer in one.answers))
        places = _by_lot(len(case.answers), f"{self.sampling.seed} {case.seed.id} {attempt}")
        letters = string.ascii_uppercase[: len(places)]
        text = self.shown_text.render(
            criterion=CRITERIA[self.axis] if self.criterion is None else self.criterion,
            demonstrations=[_demonstrated(one, key) for one in shown],
            conversation=frame_prompt(case.seed.prompt, key),
            answers=[frame(f"answer-{letters[at]}", case.answers[i], key) for at, i in enumerate(places)],
            letters=list(letters),
            key=key,
            again=attempt > 0,
        )
        return Case(case.seed.id, [{"role": "user", "content": text}], lambda reply: read_order(reply, letters)), places


def _by_lot(number: int, what: str) -> list[int]:
    places = list(range(number))
    random.Random(f"cyclealign {what}").shuffle(places)
    return places


def _demonstrated(one: Demonstration, key: str) -> dict[str, Any]:
    """Return a demonstration as the judge's text shows it: its answers under letters drawn by lot, and their order."""
    places = _by_lot(len(one.answers), one.id)
    letter = {i: string.ascii_uppercase[at] for at, i in enumerate(places)}
    return {
        "conversation": frame_prompt(one.prompt, key),
        "answers": [frame(f"answer-{letter[i]}", one.answers[i], key) for i in places],
        "order": " > ".join(" = ".join(sorted(letter[i] for i in group)) for group in one.order),
    }
