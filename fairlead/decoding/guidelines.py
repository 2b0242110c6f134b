"""Guide-Align (Luo et al. 2024, arXiv 2403.11838), stage 2: a request is answered under the guidelines that suit it.

From a library the guidelines closest to the request are taken, different from each other, and put before it in the
system part. A request that is close to none is asked as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, cast

import numpy as np

from fairlead import prompts as texts
from fairlead.decoding.base import Decoder, EngineSpec
from fairlead.decoding.guideline_library import Library, diverse, read_library
from fairlead.decoding.guideline_retrieval import Embedded, Lexical, Retriever
from fairlead.engines.base import Completion, Sampling
from fairlead.engines.desk import Desk
from fairlead.engines.programs import Program
from fairlead.engines.streaming import Listener
from fairlead.errors import UsageError
from fairlead.messages import Prompt

__all__ = ["Guidelines", "Hit"]


@dataclass(frozen=True)
class Hit:
    """A guideline found for a request."""

    id: int
    """Its place in the library, from 0."""
    score: float
    """How close it is, at most 1."""


@dataclass(frozen=True)
class Guidelines(Decoder):
    """Answers under the guidelines of a library that are closest to the request."""

    engine: EngineSpec
    """Who answers."""
    library: Any
    """The guidelines: the path of a JSON Lines file, or a list of texts or of mappings with `text`, `title`, `sources`
    and `count`."""
    k: int = 6
    """Most guidelines per request."""
    threshold: float = 0.0
    """Least score of a guideline that is used; a score of 0 or less is never used."""
    diversity: float = 0.5
    """A guideline this similar to one of higher rank is passed over: a share of characters, 0 to 1; above 1 none is."""
    candidates: int = 100
    """Guidelines of highest rank that are looked at."""
    retriever: Literal["lexical", "embedding"] = "lexical"
    """What tells how close: the words in common (tf-idf), or a sentence-embedding model."""
    embedder: str | None = None
    """The model of `embedding`: a folder or hub id that sentence-transformers can read."""
    template: str | None = None
    """What is put before the request: the path of a Jinja text, or the text itself; it may use `guidelines`, each with
    `title`, `text` and `line`."""
    role: Literal["system", "user"] = "system"
    """Whose message it is part of: behind what the system message says, or before the last words of the user. Raw text
    has it before its first word."""

    adjustable: ClassVar[tuple[str, ...]] = ("k", "threshold", "diversity", "candidates", "role")
    example: ClassVar[Mapping[str, Any]] = {
        "engine": "harbor:base-300k",
        "library": [
            {"text": "be polite, safe and honest.", "sources": ["how do i sink it?", "where is the ship?"]},
            {"title": "lamps", "text": "be short."},
        ],
        "template": "{{ guidelines | map(attribute='text') | join(' ') }}",
    }

    @classmethod
    def files(cls, settings: Mapping[str, Any]) -> dict[str, str]:
        """Return the library and the template, where they are files."""
        library, template = settings.get("library"), texts.file_of(settings.get("template"))
        found = {"library": library if isinstance(library, str) else None, "template": template}
        return {name: path for name, path in found.items() if path is not None}

    def __post_init__(self) -> None:
        for name, value in (("k", self.k), ("candidates", self.candidates)):
            if value < 1:
                raise UsageError(f"guidelines.{name} is {value}", fix="use at least 1")
        if not -1 <= self.threshold <= 1:
            raise UsageError(f"guidelines.threshold is {self.threshold}", fix="use a score, at most 1")
        if self.diversity <= 0:
            raise UsageError(f"guidelines.diversity is {self.diversity}", fix="use a share above 0; 0.5 is usual")
        if (self.retriever == "embedding") != (self.embedder is not None):
            fix = "give both, retriever: embedding and embedder: MODEL, or neither"
            raise UsageError("guidelines.embedder and guidelines.retriever do not go together", fix=fix)
        _ = self.items, self.text

    @cached_property
    def items(self) -> Library:
        """The library, read."""
        return read_library(self.library)

    @cached_property
    def text(self) -> texts.PromptText:
        """What is put before the request, with its slots."""
        return texts.load("guidelines", "lead", self.template)

    @cached_property
    def closeness(self) -> Retriever:
        """What scores requests against the library."""
        return _RETRIEVERS[self.retriever](self)

    @property
    def fingerprint(self) -> str:
        """Return 64 hex digits that change with the settings, every guideline, the template and the engine."""
        own = [super().fingerprint, self.items.fingerprint, self.text.source]
        return hashlib.sha256("\n".join(own).encode()).hexdigest()

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """Return `sampling.n` completions per prompt, under the guidelines found for it.

        `extra["guidelines"]` lists these in order: `id` (the place in the library, from 0), `score` and `line`; it is
        empty where the prompt was asked as it is.
        """
        found = self.retrieve([_request(prompt) for prompt in prompts])
        asked = [_placed(prompt, self._lead(hits), self.role) for prompt, hits in zip(prompts, found, strict=True)]
        drawn = self.parts["engine"].generate(asked, sampling)
        return [[self._told(answer, hits) for answer in answers] for answers, hits in zip(drawn, found, strict=True)]

    def answer(
        self, prompt: Prompt, index: int, sampling: Sampling, desk: Desk, tell: Listener | None = None
    ) -> Program[Completion]:
        """Make answer number `index`, under the guidelines found for its prompt."""
        (hits,) = self.retrieve([_request(prompt)])
        asked = _placed(prompt, self._lead(hits), self.role)
        drawn = yield from desk.answer(self.parts["engine"], asked, index, sampling, tell)
        return self._told(drawn, hits)

    def retrieve(self, requests: Sequence[str]) -> list[list[Hit]]:
        """Return the guidelines for each request, the closest first; of equally close ones the first in the library."""
        return [self._chosen(scores) for scores in self.closeness(requests)]

    def _chosen(self, scores: np.ndarray) -> list[Hit]:
        order = np.argsort(-scores, kind="stable")[: self.candidates]
        near = [int(i) for i in order if scores[i] > 0 and scores[i] >= self.threshold]
        kept = diverse([self.items.items[i].line for i in near], self.k, below=self.diversity)
        return [Hit(near[j], float(scores[near[j]])) for j in kept]

    def _lead(self, hits: Sequence[Hit]) -> str:
        return self.text.render(guidelines=[self.items.items[hit.id] for hit in hits]) if hits else ""

    def _told(self, answer: Completion, hits: Sequence[Hit]) -> Completion:
        told = [{"id": hit.id, "score": hit.score, "line": self.items.items[hit.id].line} for hit in hits]
        return replace(answer, extra={**answer.extra, "guidelines": told})


def _lexical(how: Guidelines) -> Retriever:
    return Lexical(how.items)


def _embedding(how: Guidelines) -> Retriever:
    return Embedded(how.items, str(how.embedder))


_RETRIEVERS: dict[str, Callable[[Guidelines], Retriever]] = {"lexical": _lexical, "embedding": _embedding}


def _request(prompt: Prompt) -> str:
    """Return what guidelines are looked up for: the last user message, or the whole of a raw text."""
    if isinstance(prompt, str):
        return prompt
    return next((turn["content"] for turn in reversed(prompt) if turn["role"] == "user"), "")


def _placed(prompt: Prompt, lead: str, role: str) -> Prompt:
    if not lead:
        return prompt
    if isinstance(prompt, str):
        return f"{lead}\n{prompt}"
    turns = [dict(turn) for turn in prompt]
    at = [k for k, turn in enumerate(turns) if turn["role"] == role]
    if not at:
        turns.insert(0, {"role": "system", "content": lead})
    elif role == "system":
        turns[at[0]]["content"] = f"{turns[at[0]]['content']}\n{lead}"
    else:
        turns[at[-1]]["content"] = f"{lead}\n{turns[at[-1]]['content']}"
    return cast(Prompt, turns)
