"""WildFeedback (arXiv 2408.15549): what users' reactions in chats say about answers, as pairs, checklists and thumbs.

Judges and annotators are not the users. A user's next message tells which answer was bad, and what a better one needs:
with that as a hint a model answers again, and the hint is left out of the record, so that training takes it in.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from fairlead import catalog, prompts
from fairlead.engines import asking
from fairlead.engines.asking import JUDGING, ask, attempts, frame, frame_prompt
from fairlead.engines.base import Sampling
from fairlead.errors import UnknownNameError, UsageError
from fairlead.messages import Message, instruct
from fairlead.rewards.base import RewardSpec
from fairlead.synthesis.base import Draft, Row, Synthesizer
from fairlead.synthesis.feedback_pairs import SOURCES, Outcome, built, held_out, two_orders
from fairlead.synthesis.feedback_signals import (
    DSAT,
    SAT,
    Case,
    Signal,
    asked_again,
    cases_of,
    labelled_by_phrases,
    read_signals,
    signals_in,
)
from fairlead.verdicts import Reading, key_of, objects, points_of_label, read_class, read_label

if TYPE_CHECKING:
    from fairlead.engines.base import Engine

__all__ = ["WildFeedback", "read_preferences"]

Source = Literal["expert", "on_policy", "praised"]

_TEXTS = ("label", "preferences", "hint", "judge", "moderate")
_MOST = 5
_LETTER = {0.0: "A", 0.5: "tie", 1.0: "B"}


@dataclass
class _Work:
    """A case on its way to a record."""

    seed: int
    case: Case
    wishes: list[str] | None = None
    answers: dict[str, str] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    safe: bool | None = None
    failed: str | None = None

    @property
    def plain(self) -> dict[str, Any]:
        """What its draft keeps."""
        own = {"wishes": self.wishes, "answers": self.answers, "outcomes": self.outcomes, "safe": self.safe}
        return asdict(self.case) | own


@dataclass(frozen=True)
class WildFeedback(Synthesizer):
    """Preference pairs, checklists or thumbs out of chats in which users react to answers."""

    rows: Literal["pairs", "checklists", "thumbs"] = "pairs"
    """`pairs`: see `pairs`; `checklists`: prompts with what their user wants, as questions for `checklist_judge`;
    `thumbs`: the praised and criticised answers themselves, up or down, for which nobody has to write anything."""
    pairs: tuple[Source, ...] = ("expert",)
    """`expert`: the criticised answer, and the role `expert`'s with the hint; `on_policy`: the role `policy`'s answers
    without and with the hint; `praised`: the role `policy`'s answer without a hint, and the one that was praised."""
    phrases: dict[str, tuple[str, ...]] | None = None
    """Sign -> texts that show it in a reaction, in place of the role `labeller`."""
    phrase_words: int = 30
    """How many words of a reaction are searched for phrases, from its beginning."""
    column: str | None = None
    """Column of the seeds with the signals, in place of the role `labeller`: a list of {turn, sat, dsat, related}."""
    wishes: dict[str, tuple[str, ...]] | None = None
    """Sign -> what a user who gives it wants of answers, in place of the role `writer`."""
    min_user_turns: int = 2
    """Conversations with fewer messages of the user are passed over."""
    max_cases: int = 16
    """Most cases of one conversation, the first ones."""
    filter: tuple[Source, ...] = ("on_policy",)
    """The pairs that are kept only where a judge who has the checklist prefers the chosen answer in both orders."""
    reward: RewardSpec | None = None
    """Values the two answers in the stead of the role `judge`; it knows of no checklist."""
    moderate: bool = True
    """Whether the role `moderator` reads every case, and those that it finds unsafe or cannot tell are left out."""
    part: Literal["all", "train", "test"] = "all"
    """Which cases become records; conversations are never divided."""
    test_cases: int = 0
    """Cases that are held out for `part: test`, at most."""
    question: str = "Does the answer do what this user wants: {preference}"
    """How a wish becomes a question with yes for a good answer."""
    texts: dict[str, str] = field(default_factory=dict)
    """What engines read in place of the shipped texts: `label`, `preferences`, `hint`, `judge`, `moderate`, each the
    path of a Jinja text, or the text itself. The hint may use `preferences` alone."""
    hint_role: Literal["system", "user"] = "system"
    """Whose message the hint is part of."""
    retries: int = 1
    """How often an engine is asked again where its reply cannot be read; the labeller for missing messages alone."""
    retry_temperature: float = 0.3
    """Temperature of these replies; each has the next seed."""
    replies: Sampling = JUDGING
    """How labels, wishes and verdicts are drawn."""
    sampling: Sampling = Sampling(max_tokens=1024)
    """How answers are drawn."""

    example: ClassVar[Mapping[str, Any]] = {
        "phrases": {"gratitude": ["thank you"], "negative_feedback": ["that is rude", "that is wrong"]},
        "wishes": {"gratitude": ["be polite, safe and honest."], "negative_feedback": ["be polite, safe and honest."]},
        "texts": {"hint": "{{ preferences | join(' ') }}"},
        "pairs": ["expert", "on_policy", "praised"],
        "filter": [],
        "moderate": False,
        "sampling": {"max_tokens": 24},
    }
    reads: ClassVar[str] = "conversation"

    def __post_init__(self) -> None:
        for name, least in (("min_user_turns", 2), ("max_cases", 1), ("phrase_words", 1), ("test_cases", 0),
                            ("retries", 0)):  # fmt: skip
            if getattr(self, name) < least:
                raise UsageError(f"wildfeedback.{name} is {getattr(self, name)}", fix=f"use {least} or more")
        if self.phrases is not None and self.column is not None:
            raise UsageError("wildfeedback has both phrases and a column", fix="signals come from one of them")
        for name, given in (("phrases", self.phrases), ("wishes", self.wishes)):
            for sign in given or {}:
                if sign not in (*SAT, *DSAT, "unnamed"):
                    raise UnknownNameError("sign", sign, [*SAT, *DSAT], place=f"wildfeedback.{name}")
        if not self.pairs or len(set(self.pairs)) < len(self.pairs):
            raise UsageError("wildfeedback.pairs is empty or names a source twice", fix=f"name some of {[*SOURCES]}")
        if self.part != "all" and not self.test_cases:
            raise UsageError(f"wildfeedback.part is {self.part} of no division", fix="say how many test_cases to hold")
        if "{preference}" not in self.question:
            raise UsageError("wildfeedback.question has no {preference}", fix="say where the wish stands")
        if self.sampling.n != 1 or self.replies.n != 1:
            raise UsageError("wildfeedback draws one answer at a time", fix="leave n out of sampling and replies")
        for name in self.texts:
            if name not in _TEXTS:
                raise UnknownNameError("text", name, _TEXTS, place="wildfeedback.texts")
        _ = self.shown
        if self.reward is not None:
            catalog.from_spec("reward", self.reward)

    @cached_property
    def shown(self) -> dict[str, prompts.PromptText]:
        """Name -> what engines read."""
        return {name: prompts.load("wildfeedback", name, self.texts.get(name)) for name in _TEXTS}

    @property
    def judged(self) -> tuple[str, ...]:
        """The sources whose pairs a judge must approve of."""
        return tuple(source for source in self.pairs if source in self.filter) if self.rows == "pairs" else ()

    @property
    def engines(self) -> Mapping[str, str]:
        """The roles that the fields leave something to do."""
        sources = self.pairs if self.rows == "pairs" else ()
        wanted = {
            "labeller": (self.phrases is None and self.column is None, "finds the signs in users' reactions"),
            "writer": (self.wishes is None and self.rows != "thumbs", "writes down what a user wants"),
            "expert": ("expert" in sources, "answers with the hint what was answered badly"),
            "policy": (bool({"on_policy", "praised"} & {*sources}), "is the model that will be trained"),
            "judge": (bool(self.judged) and self.reward is None, "compares two answers after the checklist"),
            "moderator": (self.moderate, "tells unsafe cases"),
        }
        return {role: use for role, (there, use) in wanted.items() if there}

    @property
    def makes(self) -> str:
        """A preference, a prompt or a thumb."""
        return {"pairs": "preference", "checklists": "prompt", "thumbs": "feedback"}[self.rows]

    @property
    def rows_per_seed(self) -> int:
        """A row per case, and source of pairs."""
        return self.max_cases * (len(self.pairs) if self.rows == "pairs" else 1)

    def draft(self, engines: Mapping[str, Engine], seeds: Sequence[Any]) -> Iterator[Draft]:
        """Label the reactions, write down the wishes, answer, judge and moderate, each for all seeds at once."""
        turns = [_turns(seed) for seed in seeds]
        told = [sum(turn["role"] == "user" for turn in chat) >= self.min_user_turns for chat in turns]
        signals, missing, errors = self._signals(engines, seeds, turns, told)
        found = [cases_of(chat, own) for chat, own in zip(turns, signals, strict=True)]
        work = [_Work(i, case) for i, cases in enumerate(found) for case in cases[: self.max_cases]]
        if self.rows != "thumbs":
            self._wish(engines, work)
        if self.rows == "pairs":
            self._answer(engines, [item for item in work if item.wishes])
            self._judge(engines, [item for item in work if item.wishes])
        if self.moderate:
            self._moderate(engines, work)
        for item in work:
            errors[item.seed] = errors[item.seed] or item.failed
        for i, seed in enumerate(seeds):
            if errors[i] is not None:
                yield Draft(seed.id, error=errors[i], failed=True)
                continue
            counts = {"too_short": not told[i], "unlabelled_messages": missing[i]}
            counts["cases_beyond_the_most"] = max(0, len(found[i]) - self.max_cases)
            counts["reactions"] = len(asked_again(turns[i])) if told[i] else 0
            cases = [item.plain for item in work if item.seed == i]
            yield Draft(seed.id, {"cases": cases, "counts": {name: int(n) for name, n in counts.items()}})

    def _signals(
        self, engines: Mapping[str, Engine], seeds: Sequence[Any], turns: Sequence[list[Message]], told: Sequence[bool]
    ) -> tuple[list[list[Signal]], list[int], list[str | None]]:
        """Return per seed its signals, how many messages have none that could be read, and why there are none."""
        missing = [0] * len(seeds)
        errors: list[str | None] = [None] * len(seeds)
        if self.phrases is not None:
            by_rule = partial(labelled_by_phrases, phrases=self.phrases, words=self.phrase_words)
            return [list(by_rule(chat)) if ok else [] for chat, ok in zip(turns, told, strict=True)], missing, errors
        if self.column is not None:
            own = [signals_in(seed.extra.get(self.column), f"record {seed.id}") for seed in seeds]
            return [given if ok else [] for given, ok in zip(own, told, strict=True)], missing, errors
        return self._labelled(engines["labeller"], turns, told)

    def _labelled(
        self, labeller: Engine, turns: Sequence[list[Message]], told: Sequence[bool]
    ) -> tuple[list[list[Signal]], list[int], list[str | None]]:
        wanted = [asked_again(chat) if ok else [] for chat, ok in zip(turns, told, strict=True)]
        found: list[dict[int, Signal]] = [{} for _ in turns]
        errors: list[str | None] = [None] * len(turns)
        for how in attempts(labeller, self.replies, self.retries, self.retry_temperature):
            left = [
                [place for place in places if place not in known] for places, known in zip(wanted, found, strict=True)
            ]
            waiting = [i for i, places in enumerate(left) if places and errors[i] is None]
            cases = [self._label_case(turns[i], left[i]) for i in waiting]
            for i, verdict in zip(waiting, ask(labeller, cases, how, retries=0), strict=True):
                found[i] |= verdict.value or {}
                errors[i] = "the labeller gave no reply" if verdict.status == "failed" else None
        missing = [len(places) - len(known) for places, known in zip(wanted, found, strict=True)]
        return [list(known.values()) for known in found], missing, errors

    def _label_case(self, chat: Sequence[Message], places: Sequence[int]) -> asking.Case:
        shown = [turn["content"] for turn in chat]
        key = key_of(*shown)
        framed = "\n".join(frame(f"{turn['role']}-{i}", turn["content"], key) for i, turn in enumerate(chat))
        text = self.shown["label"].render(conversation=framed, wanted=list(places), sat=SAT, dsat=DSAT, key=key)
        return _case(text, partial(read_signals, wanted=places, key=key, shown=shown))

    def _wish(self, engines: Mapping[str, Engine], work: Sequence[_Work]) -> None:
        if self.wishes is not None:
            for item in work:
                signal = item.case.signal
                own = [text for sign in (*signal["dsat"], *signal["sat"]) for text in self.wishes.get(sign, ())]
                item.wishes = list(dict.fromkeys(own))
            return
        cases = []
        for item in work:
            slots = _slots(item.case, item.case.answer)
            text = self.shown["preferences"].render(**slots, answer=frame("answer", item.case.answer, slots["key"]))
            shown = [*(turn["content"] for turn in item.case.prompt), item.case.answer, item.case.reaction]
            cases.append(_case(text, partial(read_preferences, key=slots["key"], shown=shown)))
        for item, verdict in zip(work, self._ask(engines["writer"], cases), strict=True):
            item.wishes = verdict.value
            item.failed = "the writer gave no reply" if verdict.status == "failed" else None

    def _answer(self, engines: Mapping[str, Engine], work: Sequence[_Work]) -> None:
        """Draw the answers that the sources of pairs ask for."""
        for name, role, hinted in (("expert", "expert", True), ("hinted", "policy", True), ("plain", "policy", False)):
            items = [item for item in work if self._needs(item, name)]
            asked = [self._hinted(item) if hinted else item.case.prompt for item in items]
            drawn = engines[role].generate(asked, self.sampling) if items else []
            for item, row in zip(items, drawn, strict=True):
                item.answers[name] = row[0].text.strip()

    def _needs(self, item: _Work, answer: str) -> bool:
        return any(item.case.kind in SOURCES[name][0] and answer in SOURCES[name][1:] for name in self.pairs)

    def _hinted(self, item: _Work) -> Any:
        return instruct(item.case.prompt, self.shown["hint"].render(preferences=item.wishes), self.hint_role)

    def _judge(self, engines: Mapping[str, Engine], work: Sequence[_Work]) -> None:
        """Compare the answers of the pairs that need it."""
        places = [(item, name) for name in self.judged for item in work if item.case.kind in SOURCES[name][0]]
        if not places:
            return
        texts = [
            [{**item.answers, "logged": item.case.answer}[kind] for kind in SOURCES[name][1:]] for item, name in places
        ]
        if self.reward is not None:
            asked = [item.case.prompt for item, _ in places]
            value = catalog.from_spec("reward", self.reward)
            sides = [value(asked, list(side)) for side in zip(*texts, strict=True)]
            for k, (item, name) in enumerate(places):
                known = not any(side.abstained[k] for side in sides)
                gap = float(sides[0].values[k] - sides[1].values[k]) if known else 0.0
                item.outcomes[name] = "win" if gap > 0 else "loss" if gap < 0 else "tie"
            return
        cases = [
            self._judge_case(item, pair)
            for (item, _), own in zip(places, texts, strict=True)
            for pair in (own, own[::-1])
        ]
        verdicts = self._ask(engines["judge"], cases)
        for k, (item, name) in enumerate(places):
            both = verdicts[2 * k : 2 * k + 2]
            said = [None if v.value is None else _LETTER[points_of_label(v.value)] for v in both]
            item.outcomes[name] = two_orders(*said)
            if any(verdict.status == "failed" for verdict in both):
                item.failed = "the judge gave no reply"

    def _judge_case(self, item: _Work, pair: Sequence[str]) -> asking.Case:
        slots = _slots(item.case, *pair)
        marked = {
            f"answer_{letter}": frame(f"answer-{letter}", said, slots["key"])
            for letter, said in zip("ab", pair, strict=True)
        }
        text = self.shown["judge"].render(**slots, **marked, preferences=item.wishes)
        return _case(text, partial(read_label, key=slots["key"], answers=pair))

    def _moderate(self, engines: Mapping[str, Engine], work: Sequence[_Work]) -> None:
        cases = []
        for item in work:
            texts = [item.case.answer, *item.answers.values()]
            slots = _slots(item.case, *texts, *(item.wishes or ()))
            key = slots["key"]
            framed = "\n".join(frame("answer", text, key) for text in texts)
            wishes = frame("wishes", "\n".join(item.wishes or ()), key)
            shown = [*(turn["content"] for turn in item.case.prompt), item.case.reaction, *texts, *(item.wishes or ())]
            read = partial(read_class, classes=("safe", "unsafe"), key=key, answers=shown)
            cases.append(_case(self.shown["moderate"].render(**slots, answers=framed, wishes=wishes), read))
        for item, verdict in zip(work, self._ask(engines["moderator"], cases), strict=True):
            item.safe = None if verdict.value is None else verdict.value == "safe"
            if verdict.status == "failed":
                item.failed = "the moderator gave no reply"

    def _ask(self, engine: Engine, cases: Sequence[asking.Case]) -> list[asking.Verdict]:
        return ask(engine, cases, self.replies, retries=self.retries, temperature=self.retry_temperature)

    def finish(self, drafts: Sequence[Draft], counts: Counter[str]) -> Iterator[Row]:
        """Build the records of the part that is asked for."""
        sizes = {draft.parent: len(draft.found["cases"]) for draft in drafts}
        test = held_out(sizes, self.test_cases, self.sampling.seed)
        for draft in drafts:
            counts.update(draft.found["counts"])
            counts["conversations_with_a_case"] += bool(draft.found["cases"])
            if self.part != "all" and (draft.parent in test) != (self.part == "test"):
                counts["dropped_of_the_other_part"] += len(draft.found["cases"])
                continue
            yield from built(draft, self, counts)


