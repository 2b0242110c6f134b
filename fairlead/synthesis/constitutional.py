"""Constitutional AI, first stage (Bai et al. 2022, arXiv 2212.08073): a model critiques and revises its own answers.

The talk goes on behind an answer: a principle asks for a critique of it, then for a revision, which takes its place.
What is learned from is the revision as the answer to the prompt alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from fairlead import catalog, prompts
from fairlead.engines.base import Sampling
from fairlead.errors import UnknownNameError, UsageError
from fairlead.messages import Message, last_question
from fairlead.rewards.base import RewardSpec
from fairlead.synthesis.base import Draft, Row, Synthesizer
from fairlead.synthesis.constitution import Article, check_articles, drawn, read_constitution

if TYPE_CHECKING:
    from fairlead.engines.base import Engine

__all__ = ["Constitutional", "cleaned", "tells_of_revising"]

Status = Literal["revised", "kept", "unchanged", "empty", "meta", "no_critique"]

_TEXTS = ("critique", "revision")
_APPROVED = ("revised", "kept", "unchanged")
_LEAD = re.compile(
    r"\A(?:(?:sure|certainly|of course)[,.!]?\s+)?(?:here(?:'s| is)|this is)\b[^:\n]{0,60}"
    r"\b(?:revision|rewrite|(?:revised|rewritten|new|improved|updated)\b[^:\n]{0,40})[^:\n]{0,20}:\s*",
    re.IGNORECASE,
)
_MARK = re.compile(
    r"^\s*(?:human|user|assistant|critique(?: request)?|revision(?: request)?)\s*:", re.IGNORECASE | re.M
)
_OWN_MARK = re.compile(r"\A\s*(?:assistant|critique|revision)\s*:\s*", re.IGNORECASE)
_META = re.compile(
    r"\b(?:(?:my|the) (?:critique|revision|(?:revised|rewritten) (?:answer|response|version))"
    r"|my (?:last|previous|earlier|first|original) (?:answer|response))\b",
    re.IGNORECASE,
)


def cleaned(reply: str) -> str:
    """Return a critique or revision without its mark, a line that announces it, and turns that it makes up."""
    text = _OWN_MARK.sub("", reply, count=1)
    mark = _MARK.search(text)
    text = (text[: mark.start()] if mark else text).strip()
    return _LEAD.sub("", text, count=1).strip()


def tells_of_revising(answer: str) -> bool:
    """Whether an answer speaks of itself as a revision."""
    return _META.search(answer) is not None


@dataclass
class _Talk:
    """An answer under revision."""

    id: str
    prompt: list[Message]
    articles: list[Article]
    answer: str = ""
    first: str = ""
    steps: list[dict[str, Any]] = field(default_factory=list)
    values: list[float | None] = field(default_factory=list)


@dataclass(frozen=True)
class Constitutional(Synthesizer):
    """Answers revised step by step along principles, as conversations or pairs."""

    steps: int = 4
    """Revisions per prompt, each along a principle of its own."""
    critique: bool = True
    """Whether a critique comes before each revision."""
    rows: Literal["all", "last", "first", "pairs"] = "all"
    """`all`: every different answer that a step approved of; `last`: the last one; `first`: the answer before any
    revision, of the same prompts as `last`, to compare with; `pairs`: the last over the first, where they differ."""
    principles: str | tuple[Article, ...] | None = None
    """The constitution: a YAML file, or the list itself; by default the eight principles that are shipped."""
    keep_where: str | None = None
    """Regular expression (capitals do not matter); where a critique has it the answer stays as it is."""
    texts: dict[str, str] = field(default_factory=dict)
    """What is said in place of the shipped texts: `critique`, `revision`, each the path of a Jinja text, or the text
    itself. They may use `request` (the principle's), `question` (the last of the user) and `said` (the answer)."""
    reward: RewardSpec | None = None
    """Values all answers, so that counts tell how many steps made them better or worse than the first; chooses none."""
    revising: Sampling = Sampling(max_tokens=1024)
    """How critiques and revisions are drawn."""
    sampling: Sampling = Sampling(max_tokens=1024)
    """How first answers are drawn."""

    example: ClassVar[Mapping[str, Any]] = {
        "steps": 2,
        "principles": [
            {"title": "manners", "critique": "judge this.", "revision": "be polite, safe and honest."},
            {"title": "doubt", "critique": "judge this.", "revision": "you are a kind helper who does not guess."},
        ],
        "texts": {
            "critique": "{{ request }} question: {{ question }} answer: {{ said }}",
            "revision": "{{ request }} {{ question }}",
        },
        "sampling": {"max_tokens": 24},
        "revising": {"max_tokens": 24},
    }
    reads: ClassVar[str] = "prompt"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UsageError(f"constitutional.steps is {self.steps}", fix="use 1 or more")
        if self.sampling.n != 1 or self.revising.n != 1:
            raise UsageError("constitutional draws one answer at a time", fix="leave n out of sampling and revising")
        if self.keep_where is not None and not self.critique:
            raise UsageError("constitutional.keep_where has no critique to look at", fix="set critique: true")
        for name in self.texts:
            if name not in _TEXTS:
                raise UnknownNameError("text", name, _TEXTS, place="constitutional.texts")
        try:
            re.compile(self.keep_where or "")
        except re.error as error:
            what = f"constitutional.keep_where is no regular expression: {error}"
            raise UsageError(what, fix="mend it, or escape signs such as ( with \\") from error
        needed = _TEXTS if self.critique else _TEXTS[1:]
        check_articles(self.articles, needed, "constitutional")
        _ = self.shown
        if self.reward is not None:
            catalog.from_spec("reward", self.reward)

    @property
    def engines(self) -> Mapping[str, str]:
        """Who answers, and who critiques and revises."""
        uses = {"model": "gives the first answers", "critic": "critiques them", "reviser": "revises them"}
        return {role: use for role, use in uses.items() if role != "critic" or self.critique}

    @property
    def makes(self) -> str:
        """Preference records for `pairs`, else conversations."""
        return "preference" if self.rows == "pairs" else "conversation"

    @property
    def rows_per_seed(self) -> int:
        """For `all` one per step and the first answer, which a step may approve of."""
        return self.steps + 1 if self.rows == "all" else 1

    @cached_property
    def articles(self) -> tuple[Article, ...]:
        """The constitution."""
        own = self.principles
        return read_constitution(own) if own is None or isinstance(own, str) else own

    @cached_property
    def shown(self) -> dict[str, prompts.PromptText]:
        """Name -> what is said."""
        return {name: prompts.load("constitutional", name, self.texts.get(name)) for name in _TEXTS}

    def draft(self, engines: Mapping[str, Engine], seeds: Sequence[Any]) -> Iterator[Draft]:
        """Answer all prompts, then take one step after the other with all of them."""
        talks = [self._talk(seed) for seed in seeds if not isinstance(seed.prompt, str)]
        asked = engines["model"].generate([talk.prompt for talk in talks], self.sampling) if talks else []
        for talk, row in zip(talks, asked, strict=True):
            talk.first = talk.answer = row[0].text.strip()
        going = [talk for talk in talks if talk.first]
        for k in range(self.steps):
            self._step(engines, going, k)
        self._value(going)
        by_id = {talk.id: talk for talk in talks}
        for seed in seeds:
            talk = by_id.get(seed.id)
            if talk is None:
                yield Draft(seed.id, error="the prompt is raw text, behind which no talk goes on")
            elif not talk.first:
                yield Draft(seed.id, error="the first answer is empty")
            else:
                found = {"prompt": talk.prompt, "first": talk.first, "steps": talk.steps, "values": talk.values}
                yield Draft(seed.id, found)

    def _talk(self, seed: Any) -> _Talk:
        turns: list[Message] = [{"role": turn["role"], "content": turn["content"]} for turn in seed.prompt]
        return _Talk(seed.id, turns, drawn(self.articles, self.steps, self.sampling.seed, seed.id))

    def _step(self, engines: Mapping[str, Engine], talks: Sequence[_Talk], k: int) -> None:
        said = [self._behind(talk) for talk in talks]
        critiques: list[str | None] = [None] * len(talks)
        going = list(range(len(talks)))
        if self.critique:
            asked = [[*said[i], self._turn("critique", talks[i], k)] for i in going]
            critiques = list(self._replies(engines["critic"], asked))
            said = [[*turns, {"role": "assistant", "content": c}] for turns, c in zip(asked, critiques, strict=True)]
            going = [i for i in going if critiques[i] and not self._keeps(critiques[i])]
        asked = [[*said[i], self._turn("revision", talks[i], k)] for i in going]
        revisions = dict(zip(going, self._replies(engines["reviser"], asked), strict=True))
        for i, talk in enumerate(talks):
            status = self._status(talk, critiques[i], revisions.get(i))
            talk.answer = revisions[i] if status == "revised" else talk.answer
            step = {"principle": talk.articles[k].title, "critique": critiques[i], "revision": revisions.get(i)}
            talk.steps.append({**step, "status": status, "answer": talk.answer})

    def _behind(self, talk: _Talk) -> list[Message]:
        return [*talk.prompt, {"role": "assistant", "content": talk.answer}]

    def _turn(self, name: str, talk: _Talk, k: int) -> Message:
        request = getattr(talk.articles[k], name)
        text = self.shown[name].render(request=request, question=last_question(talk.prompt), said=talk.answer)
        return {"role": "user", "content": text}

    def _replies(self, engine: Engine, asked: Sequence[list[Message]]) -> list[str]:
        """Return cleaned replies; an empty one is asked for once more."""
        found = [""] * len(asked)
        for more in (0, 1):
            empty = [i for i, text in enumerate(found) if not text]
            how = replace(self.revising, seed=self.revising.seed + more)
            rows = engine.generate([asked[i] for i in empty], how) if empty else []
            for i, row in zip(empty, rows, strict=True):
                found[i] = cleaned(row[0].text)
        return found

    def _keeps(self, critique: str | None) -> bool:
        return self.keep_where is not None and re.search(self.keep_where, critique or "", re.IGNORECASE) is not None

    def _status(self, talk: _Talk, critique: str | None, revision: str | None) -> Status:
        if self.critique and not critique:
            return "no_critique"
        if revision is None:
            return "kept"
        if not revision:
            return "empty"
        if revision.split() == talk.answer.split():
            return "unchanged"
        return "meta" if tells_of_revising(revision) else "revised"

    def _value(self, talks: Sequence[_Talk]) -> None:
        if self.reward is None or not talks:
            return
        answers = [[talk.first, *(step["answer"] for step in talk.steps)] for talk in talks]
        flat = [(talk.prompt, text) for talk, texts in zip(talks, answers, strict=True) for text in texts]
        found = catalog.from_spec("reward", self.reward)([one for one, _ in flat], [text for _, text in flat])
        values = iter([None if a else float(v) for v, a in zip(found.values, found.abstained, strict=True)])
        for talk, texts in zip(talks, answers, strict=True):
            talk.values = [next(values) for _ in texts]

    def finish(self, drafts: Sequence[Draft], counts: Counter[str]) -> Iterator[Row]:
        """Build the rows; counts steps by status, and where the reward tells a gain or a loss on the first answer."""
        for draft in drafts:
            found = draft.found
            counts.update(f"steps_{step['status']}" for step in found["steps"])
            for k, value in enumerate(found["values"][1:], 1):
                if value is not None and found["values"][0] is not None:
                    gap = value - found["values"][0]
                    counts[f"better_after_{k}"] += gap > 0
                    counts[f"worse_after_{k}"] += gap < 0
            rows = list(self._rows(found))
            if not rows:
                counts["dropped_unrevised" if self.rows == "pairs" else "dropped_without_an_approved_step"] += 1
            yield from (self._common(draft) | row for row in rows)

    def _common(self, draft: Draft) -> Row:
        steps = draft.found["steps"]
        told = {"principles": [step["principle"] for step in steps], "statuses": [step["status"] for step in steps]}
        row = {"parent": draft.parent, "prompt": draft.found["prompt"], "first": draft.found["first"], **told}
        return row | ({"rewards": draft.found["values"]} if self.reward is not None else {})

    def _rows(self, found: Mapping[str, Any]) -> Iterator[Row]:
        approved = [(k, step) for k, step in enumerate(found["steps"], 1) if step["status"] in _APPROVED]
        if not approved:
            return
        last = found["steps"][-1]["answer"]
        if self.rows == "pairs":
            if last != found["first"]:
                yield {"chosen": _said(last), "rejected": _said(found["first"]), "step": len(found["steps"])}
        elif self.rows == "all":
            told: set[str] = set()
            for k, step in approved:
                if step["answer"] not in told:
                    told.add(step["answer"])
                    yield {"completion": _said(step["answer"]), "step": k, "critique": step["critique"]}
        else:
            step = approved[-1][0] if self.rows == "last" else 0
            yield {"completion": _said(last if self.rows == "last" else found["first"]), "step": step}


def _said(text: str) -> list[Message]:
    return [{"role": "assistant", "content": text}]
