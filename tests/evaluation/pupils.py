"""Engines that answer questions with options in a known way: by the options, the conversation and the letters shown."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fairlead.engines.base import Completion, FinishReason


@dataclass(frozen=True)
class Pupil:
    """Chooses the option whose text `chooses` returns for a conversation; `letters` adds a taste for a letter."""

    chooses: Callable[[list[dict]], str | None]
    letters: str = ""
    fingerprint: str = "pupil"

    def _wanted(self, prompt) -> str:
        choice = self.chooses(prompt)
        asked = "\n".join(turn["content"] for turn in prompt if turn["role"] == "user")
        shown = dict(re.findall(r"^([A-Z])\. (.*)$", asked, re.MULTILINE))
        named = {text: letter for letter, text in shown.items()}
        return "hm" if choice is None else named.get(choice, choice)

    def logprobs(self, prompts, completions):
        found = []
        for prompt, text in zip(prompts, completions, strict=True):
            score = 0.0 if self._wanted(prompt) == text.strip() else -8.0
            found.append(np.array([score + 3.0 * (text.strip() == self.letters), -1.0]))
        return found

    def generate(self, prompts, sampling):
        return [[Completion(self._wanted(p), None, None, FinishReason.STOP)] * sampling.n for p in prompts]


def believed(prompt) -> str | None:
    """Return the option that the user says it believes in."""
    found = re.search(r"I think that the answer is (\w+),", prompt[-1]["content"])
    return found[1] if found else None
