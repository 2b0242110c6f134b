"""Magpie (Xu et al. 2024, arXiv 2406.08464): instructions that an aligned model writes when it is given nothing.

A chat model has learned the joint distribution of what users ask and what is answered. Given only the text that its
template writes before a user's words, it writes these words; the same model, or another, then answers them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from fairlead import prompts
from fairlead.engines.base import FinishReason, Sampling
from fairlead.errors import RequestError, UnsupportedError, UsageError
from fairlead.messages import Message
from fairlead.synthesis.base import Draft, Row, Synthesizer
from fairlead.synthesis.magpie_draws import Draws, Mix
from fairlead.synthesis.magpie_first import FirstToken, draw_behind, rule_of
from fairlead.synthesis.magpie_sanitiser import Family, sanitised
from fairlead.synthesis.magpie_strings import Strings, Writer, trimmed, writer_of

if TYPE_CHECKING:
    from fairlead.engines.base import Completion, Engine

__all__ = ["Magpie"]


@dataclass(frozen=True)
class Magpie(Synthesizer):
    """Conversations, or prompts alone, out of nothing but a chat template."""

    answers: Literal["model", "answerer", "none"] = "model"
    """Who answers the instructions: the model that wrote them, an engine of its own as the role `answerer`, or nobody,
    which makes prompts."""
    turns: int = 1
    """User turns of a conversation."""
    end_with_user: bool = False
    """Whether nobody answers the last of several turns, which makes prompts that are chats."""
    mix: str | Mix | None = None
    """How instructions are drawn in turn: `air` or `pro` (the paper's mixes), or rows of temperature, top_p and a whole
    weight; None for the temperature of `sampling` alone."""
    domain: Literal["math", "code", "translation"] | None = None
    """What the instructions are about; said in a system text while they are written."""
    system: str | None = None
    """A system text of one's own that says what users will ask, as Jinja or the path of one; stands behind those of
    `domain` and `language`."""
    language: str | None = None
    """The language that instructions are to be written in, by its English name; asked for in the system text too."""
    follow_up: str | None = None
    """System text while later turns are written, as Jinja or a path; "" for none, None for the shipped one."""
    template: str | Strings | None = None
    """The strings of the chat template, for servers: a family (llama-3, qwen2, qwen2.5, gemma, gemma-2, phi-3,
    mistral), or the strings themselves. A model of this process has its own."""
    sanitise: Family | None = None
    """Whose habits are taken out of the instructions: llama-3 or gemma-2; None leaves them as they are."""
    sanitise_first_line: bool = False
    """Whether the sanitiser's last rule cuts an instruction without a question to its first line."""
    first_line: bool = False
    """Whether an instruction ends at its first line break, as in the paper's code; cuts tasks of several lines."""
    first_token: str | FirstToken | None = None
    """A rule for the first token of a chat's first instruction: `llama-3.1` (no "#"), `flaming` (logits divided by
    1.2), or one's own."""
    block: int = 64
    """Instructions drawn with one seed; those of them with one temperature are one request. What is drawn depends on
    it."""
    sampling: Sampling = Sampling(max_tokens=2048)
    """How instructions are drawn; what stands in `stop` ends them too."""
    answering: Sampling = Sampling(temperature=0.0, max_tokens=4096)
    """How answers are drawn."""

    example: ClassVar[Mapping[str, Any]] = {
        "mix": [[1.0, 1.0, 2], [1.2, 0.99, 1]],
        "block": 4,
        "sampling": {"max_tokens": 48},
        "answering": {"max_tokens": 24, "temperature": 0},
    }
    reads: ClassVar[str | None] = None
    rows_per_seed: ClassVar[int] = 1
    sources: ClassVar[tuple[str, ...]] = ("system", "follow_up")

    def __post_init__(self) -> None:
        if self.turns < 1:
            raise UsageError(f"magpie.turns is {self.turns}", fix="use a value >= 1")
        if self.turns > 1 and self.answers == "none":
            fix = "let the model answer, or write one turn"
            raise UsageError("magpie.turns: a later turn follows an answer, and there is none", fix=fix)
        if self.end_with_user and self.turns == 1:
            raise UsageError("magpie.end_with_user: there is one turn", fix="use turns of 2 or more, or answers: none")
        if rule_of(self.first_token) is not None and self.sampling.max_tokens < 2:
            raise UsageError("magpie.sampling.max_tokens leaves nothing behind the first token", fix="use 2 or more")
        for name, sampling in (("sampling", self.sampling), ("answering", self.answering)):
            if sampling.n != 1:
                raise UsageError(f"magpie.{name}.n is {sampling.n}", fix="ask for more instructions with count")
        _ = self.draws, self.systems

    @property
    def engines(self) -> Mapping[str, str]:
        """The model, and the answerer where there is one."""
        roles = {"model": "writes instructions" + (" and answers them" if self.answers == "model" else "")}
        return roles | ({"answerer": "answers them"} if self.answers == "answerer" else {})

    @property
    def makes(self) -> str:
        """Conversations, or prompts where nobody answers the last turn."""
        return "prompt" if self.answers == "none" or self.end_with_user else "conversation"

    @cached_property
    def draws(self) -> Draws:
        """How every instruction is drawn."""
        sampling = self.sampling
        if self.first_line:
            sampling = replace(sampling, stop=tuple(dict.fromkeys((*sampling.stop, "\n"))))
        return Draws.of(self.mix, sampling, self.block)

    @cached_property
    def systems(self) -> tuple[str, str]:
        """The system texts while the first turn and later ones are written; empty for none."""
        parts = [] if self.domain is None else [prompts.load("magpie", self.domain).render()]
        if self.language is not None:
            parts.append(prompts.load("magpie", "language").render(language=self.language))
        if self.system is not None:
            parts.append(prompts.load("magpie", "system", self.system).render())
        later = [] if self.follow_up == "" else [prompts.load("magpie", "follow_up", self.follow_up).render()]
        return "\n\n".join(parts), "\n\n".join([*parts, *later])

    def draft(self, engines: Mapping[str, Engine], seeds: Sequence[Any]) -> Iterator[Draft]:
        """Let the model write the turns of all seeds together, each followed by its answers.

        Raises:
            UnsupportedError: an engine for which the text before a user's words is not known, or that takes no raw
                text.
        """
        writer = writer_of(engines["model"], self.template)
        answerer = engines.get("answerer", engines["model"])
        runs = [_Run(int(seed.id), self.draws.way_of(int(seed.id))) for seed in seeds]
        for turn in range(self.turns):
            live = [run for run in runs if run.ended is None]
            self._write(engines["model"], writer, live, turn)
            live = [run for run in live if run.ended is None]
            if self.answers != "none" and live and not (self.end_with_user and turn == self.turns - 1):
                said = answerer.generate([list(run.chat) for run in live], self.answering)
                for run, (answer,) in zip(live, said, strict=True):
                    run.hear(answer)
        for seed, run in zip(seeds, runs, strict=True):
            if not run.whole(self.makes, self.turns if self.end_with_user else 1):
                yield Draft(seed.id, error=run.ended)
            else:
                yield Draft(seed.id, {"chat": run.chat, "written": run.written, "ended": run.ended, "cut": run.cut,
                                      "way": run.way})  # fmt: skip

    def _write(self, model: Engine, writer: Writer, runs: list[_Run], turn: int) -> None:
        """Let the model write the next user turn of every run."""
        system: list[Message] = [{"role": "system", "content": text}] if (text := self.systems[turn > 0]) else []
        for (block, way), members in self.draws.grouped(run.number for run in runs).items():
            chosen = [(runs[position], rank) for position, rank in members]
            how = self.draws.sampling_of(block, way, 1, turn)
            if turn == 0:
                how = writer.ending(replace(how, n=max(rank for _, rank in chosen) + 1))
                drawn = _first(model, writer.opening(system), how, rule_of(self.first_token))
                found = [drawn[rank] for _, rank in chosen]
            else:
                openings = [writer.opening([*system, *run.chat]) for run, _ in chosen]
                found = [row[0] for row in model.generate(openings, writer.ending(how))]
            for (run, _), completion in zip(chosen, found, strict=True):
                self._take(run, completion, how.stop)

    def _take(self, run: _Run, drawn: Completion, stops: Sequence[str]) -> None:
        text = raw = trimmed(drawn.text, stops)
        number = 0.0
        if self.sanitise is not None:
            text, number = sanitised(raw, self.sanitise, first_line=self.sanitise_first_line)
        if drawn.finish_reason is FinishReason.LENGTH:
            run.ended = "an instruction ran into its limit of tokens"
        elif not text:
            run.ended = "an instruction is empty"
        else:
            run.chat.append({"role": "user", "content": text})
            run.written.append([raw, number])

    def finish(self, drafts: Sequence[Draft], counts: Counter[str]) -> Iterator[Row]:
        """Yield one conversation, or prompt, per draft."""
        for draft in drafts:
            found = draft.found
            chat, written = found["chat"], found["written"]
            counts["turns"] += len(written)
            counts["ended_early"] += found["ended"] is not None
            counts["answers_cut_at_limit"] += found["cut"]
            temperature, top_p, _ = self.draws.mix[found["way"]]
            shown = {"prompt": chat} if self.makes == "prompt" else _columns(chat)
            row: Row = {"parent": draft.parent, **shown, "temperature": temperature, "top_p": top_p}
            if self.turns > 1:
                row |= {"turns": len(written)}
            if self.sanitise is not None:
                row |= {"raw_instruction": written[0][0], "sanitise_rule": written[0][1]}
            yield row


@dataclass
class _Run:
    """A conversation as it grows."""

    number: int
    way: int

    def __post_init__(self) -> None:
        self.chat: list[Message] = []
        self.written: list[list[Any]] = []
        self.ended: str | None = None
        self.cut = 0

    def hear(self, answer: Completion) -> None:
        """Take an answer, or end before its question where it is empty."""
        if answer.text.strip():
            self.chat.append({"role": "assistant", "content": answer.text})
            self.cut += answer.finish_reason is FinishReason.LENGTH
            return
        self.ended = "an answer is empty"
        self.chat.pop()
        self.written.pop()

    def whole(self, makes: str, turns: int) -> bool:
        """Whether there is a turn to keep, or all of them where the last one is the user's."""
        return len(self.chat) >= 2 * turns - (makes == "prompt")


def _first(model: Engine, opening: str, how: Sampling, rule: FirstToken | None) -> list[Completion]:
    """Draw the first user turns; a refusal of the text that all of them follow is none of a single seed."""
    try:
        return draw_behind(model, opening, how, rule)
    except RequestError as error:
        what = f"does not continue the text before a user's words: {error.what}"
        fix = error.fix or "name a server that completes raw text, or a local model"
        raise UnsupportedError(what, place=error.place, fix=fix) from error


def _columns(chat: list[Message]) -> Row:
    return {"prompt": chat[:1], "completion": chat[1:]} if len(chat) == 2 else {"messages": chat}
