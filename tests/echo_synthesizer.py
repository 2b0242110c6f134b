"""A synthesizer whose rows can be worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from fairlead.engines.base import Completion, Sampling
from fairlead.synthesis.base import Draft, Synthesizer


class Parrot:
    """Says the prompt, the seed and the number of the sample."""

    def __init__(self, name: str = "parrot"):
        self.fingerprint, self.asked = name, 0

    def generate(self, prompts, sampling):
        self.asked += len(prompts)
        return [[Completion(f"{_text(p)} {sampling.seed}.{i}") for i in range(sampling.n)] for p in prompts]

    def logprobs(self, prompts, completions):
        raise NotImplementedError


def _text(prompt: Any) -> str:
    return prompt if isinstance(prompt, str) else prompt[-1]["content"]


@dataclass(frozen=True)
class Echo(Synthesizer):
    """Two answers to a prompt; prompts with "bad" fail, and answers that an earlier seed gave are dropped."""

    sampling: Sampling = Sampling(max_tokens=8, n=2)
    """How answers are drawn."""
    seedless: bool = False
    """Whether it starts from nothing."""

    example: ClassVar[Mapping[str, Any]] = {}
    engines: ClassVar[Mapping[str, str]] = {"model": "answers"}
    makes: ClassVar[str] = "conversation"

    @property
    def reads(self):
        return None if self.seedless else "prompt"

    @property
    def rows_per_seed(self):
        return self.sampling.n

    def draft(self, engines, seeds):
        prompts = [f"begin {record.id}" if self.seedless else record.prompt for record in seeds]
        for record, answers in zip(seeds, engines["model"].generate(prompts, self.sampling), strict=True):
            if "bad" in _text(record.prompt):
                yield Draft(record.id, error="the prompt is bad")
            else:
                yield Draft(record.id, {"prompt": _text(record.prompt), "answers": [a.text for a in answers]})

    def finish(self, drafts, counts):
        seen = set()
        for draft in drafts:
            for answer in draft.found["answers"]:
                if answer in seen:
                    counts["dropped_as_duplicates"] += 1
                else:
                    seen.add(answer)
                    yield {"parent": draft.parent, "prompt": draft.found["prompt"] or "begin", "completion": answer}
