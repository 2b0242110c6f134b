"""Guide-Align (Luo et al. 2024, arXiv 2403.11838), stage 2: a request is answered under the guidelines that suit it.

From a library the guidelines closest to the request are taken, different from each other, and put before it in the
system part. A request that is close to none is asked as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import numpy as np

from fairlead import models
from fairlead import prompts as texts
from fairlead.decoding.base import Decoder, EngineSpec
from fairlead.decoding.guideline_encoder import Towers, folder_fingerprint, is_retriever
from fairlead.decoding.guideline_library import Library, awaited, diverse, read_library, request_of
from fairlead.decoding.guideline_retrieval import Embedded, Lexical, Retriever, Trained
from fairlead.engines.base import Completion, Sampling
from fairlead.engines.desk import Desk
from fairlead.engines.programs import Program
from fairlead.engines.streaming import Listener
from fairlead.errors import ModelError, UsageError
from fairlead.messages import Prompt

__all__ = ["Guidelines", "Hit"]


@dataclass(frozen=True)
class Hit:
    """A guideline found for a request."""

    id: int
    """Its place in the library, from 0."""
    score: float
    """How close it is; at most 1, unless a retriever was trained to dot products."""


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
    threshold: float | None = None
    """Least score of a guideline that is used. By words or sentence embeddings scores are at most 1, and one of 0 or
    less is never used; those of a trained retriever are what it was trained to, and by default all may be used."""
    diversity: float = 0.5
    """A guideline this similar to one of higher rank is passed over: a share of characters, 0 to 1; above 1 none is."""
    candidates: int = 100
    """Guidelines of highest rank that are looked at."""
    retriever: Literal["lexical", "embedding", "trained"] = "lexical"
    """What tells how close: the words in common (tf-idf), a sentence-embedding model, or a retriever that was trained
    on such guidelines."""
    embedder: str | None = None
    """The model of `embedding`, a folder or hub id that sentence-transformers can read; or of `trained`, the folder
    that the step `train_retriever` made."""
    template: str | None = None
    """What is put before the request: the path of a Jinja text, or the text itself; it may use `guidelines`, each with
    `title`, `text` and `line`."""
    role: Literal["system", "user"] = "system"
    """Whose message it is part of: behind what the system message says, or before the last words of the user. Raw text
    has it before its first word."""

    adjustable: ClassVar[tuple[str, ...]] = ("k", "threshold", "diversity", "candidates", "role")
    roles: ClassVar[Mapping[str, str]] = {"embedder": "retriever"}
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
        """Return the library, the template and the retriever's model, where they are files."""
        library, template = settings.get("library"), texts.file_of(settings.get("template"))
        found = {"library": library if isinstance(library, str) else None, "template": template}
        found["embedder"] = settings.get("embedder")
        return {name: path for name, path in found.items() if path is not None}

    def __post_init__(self) -> None:
        for name, value in (("k", self.k), ("candidates", self.candidates)):
            if value < 1:
                raise UsageError(f"guidelines.{name} is {value}", fix="use at least 1")
        if self.threshold is not None and self.retriever != "trained" and not -1 <= self.threshold <= 1:
            raise UsageError(f"guidelines.threshold is {self.threshold}", fix="use a score, at most 1")
        if self.diversity <= 0:
            raise UsageError(f"guidelines.diversity is {self.diversity}", fix="use a share above 0; 0.5 is usual")
        if (self.retriever == "lexical") != (self.embedder is None):
            fix = "give both, retriever: embedding or trained and embedder: MODEL, or neither"
            raise UsageError("guidelines.embedder and guidelines.retriever do not go together", fix=fix)
        if self.embedder is not None and not awaited(self.embedder):
            _check_kind(self.embedder, self.retriever)
        # What an earlier step of a recipe has yet to make is read when it is there.
        _ = self.text, None if awaited(self.library) else self.items

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
        own = [super().fingerprint, self.items.fingerprint, self.text.source, self._embedder_fingerprint]
        return hashlib.sha256("\n".join(own).encode()).hexdigest()

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """Return `sampling.n` completions per prompt, under the guidelines found for it.

        `extra["guidelines"]` lists these in order: `id` (the place in the library, from 0), `score` and `line`; it is
        empty where the prompt was asked as it is.
        """
        found = self.retrieve([request_of(prompt) for prompt in prompts])
        asked = [_placed(prompt, self._lead(hits), self.role) for prompt, hits in zip(prompts, found, strict=True)]
        drawn = self.parts["engine"].generate(asked, sampling)
        return [[self._told(answer, hits) for answer in answers] for answers, hits in zip(drawn, found, strict=True)]

    def answer(
        self, prompt: Prompt, index: int, sampling: Sampling, desk: Desk, tell: Listener | None = None
    ) -> Program[Completion]:
        """Make answer number `index`, under the guidelines found for its prompt."""
        (hits,) = self.retrieve([request_of(prompt)])
        asked = _placed(prompt, self._lead(hits), self.role)
        drawn = yield from desk.answer(self.parts["engine"], asked, index, sampling, tell)
        return self._told(drawn, hits)

    @cached_property
    def _embedder_fingerprint(self) -> str:
        is_folder = self.embedder is not None and Path(self.embedder).expanduser().is_dir()
        return folder_fingerprint(self.embedder) if self.embedder is not None and is_folder else ""

    def retrieve(self, requests: Sequence[str]) -> list[list[Hit]]:
        """Return the guidelines for each request, the closest first; of equally close ones the first in the library."""
        return [self._chosen(scores) for scores in self.closeness(requests)]

    def _chosen(self, scores: np.ndarray) -> list[Hit]:
        order = np.argsort(-scores, kind="stable")[: self.candidates]
        least = -np.inf if self.threshold is None else self.threshold
        near = [int(i) for i in order if scores[i] > self.closeness.least and scores[i] >= least]
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


def _trained(how: Guidelines) -> Retriever:
    return Trained(how.items, Towers.load(str(how.embedder)).to(models.pick_device()))


_RETRIEVERS: dict[str, Callable[[Guidelines], Retriever]] = {
    "lexical": _lexical,
    "embedding": _embedding,
    "trained": _trained,
}


def _check_kind(embedder: str, retriever: str) -> None:
    """Refuse a trained retriever that is taken for a sentence-embedding model, and the other way round."""
    if retriever == "trained" and not is_retriever(embedder):
        fix = "give the folder that train_retriever made, or retriever: embedding"
        raise ModelError("is no trained retriever", place=embedder, fix=fix)
    if retriever == "embedding" and is_retriever(embedder):
        raise ModelError("is a trained retriever", place=embedder, fix="write retriever: trained")


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