def read_preferences(reply: str, key: str, shown: Sequence[str] = ()) -> Reading:
    """Read one to five texts, or an empty list, from `{"preferences": [...]}`."""
    if not reply.strip():
        return Reading(problem="empty")
    found = [item for item in objects(reply, ["preferences"]) if isinstance(item["preferences"], list)]
    if any(re.search(r"""["']preferences["']""", text, re.IGNORECASE) for text in shown):
        found = [item for item in found if item.get("key") == key]
    lists = [[" ".join(str(text).split()) for text in item["preferences"]] for item in found]
    if not lists:
        return Reading(problem="no verdict")
    if any(own != lists[0] for own in lists):
        return Reading(problem="several verdicts")
    if len(lists[0]) > _MOST or not all(lists[0]):
        return Reading(problem="off the scale")
    return Reading(lists[0])


def _slots(case: Case, *more: str) -> dict[str, Any]:
    key = key_of(*(turn["content"] for turn in case.prompt), case.reaction, *more)
    return {
        "conversation": frame_prompt(case.prompt, key),
        "reaction": frame("reaction", case.reaction, key),
        "key": key,
    }


def _case(text: str, read: Any) -> asking.Case:
    return asking.Case("", [{"role": "user", "content": text}], read)


def _turns(record: Any) -> list[Message]:
    """Return a conversation's messages; a raw text has none."""
    said = record.completion
    if isinstance(record.prompt, str):
        return []
    return [*record.prompt, *([{"role": "assistant", "content": said}] if isinstance(said, str) else said)]
