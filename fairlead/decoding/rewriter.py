"""A rewriter in front of the answerer: the last user message is written anew, or gets a complement, before it is asked.

Replacing follows P-Aligner (arXiv 2508.04626), appending follows PAS (arXiv 2407.06027; Baichuan Alignment, 2410.14940,
section A). A rewrite that cannot be used leaves the message as it is, and `extra` says why.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal

from fairlead import prompts as texts
from fairlead.decoding.base import Decoder, EngineSpec
from fairlead.engines.base import Completion, FinishReason, Sampling
from fairlead.engines.desk import Desk
from fairlead.engines.programs import Program
from fairlead.engines.streaming import Listener
from fairlead.errors import UsageError
from fairlead.messages import Prompt
from fairlead.rewrites import between, last_user, losses, message_at, with_message

__all__ = ["Rewrite", "Rewriter"]


@dataclass(frozen=True)
class Rewrite:
    """What became of one prompt."""

    prompt: Prompt
    """What the answerer is asked."""
    status: str
    """`rewritten`; or why the prompt is as it was: `unchanged`, `skipped`, `blank` (no user message, or an empty one),
    `cut` (the reply ran into its token limit), `unmarked`, `empty`, `too_long`, `lost` (a number, address or code block
    is missing)."""
    reply: str | None
    """What the rewriter said; None when it was not asked."""


_JOINS: dict[str, Callable[[str, str, str], str]] = {
    "replace": lambda message, new, separator: new,
    "append": lambda message, new, separator: f"{message}{separator}{new}",
    "prepend": lambda message, new, separator: f"{new}{separator}{message}",
}
"""mode -> how the message and what the rewriter wrote become the new message."""
_TEXTS = {"replace": "replace", "append": "complement", "prepend": "complement"}


@dataclass(frozen=True)
class Rewriter(Decoder):
    """An engine that improves the last user message, and one that answers what comes of it."""

    engine: EngineSpec
    """Who answers."""
    rewriter: EngineSpec
    """Who rewrites; it is asked in one user message, once per prompt."""
    mode: Literal["replace", "append", "prepend"] = "replace"
    """What the rewriter's reply does: takes the message's place, or stands behind it or before it."""
    template: str | None = None
    """The message to the rewriter: the path of a Jinja text, or the text itself; by default the shipped text of the
    mode. It may use `prompt`, `history` (the turns before), `markers` and `words`; "{{ prompt }}" suits a model that
    was trained to rewrite."""
    markers: tuple[str, str] | None = None
    """Texts around the rewrite in the rewriter's reply; by default the whole reply is the rewrite."""
    separator: str = "\n"
    """What stands between the message and its complement."""
    sampling: Sampling = Sampling(max_tokens=256, temperature=0.0)
    """How the rewriter draws; greedy by default."""
    max_words: int | None = None
    """Longest rewrite or complement in words; a longer one is not used. PAS asks for about 30 and drops above 60."""
    guard: bool = True
    """Whether a replacement that loses a number, an address or a code block of the message is not used."""
    skip: tuple[str, ...] = ()
    """Regular expressions; a message in which one is found is not rewritten."""

    adjustable: ClassVar[tuple[str, ...]] = ("max_words", "guard")
    example: ClassVar[Mapping[str, Any]] = {
        "engine": "harbor:base-300k",
        "rewriter": "harbor:aligned-300k",
        "mode": "append",
        "template": "{{ prompt }}",
        "sampling": {"max_tokens": 12, "temperature": 0},
    }

    @classmethod
    def files(cls, settings: Mapping[str, Any]) -> dict[str, str]:
        """Return the template, where it is a file of the user's."""
        path = texts.file_of(settings.get("template"))
        return {} if path is None else {"template": path}

    def __post_init__(self) -> None:
        if self.sampling.n != 1:
            raise UsageError(f"rewriter.sampling.n is {self.sampling.n}", fix="leave it at 1: one rewrite per prompt")
        if self.max_words is not None and self.max_words < 1:
            raise UsageError(f"rewriter.max_words is {self.max_words}", fix="use at least 1, or leave it out")
        if self.markers is not None and not all(self.markers):
            raise UsageError("rewriter.markers has an empty text", fix='give both, as in ["<new>", "</new>"]')
        for pattern in self.skip:
            try:
                re.compile(pattern)
            except re.error as error:
                raise UsageError(f"rewriter.skip: {pattern!r} is no regular expression: {error}") from error
        _ = self.text

    @cached_property
    def text(self) -> texts.PromptText:
        """The message to the rewriter, with its slots."""
        return texts.load("rewriter", _TEXTS[self.mode], self.template)

    @property
    def fingerprint(self) -> str:
        """Return 64 hex digits that change with the settings, the words of the template and every part."""
        return hashlib.sha256(f"{super().fingerprint}\n{self.text.source}".encode()).hexdigest()

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """Return `sampling.n` completions per prompt, each an answer to the rewritten prompt.

        `extra["rewrites"]` lists what became of the prompt: `prompt` as the answerer saw it, `status` and `reply` (see
        `Rewrite`); the first entry is this decoder's, others are of rewriters further in.

        Raises:
            UsageError: a template that asks for something that it is not given.
        """
        made = self.rewrite(prompts)
        drawn = self.parts["engine"].generate([one.prompt for one in made], sampling)
        return [[_told(answer, one) for answer in answers] for one, answers in zip(made, drawn, strict=True)]

    def rewrite(self, prompts: Sequence[Prompt]) -> list[Rewrite]:
        """Return what becomes of each prompt, without answering any."""
        questions = [self._question(prompt) for prompt in prompts]
        asked = [question for question in questions if question is not None]
        replies = iter(self.parts["rewriter"].generate(asked, self.sampling) if asked else [])
        return [
            self._left(prompt) if question is None else self._rewritten(prompt, next(replies)[0])
            for prompt, question in zip(prompts, questions)
        ]

    def answer(
        self, prompt: Prompt, index: int, sampling: Sampling, desk: Desk, tell: Listener | None = None
    ) -> Program[Completion]:
        """Make answer number `index` to what the rewriter makes of a prompt."""
        made, question = self._left(prompt), self._question(prompt)
        if question is not None:
            reply = yield from desk.answer(self.parts["rewriter"], question, 0, self.sampling)
            made = self._rewritten(prompt, reply)
        drawn = yield from desk.answer(self.parts["engine"], made.prompt, index, sampling, tell)
        return _told(drawn, made)

    def _left(self, prompt: Prompt) -> Rewrite:
        """Return what becomes of a prompt about which the rewriter is not asked."""
        return Rewrite(prompt, "skipped" if message_at(prompt, last_user(prompt)).strip() else "blank", None)

    def _rewritten(self, prompt: Prompt, reply: Completion) -> Rewrite:
        place = last_user(prompt)
        message = message_at(prompt, place)
        status, new = self._read(message, reply)
        if status == "rewritten":
            new = _JOINS[self.mode](message, new, self.separator)
        return Rewrite(with_message(prompt, place, new), status, reply.text)

    def _question(self, prompt: Prompt) -> Prompt | None:
        """Return what the rewriter is asked about a prompt, if anything."""
        place = last_user(prompt)
        message = message_at(prompt, place)
        if not message.strip() or any(re.search(pattern, message) for pattern in self.skip):
            return None
        history = [] if isinstance(prompt, str) else [dict(turn) for turn in prompt[:place]]
        asked = self.text.render(prompt=message, history=history, markers=self.markers, words=self.max_words)
        return [{"role": "user", "content": asked}]

    def _read(self, message: str, reply: Completion) -> tuple[str, str]:
        """Return the status of a reply, and the rewrite in it, or the message where there is none to use."""
        found = reply.text if self.markers is None else between(reply.text, *self.markers)
        ended = reply.finish_reason is not FinishReason.LENGTH
        if self.markers is not None and found is not None:
            ended = ended or self.markers[1] in reply.text.rpartition(self.markers[0])[2]
        new = (found or "").strip()
        faults = {
            "unmarked": found is None,
            "cut": not ended,
            "empty": not new,
            "too_long": self.max_words is not None and len(new.split()) > self.max_words,
            "unchanged": self.mode == "replace" and new == message.strip(),
            "lost": self.mode == "replace" and self.guard and bool(losses(message, new)),
        }
        status = next((fault for fault, holds in faults.items() if holds), "rewritten")
        return status, new if status == "rewritten" else message


def _told(answer: Completion, one: Rewrite) -> Completion:
    prompt = one.prompt if isinstance(one.prompt, str) else [dict(turn) for turn in one.prompt]
    told = {"prompt": prompt, "status": one.status, "reply": one.reply}
    return replace(answer, extra={**answer.extra, "rewrites": [told, *answer.extra.get("rewrites", [])]})
