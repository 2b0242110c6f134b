"""A library of guidelines written by a model: is a request unsafe, and which guidelines suit it?

Guide-Align (Luo et al. 2024, arXiv 2403.11838), stages 1a.4, 1b and 1c.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fairlead import prompts as texts
from fairlead.decoding.guideline_library import (
    Guideline,
    Library,
    merge,
    novel,
    says_unsafe,
    split_guidelines,
    words_of,
)
from fairlead.engines.base import Engine, Sampling
from fairlead.errors import DataError, UsageError
from fairlead.messages import Prompt

__all__ = ["Writing", "quotes", "write_library"]

_USUAL = Sampling(max_tokens=400, temperature=0.7)


@dataclass(frozen=True)
class Writing:
    """How a library is written."""

    sampling: Sampling = _USUAL
    """How the engine draws; the paper's 400 tokens at temperature 0.7."""
    novelty: float = 0.7
    """A request whose ROUGE-L F1 with an earlier one is above this is passed over; 1 passes over none."""
    attempts: int = 5
    """Most times that guidelines for a request are asked for, each with another seed."""
    least: int = 2
    """Fewer guidelines than this in a reply, and it is asked for again."""
    max_words: int = 60
    """Longer guidelines are left out."""
    quoted: int = 5
    """A guideline that has so many words of its request in a row is left out."""
    near: float = 0.9
    """Guidelines this alike become one."""
    detect: str | None = None
    """The question whether a request is unsafe: a path or a Jinja text with `prompt`; by default the shipped one."""
    write: str | None = None
    """The request for guidelines: a path or a Jinja text with `prompt` and `unsafe`; by default the shipped one."""

    def __post_init__(self) -> None:
        for name in ("attempts", "least", "max_words", "quoted"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}", fix="use at least 1")
        for name in ("novelty", "near"):
            if not 0 < getattr(self, name) <= 1:
                raise UsageError(f"{name} is {getattr(self, name)}", fix="use a share above 0, at most 1")
        if self.sampling.n != 1:
            raise UsageError(f"sampling.n is {self.sampling.n}", fix="leave it at 1")


def quotes(guideline: str, request: str, words: int) -> bool:
    """Tell whether a guideline has `words` words of the request one after the other."""
    asked = words_of(request)
    runs = {tuple(asked[k : k + words]) for k in range(len(asked) - words + 1)}
    said = words_of(guideline)
    return any(tuple(said[k : k + words]) in runs for k in range(len(said) - words + 1))


def write_library(
    engine: Engine, requests: Sequence[str], how: Writing | None = None
) -> tuple[Library, dict[str, int]]:
    """Return a library for requests, and what became of them.

    Args:
        engine: a chat model that writes.
        requests: what users ask.
        how: settings; the paper's by default.

    Returns:
        The library, the most frequent guidelines first, each with the requests that it was written for; and counts:
        `requests`, `repeated` (passed over), `unsafe`, `unclear` (verdicts that cannot be read, taken for unsafe),
        `given_up` (requests without enough guidelines), `written` (guidelines), `too_long`, `quoting` (left out) and
        `kept` (in the library).

    Raises:
        DataError: no guideline is left.
    """
    how = how or Writing()
    fresh = [requests[k] for k in novel(requests, how.novelty)]
    counts = Counter(requests=len(requests), repeated=len(requests) - len(fresh))
    unsafe = _detect(engine, fresh, how, counts)
    found = _write(engine, fresh, unsafe, how)
    counts["given_up"] = sum(not guidelines for guidelines in found)
    usable = [one for request, guidelines in zip(fresh, found) for one in _usable(guidelines, request, how, counts)]
    items = tuple(sorted(merge(usable, how.near), key=lambda one: -one.count))
    if not items:
        told = ", ".join(f"{name} {number}" for name, number in counts.items())
        raise DataError(f"no guideline is left ({told})", fix="look at what the engine replies, or give other requests")
    counts["kept"] = len(items)
    names = ("requests", "repeated", "unsafe", "unclear", "given_up", "written", "too_long", "quoting", "kept")
    return Library(items), {name: counts[name] for name in names}


def _detect(engine: Engine, requests: Sequence[str], how: Writing, counts: Counter[str]) -> list[bool]:
    text = texts.load("guidelines", "detect", how.detect)
    asked = [_user(text.render(prompt=request)) for request in requests]
    said = [says_unsafe(reply.text) for (reply,) in engine.generate(asked, how.sampling)] if asked else []
    counts["unclear"] = sum(verdict is None for verdict in said)
    unsafe = [verdict is not False for verdict in said]
    counts["unsafe"] = sum(unsafe)
    return unsafe


def _write(engine: Engine, requests: Sequence[str], unsafe: Sequence[bool], how: Writing) -> list[list[Guideline]]:
    """Return the guidelines written for each request, none where every attempt gave too few."""
    text = texts.load("guidelines", "write", how.write)
    found: list[list[Guideline]] = [[] for _ in requests]
    waiting = list(range(len(requests)))
    for attempt in range(how.attempts):
        if not waiting:
            break
        asked = [_user(text.render(prompt=requests[k], unsafe=unsafe[k])) for k in waiting]
        replies = engine.generate(asked, replace(how.sampling, seed=how.sampling.seed + attempt))
        for k, (reply,) in zip(waiting, replies, strict=True):
            guidelines = split_guidelines(reply.text)
            found[k] = guidelines if len(guidelines) >= how.least else []
        waiting = [k for k in waiting if not found[k]]
    return found


def _user(text: str) -> Prompt:
    return [{"role": "user", "content": text}]


def _usable(guidelines: Sequence[Guideline], request: str, how: Writing, counts: Counter[str]) -> list[Guideline]:
    counts["written"] += len(guidelines)
    fitting = [one for one in guidelines if len(one.line.split()) <= how.max_words]
    counts["too_long"] += len(guidelines) - len(fitting)
    own = [one for one in fitting if not quotes(one.line, request, how.quoted)]
    counts["quoting"] += len(fitting) - len(own)
    return [replace(one, sources=(request,)) for one in own]
