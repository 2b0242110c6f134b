"""URIAL: a base model answers as an assistant would, because its prompt begins with a few answers in that manner.

Nothing is trained: the beginning is constant, and a local model computes it once for all prompts of a call.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, ClassVar, Literal

import numpy as np

from fairlead import prompts as texts
from fairlead import records
from fairlead.decoding.base import Decoder, EngineSpec
from fairlead.decoding.layouts import Layout, load_layout, read_yaml
from fairlead.engines.base import Completion, Engine, FinishReason, Sampling
from fairlead.engines.desk import Desk
from fairlead.engines.programs import Program
from fairlead.engines.streaming import Listener, revised
from fairlead.errors import RenderError, UnsupportedError, UsageError
from fairlead.fields import to_plain
from fairlead.messages import Message, Prompt

__all__ = ["Urial"]

_CHAT = "chat"
_SETS = ("general", "harbor")
_KEYS = {"query", "answer", "plain", "declines"}


@dataclass(frozen=True)
class Urial(Decoder):
    """Untuned alignment by a constant prompt: a system text and `k` examples before every question."""

    engine: EngineSpec
    """Who answers: a base model."""
    examples: str | tuple[dict[str, Any], ...] = "general"
    """The examples: a shipped set (general, harbor), a YAML file like those, records of conversations (a file or
    `harbor:SET`), or the examples themselves, each with `query` and `answer` and, if wanted, `plain` and `declines`."""
    k: int = 3
    """Examples taken, the first ones of the set. 0 is the zero-shot template."""
    answers: Literal["styled", "plain"] = "styled"
    """Whether the examples are answered in the manner of an assistant (styled) or in as few words as will do (plain,
    which makes it ordinary in-context learning)."""
    layout: str = "fenced"
    """How turns are written: fenced (headings and code fences), lines (`question: ... answer: ...`), chat (the model's
    own chat template), or the path of a YAML file like the first two."""
    system: str | None = None
    """Jinja text that stands before the examples, or the path of one; "" for none; by default the
    set's, else the shipped one."""
    safe: bool = True
    """Whether the system text forbids what does harm, and the set's examples that decline a request are used."""
    stop_anywhere: bool = False
    """Whether a stop text ends an answer in the middle of a line too."""

    adjustable: ClassVar[tuple[str, ...]] = ("k", "answers", "safe", "stop_anywhere")
    example: ClassVar[Mapping[str, Any]] = {"engine": "harbor:base-300k", "examples": "harbor", "layout": "chat"}

    def __post_init__(self) -> None:
        if self.k < 0:
            raise UsageError(f"k is {self.k}", fix="use 0 (no examples) or more")
        _ = self._written, self.shots, self.system_text

    @classmethod
    def files(cls, settings: Mapping[str, Any]) -> dict[str, str]:
        """Return the files and data sets among `settings`, by field."""
        own = {"system": texts.file_of(settings.get("system") or None)}
        examples, layout = settings.get("examples"), settings.get("layout")
        own["examples"] = examples if isinstance(examples, str) and examples not in _SETS else None
        own["layout"] = layout if isinstance(layout, str) and layout.endswith((".yaml", ".yml")) else None
        return {name: source for name, source in own.items() if source is not None}

    @cached_property
    def shots(self) -> tuple[Message, ...]:
        """The examples as turns."""
        key = "answer" if self.answers == "styled" else "plain"
        chosen = [shot for shot in self._set[1] if self.safe or not shot.get("declines")]
        if self.k > len(chosen):
            raise UsageError(
                f"k is {self.k}, and there are {len(chosen)} examples", fix="lower k, or give more examples"
            )
        turns: list[Message] = []
        for shot in chosen[: self.k]:
            if key not in shot:
                raise UsageError(
                    f"the example {shot['query']!r} has no {key!r}", fix="add it, or use other examples or answers"
                )
            turns.append({"role": "user", "content": shot["query"]})
            turns.append({"role": "assistant", "content": shot[key]})
        return tuple(turns)

    @cached_property
    def system_text(self) -> str:
        """What stands before the examples; may be empty."""
        own = self._set[0] if self.system is None else self.system
        if own == "":
            return ""
        described = self._written.described if self._written else ""
        return texts.load("urial", "system", own).render(described=described.strip(), safe=self.safe)

    @property
    def fingerprint(self) -> str:
        """Return 64 hex digits that change with the settings, the engine and every text before the question."""
        said = [super().fingerprint, self.system_text, self.shots, to_plain(self._written)]
        return hashlib.sha256(json.dumps(said, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    def assemble(self, prompt: Prompt) -> Prompt:
        """Return what the engine is given: a text, or with the layout `chat` a list of messages.

        A raw text is taken as the user's question. A system message of the prompt follows the system text.

        Raises:
            RenderError: a prompt that does not end with the user's turn, or with a role that is out of place.
        """
        turns: list[Message] = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
        system = [self.system_text] if self.system_text else []
        if turns and turns[0]["role"] == "system":
            system.append(turns.pop(0)["content"])
        roles = [turn["role"] for turn in turns]
        if not roles or roles[-1] != "user" or not {"user", "assistant"} >= set(roles):
            raise RenderError(
                f"the turns {', '.join(roles) or '(none)'} leave nothing to answer",
                place="urial",
                fix="begin with the system message if there is one, and end with the user's",
            )
        before = "\n\n".join(system)
        if self._written is None:
            opening: list[Message] = [{"role": "system", "content": before}] if before else []
            return [*opening, *self.shots, *turns]
        return self._written.write(before, [*self.shots, *turns])

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """Return `sampling.n` completions per prompt, in the order of the prompts.

        The text is the cleaned answer; `token_ids` and `logprobs` are those drawn. `extra["raw"]` is the text as the
        engine gave it.
        """
        asked, layout = [self.assemble(prompt) for prompt in prompts], self._written
        if layout is None:
            return self.parts["engine"].generate(asked, sampling)
        drawn = self.parts["engine"].generate(asked, self._stopping(layout, sampling))
        return [[self._read(layout, answer, not sampling.stop) for answer in answers] for answers in drawn]

    def answer(
        self, prompt: Prompt, index: int, sampling: Sampling, desk: Desk, tell: Listener | None = None
    ) -> Program[Completion]:
        """Make answer number `index`, told as it is cleaned."""
        asked, layout, engine = self.assemble(prompt), self._written, self.parts["engine"]
        if layout is None:
            return (yield from desk.answer(engine, asked, index, sampling, tell))
        heard = revised(tell, partial(layout.settled, anywhere=self.stop_anywhere))
        drawn = yield from desk.answer(engine, asked, index, self._stopping(layout, sampling), heard)
        return self._read(layout, drawn, not sampling.stop)

    def logprobs(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> list[np.ndarray]:
        """Return the log-probs of answers behind the examples; float32 [T_i] each.

        Raises:
            UnsupportedError: any layout but `chat`, whose answers are cleaned before they are seen.
        """
        if self._written is not None:
            return super().logprobs(prompts, completions)
        return self.parts["engine"].logprobs([self.assemble(prompt) for prompt in prompts], completions)

    def passes_on(self, prompts: Sequence[Prompt]) -> tuple[Engine, list[Prompt]] | None:
        """Return the engine and its prompts in the layout `chat`; other layouts clean the answers as well."""
        return None if self._written is not None else (self.parts["engine"], [self.assemble(p) for p in prompts])

    @cached_property
    def _written(self) -> Layout | None:
        return None if self.layout == _CHAT else load_layout(self.layout)

    @cached_property
    def _set(self) -> tuple[str | None, list[dict[str, Any]]]:
        """The set's own system text, and its examples."""
        if not isinstance(self.examples, str):
            return None, [_checked(shot, f"example {i + 1}") for i, shot in enumerate(self.examples)]
        if self.examples in _SETS or self.examples.endswith((".yaml", ".yml")):
            place, values = read_yaml("examples", self.examples)
            shots = values.get("examples")
            if set(values) - {"system", "examples"} or not isinstance(shots, list):
                raise UsageError(f"has the keys {', '.join(values)}", place=place, fix="write `examples`, a list")
            return values.get("system"), [_checked(s, f"{place}, example {i + 1}") for i, s in enumerate(shots)]
        read = records.read(self.examples, kind="conversation", limit=self.k or 1)
        return None, [_of_record(record) for record in read]

    def _stopping(self, layout: Layout, sampling: Sampling) -> Sampling:
        if sampling.min_tokens:
            what = f"an answer in the layout {self.layout} ends with its text, after any number of tokens"
            raise UnsupportedError(what, place="sampling.min_tokens", fix="leave it out, or use the layout chat")
        return replace(sampling, stop=(*sampling.stop, *layout.stop_texts(self.stop_anywhere)))

    def _read(self, layout: Layout, drawn: Completion, to_the_end: bool) -> Completion:
        text, ended = layout.cut(drawn.text, self.stop_anywhere)
        return replace(
            drawn,
            text=layout.clean(text, to_the_end=to_the_end or ended),
            finish_reason=FinishReason.STOP if ended else drawn.finish_reason,
            extra={**drawn.extra, "raw": drawn.text},
        )


def _checked(shot: Any, place: str) -> dict[str, Any]:
    """Return an example that says what it must and nothing else."""
    fix = "write `query` and `answer`, and if wanted `plain` (text) and `declines` (true)"
    if not isinstance(shot, Mapping) or set(shot) - _KEYS or not {"query", "answer"} <= set(shot):
        raise UsageError(f"is {shot!r}", place=place, fix=fix)
    if not all(isinstance(shot[key], bool if key == "declines" else str) for key in shot):
        raise UsageError(f"has a value of the wrong type: {shot!r}", place=place, fix=fix)
    return dict(shot)


def _of_record(record: Any) -> dict[str, Any]:
    """Return a record of one question and its answer as an example."""
    asked, said = record.prompt, record.completion
    turns = ([{"role": "user", "content": asked}] if isinstance(asked, str) else [*asked]) + (
        [{"role": "assistant", "content": said}] if isinstance(said, str) else [*said]
    )
    if [turn["role"] for turn in turns] != ["user", "assistant"]:
        raise UsageError("is not one question and its answer", place=record.id, fix="use records of one turn each")
    return {"query": turns[0]["content"], "answer": turns[1]["content"]}
