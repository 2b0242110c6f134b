"""Judges of tests: engines whose replies are what a function says of the prompt and of how often it was asked."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fairlead.engines.base import Completion, FinishReason

_FRAME = re.compile(r"<(answer(?:-[AB])?|user|text)-([0-9a-f]{8})>\n(.*?)\n</\1-\2>", re.DOTALL)


@dataclass
class Scripted:
    """Replies with `say(shown, time)`: what it was shown, and how often it was asked that before.

    A reply may be an error, which is raised for the whole batch, as engines do.
    """

    say: Any
    label: str = "scripted"
    calls: list[tuple[str, Any]] = field(default_factory=list)
    asked: Counter = field(default_factory=Counter)

    @property
    def fingerprint(self) -> str:
        return self.label

    def generate(self, prompts, sampling):
        rows = []
        for prompt in prompts:
            text = prompt if isinstance(prompt, str) else prompt[-1]["content"]
            self.calls.append((text, sampling))
            said = self.say(shown(text), self.asked[text])
            if isinstance(said, Exception):
                raise said
            self.asked[text] += 1
            cut = said.endswith("...")
            reason = FinishReason.LENGTH if cut else FinishReason.STOP
            rows.append([Completion(said, None, None, reason) for _ in range(sampling.n)])
        return rows

    def logprobs(self, prompts, completions):
        return [np.array([-2.0 if text == "A" else -1.0], dtype=np.float32) for _, text in zip(prompts, completions)]


def shown(text: str) -> dict[str, str]:
    """Return the framed parts of a prompt to a judge, its key, and the whole."""
    found = _FRAME.findall(text)
    key = found[0][1] if found else ""
    parts = {kind: inner for kind, own, inner in found if own == key}
    return {**parts, "key": key, "whole": text}


def longer(parts: dict[str, str], time: int) -> str:
    """A judge that likes the longer answer."""
    gap = len(parts["answer-A"]) - len(parts["answer-B"])
    label = "A>B" if gap > 0 else "B>A" if gap < 0 else "A=B"
    return f'{{"key": "{parts["key"]}", "verdict": "{label}"}}'


@dataclass(frozen=True)
class Says:
    """An engine that answers every prompt with what a function makes of it."""

    label: str
    answer: Any

    @property
    def fingerprint(self) -> str:
        return self.label

    def generate(self, prompts, sampling):
        return [[Completion(self.answer(prompt[-1]["content"], k)) for k in range(sampling.n)] for prompt in prompts]

    def logprobs(self, prompts, completions):
        raise NotImplementedError
