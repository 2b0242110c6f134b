"""Engines whose opinions are known: what they answer to an item is worked out from its text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from fairlead.engines.base import Completion, FinishReason

TEXT = "{{ item }}|{% for label, option in options %}{{ label }}={{ option }};{% endfor %}"


@dataclass(frozen=True)
class Respondent:
    """Answers an item by the option that `opinion` names for its text, with a taste for labels of its own."""

    opinion: Callable[[str], str]
    taste: dict[str, float] = field(default_factory=dict)
    certainty: float = 40.0
    says: Callable[[str], str] | None = None
    mass: float = 1.0
    fingerprint: str = "respondent"

    def _logits(self, prompt) -> dict[str, float]:
        item, _, shown = prompt[-1]["content"].partition("|")
        wanted = self.opinion(item)
        pairs = [part.split("=") for part in shown.split(";") if part]
        return {label: self.certainty * (option == wanted) + self.taste.get(label, 0.0) for label, option in pairs}

    def logprobs(self, prompts, completions):
        found = []
        for prompt, text in zip(prompts, completions, strict=True):
            logits = self._logits(prompt)
            total = np.logaddexp.reduce(list(logits.values()))
            found.append(np.array([logits[text.strip()] - total + np.log(self.mass), -1.0]))
        return found

    def generate(self, prompts, sampling):
        rows = []
        for prompt in prompts:
            logits = self._logits(prompt)
            best = max(logits, key=lambda label: logits[label])
            said = best if self.says is None else self.says(prompt[-1]["content"])
            rows.append([Completion(said, None, None, FinishReason.STOP)] * sampling.n)
        return rows


def by_number(answers: dict[str, int], options: list[str], default: int = 0) -> Callable[[str], str]:
    """Return an opinion that gives the n-th option (from 1) to the item whose text is its key."""
    return lambda item: options[answers.get(item, default or 1) - 1]
