"""Conversations that a model writes behind its template's opening alone, taken as training data.

Source: Barbero et al. 2025, "Extracting alignment data in open models" (arXiv 2510.18554): everything is drawn at
temperature 1, so that what comes out is spread as the data that the model was trained on; what is not whole is counted
and left out. For questions to be trained on with rewards, several answers to each are drawn, and their most common end
stands for the truth.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from fairlead.engines.base import FinishReason, Sampling
from fairlead.errors import UsageError
from fairlead.messages import Message, Prompt
from fairlead.synthesis.base import Draft, Row, Synthesizer
from fairlead.synthesis.magpie_draws import Draws
from fairlead.synthesis.magpie_strings import Strings, trimmed, writer_of

if TYPE_CHECKING:
    from fairlead.engines.base import Completion, Engine

__all__ = ["Extracted"]

_NUMBER = re.compile(r"-?\d+(?:[.,]\d+)*")
_BROKEN = {
    "question cut": "a question ran into its limit of tokens",
    "no question": "there is no question",
    "no answer": "there is no answer",
    "answer cut": "an answer ran into its limit of tokens",
}


@dataclass(frozen=True)
class Extracted(Synthesizer):
    """Questions with their answers, or questions alone, out of what a model remembers of its post-training."""

    prefix: str | None = None
    """What the model is handed, as raw text; by default the text before a user's words in its chat template."""
    mark: str | None = None
    """Text between question and answer, for models that write both in one go behind a plain `prefix`; without, the
    question ends with its turn, and the answer is asked for in a chat."""
    openings: tuple[str, ...] = ("",)
    """Whole words put behind the prefix, by turns, a block each: "" for none, "Solve" to aim at mathematics."""
    template: str | Strings | None = None
    """The strings of the chat template, for servers, as in `magpie`."""
    questions_only: bool = False
    """Whether nobody answers, which makes prompts."""
    votes: int = 1
    """Answers drawn for each question; with more than one, the first of those that end as most do is kept."""
    vote_on: Literal["text", "number"] = "text"
    """What answers must share to end alike: all of their text, or the last number in it."""
    agreement: float = 0.0
    """Least share of the answers to a question that must end alike, with several votes; other questions are left
    out."""
    repeated: bool = False
    """Whether conversations that are equal but for blanks are all kept; else the first of them."""
    block: int = 64
    """Questions drawn with one seed, as one request; what is drawn depends on it."""
    sampling: Sampling = Sampling(max_tokens=2048)
    """How questions are drawn. Anything but temperature 1 hides what is rare."""
    answering: Sampling = Sampling(max_tokens=4096)
    """How answers are drawn."""

    example: ClassVar[Mapping[str, Any]] = {
        "prefix": "what",
        "openings": ["", "is"],
        "votes": 2,
        "block": 4,
        "sampling": {"max_tokens": 48},
        "answering": {"max_tokens": 24},
    }
    engines: ClassVar[Mapping[str, str]] = {"model": "writes questions and answers them; was trained on chats"}
    reads: ClassVar[str | None] = None
    rows_per_seed: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not self.openings or len(set(self.openings)) < len(self.openings):
            fix = 'name each opening once, or use [""] for none'
            raise UsageError(f"extracted.openings is {list(self.openings)}", fix=fix)
        if self.mark is not None and (self.prefix is None or not self.mark.strip()):
            fix = 'write prefix: "question:" and mark: "answer:", or leave the mark out'
            raise UsageError("extracted.mark needs a plain prefix and a text", fix=fix)
        if self.votes < 1 or not 0 <= self.agreement <= 1:
            what = f"votes is {self.votes} and agreement {self.agreement}"
            raise UsageError(f"extracted.{what}", fix="use 1 or more answers, and a share of them")
        if self.votes > 1 and (self.mark is not None or self.questions_only):
            what = "extracted.votes: answers are written with the question, or by nobody"
            raise UsageError(what, fix="leave votes, or mark and questions_only, out")
        if self.agreement and self.votes == 1:
            raise UsageError("extracted.agreement: one answer agrees with itself", fix="use votes of 2 or more")
        for name, sampling in (("sampling", self.sampling), ("answering", self.answering)):
            if sampling.n != 1:
                raise UsageError(f"extracted.{name}.n is {sampling.n}", fix="ask for more questions with count")
        _ = self.draws

    @property
    def makes(self) -> str:
        """Conversations, or prompts where nobody answers."""
        return "prompt" if self.questions_only else "conversation"

    @cached_property
    def draws(self) -> Draws:
        """How every question is drawn."""
        return Draws.of(None, self.sampling, self.block)

    def draft(self, engines: Mapping[str, Engine], seeds: Sequence[Any]) -> Iterator[Draft]:
        """Let the model write the questions of all seeds, block by block, and then their answers.

        Raises:
            UnsupportedError: an engine whose template is out of reach, without a `prefix`.
        """
        model = engines["model"]
        writer = None if self.prefix is not None else writer_of(model, self.template)
        start = self.prefix if writer is None else writer.opening([])
        numbers = [int(seed.id) for seed in seeds]
        found: dict[int, dict[str, Any]] = {}
        for (block, _), members in self.draws.grouped(numbers).items():
            how = self.draws.sampling_of(block, 0, 1 + max(rank for _, rank in members))
            how = how if writer is None else writer.ending(how)
            opening = self.openings[block % len(self.openings)]
            drawn = model.generate([f"{start}{opening}"], how)[0]
            own = {numbers[place]: self._parted(opening, drawn[rank], how.stop) for place, rank in members}
            if self.mark is None and not self.questions_only:
                self._answer(model, own, block)
            found |= own
        for seed in seeds:
            one = found[int(seed.id)]
            broken = one.pop("broken", None)
            yield Draft(seed.id, error=_BROKEN[broken]) if broken else Draft(seed.id, one)

    def _parted(self, opening: str, one: Completion, stops: Sequence[str]) -> dict[str, Any]:
        """Return a question and what is known of it; where a mark parts them, its answer too."""
        cut = one.finish_reason is FinishReason.LENGTH
        text = f"{opening.rstrip()} {trimmed(one.text, stops)}".strip()
        question, mark, answer = text.partition(self.mark) if self.mark is not None else (text, "", "")
        found: dict[str, Any] = {"question": question.strip(), "logprob": _mean(one)}
        if not found["question"]:
            return found | {"broken": "no question"}
        if self.mark is None or self.questions_only:
            return found | ({"broken": "question cut"} if cut and not mark else {})
        if not mark:
            return found | {"broken": "question cut" if cut else "no answer"}
        if cut or not answer.strip():
            return found | {"broken": "answer cut" if cut else "no answer"}
        return found | {"answer": answer.strip()}

    def _answer(self, model: Engine, own: dict[int, dict[str, Any]], block: int) -> None:
        """Ask the questions of a block that are whole, and keep of each the answer that most agree with."""
        asked = {number: one for number, one in own.items() if "broken" not in one}
        prompts: list[Prompt] = [[{"role": "user", "content": one["question"]}] for one in asked.values()]
        how = replace(self.answering, n=self.votes, seed=self.answering.seed + block)
        for one, said in zip(asked.values(), model.generate(prompts, how) if prompts else [], strict=True):
            whole = [a for a in said if a.finish_reason is not FinishReason.LENGTH and a.text.strip()]
            ends = [self._end(answer.text) for answer in whole]
            counts = Counter(end for end in ends if end is not None)
            if not whole:
                cut = any(answer.finish_reason is FinishReason.LENGTH for answer in said)
                one["broken"] = "answer cut" if cut else "no answer"
                continue
            common = max(counts, key=counts.__getitem__) if counts else None
            one["answer"] = whole[ends.index(common)].text.strip()
            if self.votes > 1:
                one |= {"agreement": counts[common] / len(said) if common is not None else 0.0, "end": common}

    def _end(self, answer: str) -> str | None:
        """Return what answers are compared by; None where there is none."""
        if self.vote_on == "text":
            return " ".join(answer.lower().split())
        numbers = _NUMBER.findall(answer)
        return numbers[-1].replace(",", "") if numbers else None

    def finish(self, drafts: Sequence[Draft], counts: Counter[str]) -> Iterator[Row]:
        """Yield one conversation, or prompt, per draft that is kept."""
        there: set[str] = set()
        for draft in drafts:
            found = draft.found
            text = " ".join(f"{found['question']} {found.get('answer', '')}".split())
            if self.votes > 1 and found["agreement"] < self.agreement:
                counts["dropped_disagreement"] += 1
                continue
            if text in there and not self.repeated:
                counts["dropped_repeated"] += 1
                continue
            there.add(text)
            user: Message = {"role": "user", "content": found["question"]}
            row: Row = {"parent": draft.parent, "prompt": [user], "question_logprob": found["logprob"]}
            if not self.questions_only:
                row["completion"] = [{"role": "assistant", "content": found["answer"]}]
            if self.votes > 1:
                row |= {"agreement": found["agreement"], "common_end": found["end"]}
            yield row


def _mean(one: Completion) -> float | None:
    """Return the mean log-prob of a completion's tokens, in nats; None where it was not asked for."""
    if one.logprobs is None or not len(one.logprobs):
        return None
    found = float(one.logprobs.mean())
    return found if math.isfinite(found) else None
