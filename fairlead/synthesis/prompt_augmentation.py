"""Complements to prompts, written and mended by a model, for a small one to learn (PAS, arXiv 2407.06027).

The prompt augmentation of Baichuan Alignment (arXiv 2410.14940, section A): pairs of a prompt and what is to stand
beside it. A critic says of each complement whether it holds; what does not hold is mended or left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from fairlead import prompts as texts
from fairlead.engines.asking import Case, Verdict, ask, attempts
from fairlead.engines.base import Completion, FinishReason, Sampling
from fairlead.errors import UsageError
from fairlead.messages import Message
from fairlead.rewrites import last_user, message_at
from fairlead.synthesis.base import Draft, Row, Synthesizer
from fairlead.synthesis.complements import Pair, read_pairs
from fairlead.verdicts import Reading, objects

if TYPE_CHECKING:
    from fairlead.engines.base import Engine

__all__ = ["PromptAugmentation", "read_critique"]

_NAMES = ("FinalAPE", "Final APE", "Final_APE")


def read_critique(reply: str) -> Reading:
    """Read `(whether the complement holds, the final one)` out of an object with Is_correct and FinalAPE."""
    if not reply.strip():
        return Reading(problem="empty")
    found = objects(reply, ["Is_correct"])
    if len(found) != 1:
        return Reading(problem="several verdicts" if found else "no verdict")
    said = str(found[0]["Is_correct"]).strip().rstrip(".").lower()
    final = next((str(found[0][name]).strip() for name in _NAMES if found[0].get(name) is not None), "")
    if said not in ("yes", "no"):
        return Reading(problem="off the scale")
    if said == "no" and not final:
        return Reading(problem="incomplete")
    return Reading((said == "yes", final))


@dataclass(frozen=True)
class PromptAugmentation(Synthesizer):
    """Prompts with the complement that a rewriter is to add."""

    pairs: str | tuple[Pair, ...] | None = None
    """Prompts with their complements by category, as examples: a YAML file, or the list itself; by default the shipped
    ones."""
    category: str = "category"
    """Column of the seeds that says the category; a seed of none, or of one without examples, is shown the examples of
    all categories."""
    shots: int = 4
    """Most examples that are shown."""
    words: int = 30
    """About how many words are asked for."""
    most_words: int = 60
    """A longer complement is asked for again, and left out in the end."""
    critique: bool = True
    """Whether a critic checks and mends complements; without, they are taken as written."""
    retries: int = 4
    """How often a complement or a critique that is of no use is asked for again."""
    mode: Literal["append", "prepend"] = "append"
    """Where the complement will stand, as in the decoder `rewriter`; it decides nothing but the row's `augmented`."""
    separator: str = "\n"
    """What stands between the prompt and its complement."""
    template: str | None = None
    """What the rewriter that learns from the rows is asked: see the decoder `rewriter`."""
    write_template: str | None = None
    """What the writer reads: the path of a Jinja text, or the text itself. It may use `prompt`, `history`, `examples`
    and `words`."""
    critique_template: str | None = None
    """What the critic reads; it may use `prompt`, `complement` and `words`."""
    sampling: Sampling = Sampling(max_tokens=256, temperature=0.7)
    """How complements are drawn."""
    critique_sampling: Sampling = Sampling(max_tokens=512, temperature=0.0)
    """How critiques are drawn."""

    example: ClassVar[Mapping[str, Any]] = {
        "critique": False,
        "retries": 1,
        "write_template": "{{ prompt }}",
        "template": "{{ prompt }}",
        "sampling": {"max_tokens": 24},
    }
    sources: ClassVar[tuple[str, ...]] = ("pairs", "template", "write_template", "critique_template")
    reads: ClassVar[str] = "prompt"
    makes: ClassVar[str] = "conversation"
    rows_per_seed: ClassVar[int] = 1

    def __post_init__(self) -> None:
        for name, floor in (("shots", 0), ("words", 1), ("most_words", 1), ("retries", 0)):
            if getattr(self, name) < floor:
                what = f"prompt_augmentation.{name} is {getattr(self, name)}"
                raise UsageError(what, fix=f"use a value >= {floor}")
        if self.most_words < self.words:
            what = f"most_words is {self.most_words}, below words, {self.words}"
            raise UsageError(what, place="prompt_augmentation", fix="allow at least as many as are asked for")
        if self.sampling.n != 1 or self.critique_sampling.n != 1:
            raise UsageError("prompt_augmentation draws one complement per prompt", fix="leave n out")
        _ = self.bank, self.asked, self.shown

    @property
    def engines(self) -> Mapping[str, str]:
        """The writer, and the critic where there is one."""
        critic = {"critic": "checks complements and mends them"} if self.critique else {}
        return {"writer": "writes complements", **critic}

    @cached_property
    def bank(self) -> tuple[Pair, ...]:
        """All examples."""
        return read_pairs(self.pairs) if self.pairs is None or isinstance(self.pairs, str) else self.pairs

    @cached_property
    def asked(self) -> texts.PromptText:
        """What the rewriter that learns from the rows is asked."""
        return texts.load("rewriter", "complement", self.template)

    @cached_property
    def shown(self) -> dict[str, texts.PromptText]:
        """What the writer and the critic read."""
        own = {"write": self.write_template, "critique": self.critique_template}
        return {name: texts.load("prompt_augmentation", name, text) for name, text in own.items()}

    def draft(self, engines: Mapping[str, Engine], seeds: Sequence[Any]) -> Iterator[Draft]:
        """Write a complement to every prompt, then have all of them checked."""
        places = [last_user(seed.prompt) for seed in seeds]
        messages = [message_at(seed.prompt, place) for seed, place in zip(seeds, places, strict=True)]
        written = self._written(engines["writer"], seeds, messages)
        checked = [i for i, text in enumerate(written) if text is not None and self.critique]
        cases = [self._case(str(seeds[i].id), messages[i], str(written[i])) for i in checked]
        verdicts: dict[int, Verdict] = {}
        if cases:
            found = ask(engines["critic"], cases, self.critique_sampling, retries=self.retries)
            verdicts = dict(zip(checked, found, strict=True))
        for i, (seed, message) in enumerate(zip(seeds, messages, strict=True)):
            yield self._drafted(seed, message, written[i], verdicts.get(i))

    def finish(self, drafts: Sequence[Draft], counts: Counter[str]) -> Iterator[Row]:
        """Yield what the rewriter is asked with the complement; count those kept as written and those mended."""
        for draft in drafts:
            found = draft.found
            counts["mended" if found["mended"] else "kept"] += 1
            shown = self.asked.render(
                prompt=found["source"], history=found["history"], markers=None, words=self.most_words
            )
            parts = [found["source"], found["complement"]]
            yield {
                "parent": draft.parent,
                "prompt": [{"role": "user", "content": shown}],
                "completion": [{"role": "assistant", "content": found["complement"]}],
                "source": found["source"],
                "augmented": self.separator.join(parts if self.mode == "append" else parts[::-1]),
                "mended": found["mended"],
                "reason": found["reason"],
                "category": found["category"],
            }

    def _written(self, writer: Engine, seeds: Sequence[Any], messages: Sequence[str]) -> list[str | None]:
        """Return each prompt's complement, None where nothing came that can be used."""
        found: list[str | None] = [None] * len(seeds)
        waiting = [i for i, message in enumerate(messages) if message.strip()]
        for how in attempts(writer, self.sampling, self.retries, 0.3):
            asked = [self._question(seeds[i], messages[i]) for i in waiting]
            replies = writer.generate(asked, how) if asked else []
            for i, (reply, *_) in zip(waiting, replies, strict=True):
                found[i] = self._usable(reply)
            waiting = [i for i in waiting if found[i] is None]
        return found

    def _question(self, seed: Any, message: str) -> list[Message]:
        history = [] if isinstance(seed.prompt, str) else [dict(turn) for turn in seed.prompt[: last_user(seed.prompt)]]
        category = seed.extra.get(self.category)
        own = [pair for pair in self.bank if pair.category == category]
        slots = {"prompt": message, "history": history, "examples": (own or self.bank)[: self.shots]}
        return [{"role": "user", "content": self.shown["write"].render(**slots, words=self.words)}]

    def _usable(self, reply: Completion) -> str | None:
        text = reply.text.strip()
        cut = reply.finish_reason is FinishReason.LENGTH
        return None if cut or not text or len(text.split()) > self.most_words else text

    def _case(self, name: str, message: str, complement: str) -> Case:
        shown = self.shown["critique"].render(prompt=message, complement=complement, words=self.words)
        return Case(name, [{"role": "user", "content": shown}], self._read)

    def _read(self, reply: str) -> Reading:
        reading = read_critique(reply)
        if reading.value is not None and not reading.value[0] and len(reading.value[1].split()) > self.most_words:
            return Reading(problem="off the scale")
        return reading

    def _drafted(self, seed: Any, message: str, written: str | None, verdict: Verdict | None) -> Draft:
        if not message.strip():
            return Draft(seed.id, error="it has no user message to complement")
        if written is None:
            return Draft(seed.id, error="no complement of use was written")
        if self.critique and (verdict is None or verdict.value is None):
            failed = verdict is not None and verdict.status == "failed"
            return Draft(seed.id, error="no critique could be read" if not failed else "no critique", failed=failed)
        holds, final = (True, "") if verdict is None else verdict.value
        history = [] if isinstance(seed.prompt, str) else [dict(turn) for turn in seed.prompt[: last_user(seed.prompt)]]
        found = {
            "source": message,
            "history": history,
            "category": seed.extra.get(self.category),
            "complement": written if holds else final,
            "mended": not holds,
            "reason": None if verdict is None else _reason(verdict.reply or ""),
        }
        return Draft(seed.id, found)


def _reason(reply: str) -> str | None:
    said = objects(reply, ["Is_correct"])[0].get("Reason")
    return None if said is None else str(said)
