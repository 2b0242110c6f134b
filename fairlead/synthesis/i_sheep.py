"""I-SHEEP (Liang et al. 2024, arXiv 2408.08072): a model's own instructions and answers, of which it keeps the best.

One round: the model writes instructions, answers them, and grades every answer twice, for its quality and for how well
it follows its instruction; rules leave out what is of no use, and only what both grades are high for is trained on.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from fairlead import prompts as texts
from fairlead.engines.base import FinishReason, Sampling
from fairlead.errors import DataError, UnknownNameError, UsageError
from fairlead.messages import Prompt, last_question
from fairlead.rewards.inflections import words_of
from fairlead.rewards.overlap import first_alike
from fairlead.synthesis.base import Draft, Row, Synthesizer
from fairlead.synthesis.magpie import Magpie
from fairlead.synthesis.magpie_strings import Strings
from fairlead.synthesis.task_rules import (
    INSTRUCTION_RULES,
    OUTPUT_RULES,
    Task,
    first_broken,
    read_score,
    read_tasks,
)
from fairlead.verdicts import read_word

if TYPE_CHECKING:
    from fairlead.engines.base import Engine

__all__ = ["ISheep"]

_SHIPPED = {
    "simple": {"quality": "simple_quality", "following": "simple_following"},
    "combined": {"quality": "combined_quality", "following": "combined_following"},
    "in_context": {"quality": "in_context"},
    "none": {},
}
_KEEPS: dict[str, Callable[[Mapping[str, int], float], bool]] = {
    "both": lambda scores, above: min(scores.values()) > above,
    "quality": lambda scores, above: scores["quality"] > above,
    "following": lambda scores, above: scores["following"] > above,
}


@dataclass(frozen=True)
class ISheep(Synthesizer):
    """Conversations that a model wrote, answered, graded and kept by itself."""

    write: Literal["list", "opening"] = "list"
    """How instructions are written: as the next items of a list, behind `demonstrations` of the `tasks`; or behind the
    opening of a user's turn, as in magpie, by a model that knows chats."""
    tasks: str | None = None
    """Where demonstrations come from: a data source of conversations or prompts, whose column `instruction` (and
    `input`) is shown, or else the last user turn. Needed for `list`; new instructions must also differ from them."""
    demonstrations: int = 5
    """Tasks shown at the head of a list, drawn anew for each."""
    listed: int = 20
    """Items that a list is to have; those shown are among them."""
    form: Literal["raw", "chat"] = "chat"
    """Whether the model is asked through its chat template or with bare text, as base models are; then `stop` of the
    samplings should end its answers."""
    rules: tuple[str, ...] = (*INSTRUCTION_RULES, *OUTPUT_RULES)
    """Rules that leave out instructions and answers."""
    novelty: float = 0.7
    """An instruction whose ROUGE-L F with a task or one kept before is above this is left out; 1 leaves out none."""
    known: str | None = None
    """Conversations of earlier rounds ("@made"), from which new instructions must differ too; the paper has none."""
    assess: Literal["simple", "combined", "in_context", "none"] = "combined"
    """How answers are graded: with short or with anchored questions, two grades each; with graded examples and one
    grade for all; or not at all, which is Self-Instruct."""
    keep: Literal["both", "quality", "following"] = "both"
    """Which grades must be above the threshold."""
    threshold: float = 8
    """Grades must be above this, on a scale from 1 to 10; 0 keeps all that was graded."""
    words: dict[str, int] = field(default_factory=dict)
    """Word -> grade, for models that grade in words: a reply must then have just one of them; empty for numbers."""
    assessor: Literal["model", "other"] = "model"
    """Who grades: the model that answered (the paper's text), or an engine of its own as the role `assessor`, such as
    the base model (the paper's code)."""
    most: int | None = None
    """Most conversations; the first ones are kept. The paper trains on 3000."""
    prompts: dict[str, str] = field(default_factory=dict)
    """meta, quality or following -> what stands in the shipped text's place: the path of a Jinja text, or the text
    itself. `meta` may use `tasks` and `demonstrations`, the others `instruction`, `input` and `response`."""
    template: str | Strings | None = None
    """For `opening`: the chat template's strings, as in magpie."""
    block: int = 64
    """For `opening`: instructions drawn with one seed, as in magpie."""
    answering: Sampling = Sampling(temperature=1.0, top_p=0.95, max_tokens=1024)
    """How answers are drawn."""
    assessing: Sampling = Sampling(temperature=0.0, max_tokens=8)
    """How grades are drawn; the paper's code draws them at temperature 1."""
    sampling: Sampling = Sampling(temperature=1.0, top_p=0.95, max_tokens=1000)
    """How instructions are drawn; a list also ends before the item behind its last."""

    example: ClassVar[Mapping[str, Any]] = {
        "write": "opening",
        "novelty": 0.99,
        "prompts": {
            "quality": "judge this. question: {{ instruction }} answer: {{ response }}",
            "following": "judge this. question: {{ instruction }} answer: {{ response }}",
        },
        "words": {"good": 10, "safe": 10, "fine": 9, "short": 4, "wrong": 2, "rude": 2, "harmful": 1},
        "block": 4,
        "sampling": {"max_tokens": 40},
        "answering": {"max_tokens": 32},
    }
    reads: ClassVar[str | None] = None
    makes: ClassVar[str] = "conversation"
    sources: ClassVar[tuple[str, ...]] = ("tasks", "known", "prompts")

    def __post_init__(self) -> None:
        if self.write == "list" and self.tasks is None:
            raise UsageError("i_sheep.tasks is missing", fix="give tasks to show, or write: opening")
        if not 1 <= self.demonstrations < self.listed:
            what = f"i_sheep.demonstrations is {self.demonstrations}, i_sheep.listed {self.listed}"
            raise UsageError(what, fix="show at least one task, and fewer than a list has")
        for name in self.rules:
            if name not in INSTRUCTION_RULES and name not in OUTPUT_RULES:
                raise UnknownNameError("rule", name, (*INSTRUCTION_RULES, *OUTPUT_RULES), place="i_sheep.rules")
        for name in self.prompts:
            if name not in self.shown:
                raise UnknownNameError("text", name, self.shown, place="i_sheep.prompts")
        if not 0 < self.novelty <= 1:
            raise UsageError(f"i_sheep.novelty is {self.novelty}", fix="use a share above 0, at most 1")
        if self.keep == "following" and "following" not in self.shown:
            raise UsageError(f"i_sheep.keep: {self.assess} gives no grade for following", fix="keep by quality")
        if any(not 1 <= grade <= 10 for grade in self.words.values()):
            raise UsageError("i_sheep.words has a grade that is not from 1 to 10", fix="use 1 to 10")
        if self.most is not None and self.most < 1:
            raise UsageError(f"i_sheep.most is {self.most}", fix="use a value >= 1")
        for name in ("sampling", "answering", "assessing"):
            if getattr(self, name).n != 1:
                raise UsageError(f"i_sheep.{name}.n is set", fix="ask for more instructions with count")
        _ = self.magpie

    @property
    def engines(self) -> Mapping[str, str]:
        """The model, and the assessor where there is one."""
        grades = self.assess != "none"
        own = "writes instructions and answers them" + (
            ", and grades its answers" if grades and self.assessor == "model" else ""
        )
        return {"model": own} | ({"assessor": "grades the answers"} if grades and self.assessor == "other" else {})

    @property
    def rows_per_seed(self) -> int:
        """As many as a list has room for, or one."""
        return 1 if self.write == "opening" else self.listed - self.demonstrations

    @cached_property
    def shown(self) -> dict[str, texts.PromptText]:
        """The texts that models read: `meta`, and one per grade."""
        shipped = {"meta": "meta", **_SHIPPED[self.assess]}
        return {name: texts.load("i_sheep", file, self.prompts.get(name)) for name, file in shipped.items()}

    @cached_property
    def magpie(self) -> Magpie:
        """What writes behind the opening of a user's turn."""
        return Magpie(answers="none", template=self.template, block=self.block, sampling=self.sampling)

    def draft(self, engines: Mapping[str, Engine], seeds: Sequence[Any]) -> Iterator[Draft]:
        """Let the model write the instructions of all seeds, then answer them, then let them be graded."""
        written = (self._openings if self.write == "opening" else self._lists)(engines["model"], seeds)
        works = [[_Work(task, first_broken(task, INSTRUCTION_RULES, self.rules)) for task in one] for one, _ in written]
        self._answer(engines["model"], [work for one in works for work in one if work.broken is None])
        live = [work for one in works for work in one if work.broken is None]
        for name in list(self.shown)[1:]:
            live = [work for work in live if len(work.scores) == len(work.replies)]
            self._grade(engines.get("assessor", engines["model"]), name, live)
        for seed, one, (_, error) in zip(seeds, works, written, strict=True):
            if error is not None:
                yield Draft(seed.id, error=error)
            else:
                yield Draft(seed.id, {"tasks": [asdict(work) for work in one]})

    def finish(self, drafts: Sequence[Draft], counts: Counter[str]) -> Iterator[Row]:
        """Leave out what breaks a rule, is like another or has low grades; yield the rest.

        Counts `instructions`, `answers_cut_at_limit`, `graded`, and what was left out: `dropped_by_RULE`,
        `dropped_as_known`, `dropped_without_grade`, `dropped_by_grade`, `dropped_beyond_most`.
        """
        kept = [words_of(text) for text in self._earlier()]
        left = self.most
        for draft in drafts:
            for found in draft.found["tasks"]:
                counts["instructions"] += 1
                task, broken, scores = Task(**found["task"]), found["broken"], found["scores"]
                if broken in INSTRUCTION_RULES:
                    counts[f"dropped_by_{broken}"] += 1
                    continue
                words = words_of(task.instruction)
                if first_alike(words, kept, above=self.novelty):
                    counts["dropped_as_known"] += 1
                    continue
                kept.append(words)
                reason = f"by_{broken}" if broken else self._low(scores)
                counts["answers_cut_at_limit"] += found["cut"]
                counts["graded"] += reason in (None, "by_grade") and self.assess != "none"
                if reason is None and left == 0:
                    reason = "beyond_most"
                if reason is not None:
                    counts[f"dropped_{reason}"] += 1
                    continue
                left = None if left is None else left - 1
                yield {"parent": draft.parent, **_columns(task)} | {f"{name}_score": n for name, n in scores.items()}

    def _low(self, scores: Mapping[str, int]) -> str | None:
        """Say why the grades of an answer leave it out, if they do."""
        if len(scores) < len(self.shown) - 1:
            return "without_grade"
        return None if not scores or _KEEPS[self.keep](scores, self.threshold) else "by_grade"

    def _earlier(self) -> list[str]:
        """Return the instructions that new ones must differ from."""
        return [task.instruction for source in (self.tasks, self.known) if source for task in _tasks_of(source)]

    def _openings(self, model: Engine, seeds: Sequence[Any]) -> list[tuple[list[Task], str | None]]:
        drafts = self.magpie.draft({"model": model}, seeds)
        return [([] if one.error else [Task(one.found["chat"][0]["content"])], one.error) for one in drafts]

    def _lists(self, model: Engine, seeds: Sequence[Any]) -> list[tuple[list[Task], str | None]]:
        tasks = _tasks_of(self.tasks or "")
        if len(tasks) < self.demonstrations:
            what = f"has {len(tasks)} tasks, and {self.demonstrations} are shown"
            raise DataError(what, place=self.tasks, fix="give more tasks, or show fewer")
        asked = []
        for seed in seeds:
            rng = random.Random(f"i_sheep {self.sampling.seed} {seed.id}")
            drawn = rng.sample(tasks, self.demonstrations)
            asked.append(self._said(self.shown["meta"].render(tasks=self.listed, demonstrations=drawn)))
        stop = tuple(dict.fromkeys((*self.sampling.stop, f"\n{self.listed + 1}.")))
        found = []
        for (one,) in model.generate(asked, replace(self.sampling, stop=stop)):
            read = read_tasks(one.text, self.demonstrations + 1)[: self.rows_per_seed]
            found.append((read, None if read else "the list has no whole task"))
        return found

    def _said(self, text: str) -> Prompt:
        return text if self.form == "raw" else [{"role": "user", "content": text}]

    def _answer(self, model: Engine, works: Sequence[_Work]) -> None:
        ends = "\n" if self.form == "raw" else ""
        asked = [self._said(f"{_question(work.task)}{ends}") for work in works]
        for work, (said,) in zip(works, model.generate(asked, self.answering) if asked else [], strict=True):
            work.task = replace(work.task, output=said.text.strip())
            work.cut = said.finish_reason is FinishReason.LENGTH
            work.broken = first_broken(work.task, OUTPUT_RULES, self.rules)

    def _grade(self, assessor: Engine, name: str, works: Sequence[_Work]) -> None:
        """Ask for one grade of every answer; one that cannot be read is none."""
        slots = [{"instruction": w.task.instruction, "input": w.task.input, "response": w.task.output} for w in works]
        asked = [self._said(self.shown[name].render(**one)) for one in slots]
        for work, (said,) in zip(works, assessor.generate(asked, self.assessing) if asked else [], strict=True):
            work.replies.append(said.text)
            score = self.words.get(read_word(said.text, self.words).value) if self.words else read_score(said.text)
            if score is not None:
                work.scores[name] = score


@dataclass
class _Work:
    """A task on its way to its grades."""

    task: Task
    broken: str | None
    cut: bool = False
    scores: dict[str, int] = field(default_factory=dict)
    replies: list[str] = field(default_factory=list)


def _question(task: Task) -> str:
    return f"{task.instruction}\n{task.input}" if task.input else task.instruction


def _columns(task: Task) -> Row:
    return {
        "prompt": [{"role": "user", "content": _question(task)}],
        "completion": [{"role": "assistant", "content": task.output}],
        "instruction": task.instruction,
        "input": task.input,
    }


def _tasks_of(source: str) -> list[Task]:
    """Return the tasks that records hold: their columns `instruction` and `input`, or else what is asked last."""
    from fairlead import records

    found = []
    for record in records.read(source):
        prompt = getattr(record, "prompt", None) or getattr(record, "completion", "")
        own = record.extra.get("instruction")
        found.append(Task(str(own), str(record.extra.get("input") or "")) if own else Task(last_question(prompt)))
    return [task for task in found if task.instruction.strip()]
