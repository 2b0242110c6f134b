"""Questions with options: how they are put before an engine, in which orders, and which option it chooses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fairlead.engines.asking import listed
from fairlead.engines.base import Engine, Sampling
from fairlead.errors import UsageError
from fairlead.evaluation.choices import LETTERS, option_logprobs, probabilities, read_option
from fairlead.evaluation.samples import GREEDY, draw
from fairlead.messages import Message, Prompt

__all__ = ["Choice", "Choosing", "notes_on_choices", "speak"]

_TIE = 1e-9


@dataclass(frozen=True)
class Choice:
    """What an engine chose."""

    option: int | None
    """Number of the option, from 0; None where it chose none."""
    problem: str | None
    """Why it chose none: what its replies were, or `tie`."""
    replies: tuple[str | None, ...]
    """What it answered to every order of the options; None where nothing can be said to be its answer."""


@dataclass(frozen=True, kw_only=True)
class Choosing:
    """What all evaluators have whose questions come with options."""

    mode: Literal["logprobs", "text"] = "logprobs"
    """Whether the likeliest option is the choice, or what the engine writes."""
    labels: Literal["letters", "none"] = "letters"
    """Whether options are shown with letters, in all their rotations; `none` shows no options and values the whole text
    of each as an answer."""
    text: str = "{question}\n\n{options}\n\nAnswer with the letter of one option."
    """How a question and its options are shown, with letters."""
    sampling: Sampling = GREEDY
    """How replies are drawn, one per question and order; `logprobs` draws nothing."""
    confidence: float = 0.95
    """Coverage of the intervals, between 0 and 1."""
    seed: int = 0
    """Randomness of the bootstrap."""

    def __post_init__(self) -> None:
        if "{question}" not in self.text or "{options}" not in self.text:
            raise UsageError(f"text is {self.text!r}", fix="let it have {question} and {options}")
        if self.sampling.n != 1:
            raise UsageError(f"sampling.n is {self.sampling.n}", fix="one reply per question is read")
        if not 0 < self.confidence < 1:
            raise UsageError(f"confidence is {self.confidence}", fix="use a share between 0 and 1, such as 0.95")

    def show(self, prompt: Sequence[Message], options: Sequence[str]) -> list[list[Message]]:
        """Return what an engine reads: the conversation with its options, once for every order of theirs."""
        if self.labels == "none":
            return [list(prompt)]
        if len(options) > len(LETTERS):
            raise UsageError(f"{len(options)} options are more than letters", fix="use labels: none")
        shown = []
        for order in _orders(len(options)):
            listing = "\n".join(f"{LETTERS[place]}. {options[k]}" for place, k in enumerate(order))
            *before, last = prompt
            asked = self.text.replace("{question}", "\0").replace("{options}", listing)
            shown.append([*before, Message(role="user", content=asked.replace("\0", last["content"]))])
        return shown

    def choose(
        self, name: str, engine: Engine, asked: Sequence[Sequence[Prompt]], options: Sequence[Sequence[str]]
    ) -> list[Choice]:
        """Return what engine `name` chooses: one choice per question.

        Args:
            name: what the engine is called.
            engine: who is asked.
            asked: N questions in all orders of their options, as `show` gives them, or with further turns behind.
            options: the options [K_i] of each question.

        The options' probabilities, or the shares of the replies, are averaged over the orders, and the highest is the
        choice. Equal ones are a tie, and no choice.
        """
        flat = [prompt for prompts in asked for prompt in prompts]
        which = [i for i, prompts in enumerate(asked) for _ in prompts]
        if not flat:
            return []
        if self.mode == "logprobs":
            chances = self._likely(engine, flat, [self._names(options[i], t) for i, t in _turns(which)])
            said: list[str] = []
            problems: list[str | None] = [None] * len(flat)
        else:
            said = [group[0].text for group in draw({name: engine}, flat, self.sampling)[name]]
            chances, problems = self._read(said, [(options[i], t) for i, t in _turns(which)])
        found, start = [], 0
        for prompts, texts in zip(asked, options, strict=True):
            part = slice(start, start + len(prompts))
            found.append(self._joined(chances[part], problems[part], said[part], texts))
            start += len(prompts)
        return found

    def _names(self, options: Sequence[str], turn: int) -> list[str]:
        """Return what the engine would say to choose each option, in their own order."""
        if self.labels == "none":
            return list(options)
        place = {k: at for at, k in enumerate(_orders(len(options))[turn])}
        return [LETTERS[place[k]] for k in range(len(options))]

    def _likely(self, engine: Engine, prompts: Sequence[Prompt], names: Sequence[Sequence[str]]) -> list[np.ndarray]:
        found = option_logprobs(engine, prompts, names, whole=self.labels == "none")
        return [probabilities(one) for one in found]

    def _read(
        self, said: Sequence[str], of: Sequence[tuple[Sequence[str], int]]
    ) -> tuple[list[np.ndarray], list[str | None]]:
        chances, problems = [], []
        for reply, (options, turn) in zip(said, of, strict=True):
            order = _orders(len(options))[turn]
            labels = list(LETTERS[: len(options)]) if self.labels == "letters" else []
            reading = read_option(reply, labels, [options[k] for k in order])
            found = np.full(len(options), np.nan)
            if reading.value is not None:
                found = np.zeros(len(options))
                found[order[reading.value]] = 1.0
            chances.append(found)
            problems.append(reading.problem)
        return chances, problems

    def _joined(
        self, chances: Sequence[np.ndarray], problems: Sequence[str | None], said: Sequence[str], options: Sequence[str]
    ) -> Choice:
        kept = [found for found in chances if not np.isnan(found).any()]
        if not kept:
            named = Counter(problem or "no option is possible" for problem in problems)
            return Choice(None, named.most_common(1)[0][0], tuple(said) or (None,) * len(chances))
        mean = np.mean(kept, axis=0)
        best = np.flatnonzero(mean >= mean.max() - _TIE)
        option = int(best[0]) if len(best) == 1 else None
        replies: tuple[str | None, ...] = tuple(said)
        if self.mode == "logprobs":
            turns = range(len(chances))
            replies = tuple(None if option is None else self._spoken(options, turn, option) for turn in turns)
        return Choice(option, "tie" if option is None else None, replies)

    def _spoken(self, options: Sequence[str], turn: int, option: int) -> str:
        if self.labels == "none":
            return options[option]
        return f"{self._names(options, turn)[option]}. {options[option]}"


def speak(prompt: Sequence[Message], words: str) -> list[Message]:
    """Return a conversation whose last user turn goes on with these words; nothing is added where there are none."""
    *before, last = prompt
    content = f"{last['content']} {words}" if words else last["content"]
    return [*before, Message(role=last["role"], content=content)]


def notes_on_choices(name: str, ids: Sequence[str], choices: Mapping[str, Sequence[Choice]]) -> list[str]:
    """Say how often engine `name` chose nothing, why, and at which ids [N], for every way of asking."""
    notes = []
    for way, found in choices.items():
        missing = [(one, choice.problem) for one, choice in zip(ids, found, strict=True) if choice.option is None]
        if missing:
            reasons = ", ".join(f"{why} {n}" for why, n in sorted(Counter(str(why) for _, why in missing).items()))
            named = listed(list(dict.fromkeys(one for one, _ in missing)))
            notes.append(f"{name}: {len(missing)} of {len(found)} without a choice, {way} ({reasons}): {named}")
    return notes


def _orders(count: int) -> list[list[int]]:
    """Return all rotations of so many options."""
    return [[(k + turn) % count for k in range(count)] for turn in range(count)]


def _turns(which: Sequence[int]) -> list[tuple[int, int]]:
    """Return (question, order) for prompts that come question by question."""
    seen: Counter[int] = Counter()
    found = []
    for i in which:
        found.append((i, seen[i]))
        seen[i] += 1
    return found
