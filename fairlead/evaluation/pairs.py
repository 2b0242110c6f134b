"""Pairs of answers to one prompt: as a judge is shown them in either order, and what needs no judge."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fairlead.engines.asking import Verdict, frame, frame_prompt, key_for, listed, plain_prompt
from fairlead.engines.base import Engine, Sampling
from fairlead.engines.digits import told_logprob
from fairlead.errors import DataError, UnsupportedError
from fairlead.messages import Prompt
from fairlead.verdicts import LABELS, choice_points

__all__ = ["Pair", "framed", "judge_by_choice", "pair_slots", "pairs_of", "reference_answers"]

_AT_ONCE = 64
_FIRST_TOKEN = Sampling(max_tokens=1, temperature=1.0, top_logprobs=20)
"""What a server is asked for log-probs; temperature 1, as some temper what they tell."""


@dataclass(frozen=True, eq=False)
class Pair:
    """An answer and the baseline's answer to one prompt."""

    id: str
    """The record's."""
    sample: int
    """Number of the answer."""
    prompt: Prompt
    """What both answer."""
    baseline: str | None
    """The baseline's answer; None where it has none."""
    answer: str
    """The other."""

    @property
    def open(self) -> bool:
        """Whether a judge has anything to say."""
        return self.baseline is not None and self.baseline != self.answer

    @property
    def settled(self) -> Verdict:
        """The verdict of an order in which no judge is asked."""
        if self.baseline is None:
            return Verdict(None, "no answer", None, 0)
        return Verdict(None, "not asked", None, 0) if self.open else Verdict("A=B", "equal", None, 0)

    @property
    def gap(self) -> int:
        """Characters by which the answer is longer than the baseline's."""
        return len(self.answer) - len(self.baseline or "")

    def orders(self, how: Literal["both", "random"]) -> tuple[bool, ...]:
        """Return whether the baseline is shown second, for each time that the pair is judged."""
        if how == "both":
            return (False, True)
        both = sorted((self.baseline or "", self.answer))
        coin = hashlib.sha256(json.dumps([plain_prompt(self.prompt), *both]).encode()).digest()[0] % 2
        # The coin names the text that is shown first, whichever side it is on.
        return (both[coin] == self.answer,)


def pairs_of(
    records: Sequence[Any],
    prompts: Sequence[Prompt],
    baseline: Sequence[Sequence[str | None]],
    answers: Sequence[Sequence[str]],
) -> list[Pair]:
    """Return sample i beside sample i of every record's answers [N][n], in the order of the records."""
    columns = zip(records, prompts, baseline, answers, strict=True)
    return [
        Pair(str(record.id), i, prompt, before, after)
        for record, prompt, befores, afters in columns
        for i, (before, after) in enumerate(zip(befores, afters, strict=True))
    ]


def pair_slots(pair: Pair, swapped: bool) -> dict[str, Any]:
    """Return what a judge's text may use for one order of a pair."""
    a, b = (pair.answer, pair.baseline or "") if swapped else (pair.baseline or "", pair.answer)
    return {**framed(pair.prompt, a, b), "labels": LABELS}


def framed(prompt: Prompt, a: str, b: str) -> dict[str, Any]:
    """Return a prompt and two answers as a judge's text may use them, plain and in marks that bear their key."""
    key = key_for(prompt, a, b)
    return {
        "conversation": frame_prompt(prompt, key),
        "answer_a": frame("answer-A", a, key),
        "answer_b": frame("answer-B", b, key),
        "question": plain_prompt(prompt),
        "a": a,
        "b": b,
        "key": key,
    }


def judge_by_choice(judge: Engine, shown: Sequence[Prompt]) -> list[Verdict]:
    """Return the points of the answer shown second, from the judge's log-probs of "A" and "B".

    A server says those of the likeliest tokens to begin with; a label that is not among them has no probability.

    Raises:
        UnsupportedError: a judge that gives no log-probs.
    """
    verdicts = []
    for start in range(0, len(shown), _AT_ONCE):
        part = shown[start : start + _AT_ONCE]
        for first, second in _labels(judge, part):
            points = choice_points(first, second)
            known = not np.isnan(points)
            verdicts.append(Verdict(points if known else None, "ok" if known else "no verdict", None, 1))
    return verdicts


def _labels(judge: Engine, shown: Sequence[Prompt]) -> list[tuple[float, float]]:
    """Return the log-probs of "A" and of "B" as a reply to each prompt."""
    try:
        found = judge.logprobs([prompt for prompt in shown for _ in "AB"], ["A", "B"] * len(shown))
    except UnsupportedError:
        if not getattr(judge, "remote", False):
            raise
        replies = [row[0].extra.get("top_logprobs") or [{}] for row in judge.generate(shown, _FIRST_TOKEN)]
        return [(told_logprob("A", places[0]), told_logprob("B", places[0])) for places in replies]
    sums = [float(np.sum(values)) for values in found]
    return list(zip(sums[::2], sums[1::2], strict=True))


def reference_answers(source: str, prompts: Sequence[Prompt]) -> list[str | None]:
    """Return the answers that conversations of `source` hold to prompts, found by the prompt; None where there is none.

    Raises:
        DataError: two different answers to one of the prompts.
    """
    from fairlead import records

    found: dict[str, str] = {}
    unlike: dict[str, str] = {}
    for record in records.read(source, kind="conversation"):
        prompt, answer = _split(record)
        key = _key(prompt)
        if found.setdefault(key, answer) != answer:
            unlike[key] = str(record.id)
    wanted = [_key(prompt) for prompt in prompts]
    twice = [unlike[key] for key in wanted if key in unlike]
    if twice:
        what = f"{len(twice)} prompts have two different answers, among them those of rows {listed(twice)}"
        raise DataError(what, place=source, fix="keep one answer per prompt")
    return [found.get(key) for key in wanted]


def _split(record: Any) -> tuple[Prompt, str]:
    turns = record.completion
    if isinstance(turns, str):
        return record.prompt, turns
    before = list(record.prompt or []) if not isinstance(record.prompt, str) else []
    *earlier, last = turns
    return [*before, *earlier], last["content"]


def _key(prompt: Prompt) -> str:
    plain = prompt if isinstance(prompt, str) else [[turn["role"], turn["content"]] for turn in prompt]
    # A raw text is the same question as a conversation of that one turn.
    if isinstance(plain, str):
        plain = [["user", plain]]
    return json.dumps(plain)
