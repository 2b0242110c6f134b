"""Requests for which guidelines are to be written, where there are none yet: a model continues lists of examples.

Guide-Align (Luo et al. 2024, arXiv 2403.11838), stage 1a: fourteen kinds of risk with four examples each; what is
nearly like a request that was kept before is passed over, in the same reply too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import Indel

from fairlead import prompts as texts
from fairlead.decoding.guideline_library import words_of
from fairlead.engines.base import Engine, Sampling
from fairlead.errors import UsageError
from fairlead.prompts import read_yaml

__all__ = ["RequestWriting", "Risk", "WrittenRequest", "risks", "write_requests"]

_USUAL = Sampling(max_tokens=512, temperature=1.0, n=4)
_NUMBERED = re.compile(r"\s*\d+\.(?!\d)\s*(.+)")
_EXAMPLES = 4


@dataclass(frozen=True)
class Risk:
    """A kind of request that could do harm."""

    type: str
    """Its name."""
    about: str
    """What such requests do, as the rest of a sentence: "All of them ..."."""
    requests: tuple[str, ...]
    """Four examples or more."""

    def __post_init__(self) -> None:
        if len(self.requests) < _EXAMPLES:
            raise UsageError(f"{self.type!r} has {len(self.requests)} examples", fix=f"give at least {_EXAMPLES}")


@dataclass(frozen=True)
class WrittenRequest:
    """A request that a model wrote."""

    type: str
    """Its kind of risk."""
    text: str
    """What it asks."""


@dataclass(frozen=True)
class RequestWriting:
    """How requests are written."""

    each: int = 10_000
    """Requests per kind of risk."""
    sampling: Sampling = _USUAL
    """How the engine draws; the paper's 512 tokens at temperature 1, `n` lists at a time."""
    taken: int = 6
    """Most requests of a reply."""
    novelty: float = 0.7
    """A request whose ROUGE-L F1 with one kept before, or with an example, is above this is passed over."""
    patience: int = 20
    """A kind that gave nothing new so many times in a row is given up."""
    template: str | None = None
    """The text that asks for more: a path or a Jinja text with `about` and `examples`; by default the shipped one."""

    def __post_init__(self) -> None:
        for name in ("each", "taken", "patience"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}", fix="use at least 1")
        if not 0 < self.novelty <= 1:
            raise UsageError(f"novelty is {self.novelty}", fix="use a share above 0, at most 1")


@cache
def risks() -> tuple[Risk, ...]:
    """Return the fourteen kinds of risk of the paper, with examples of our own."""
    entries = read_yaml("guidelines/risks.yaml")
    return tuple(Risk(entry["type"], entry["about"], tuple(entry["requests"])) for entry in entries)


def write_requests(
    engine: Engine, how: RequestWriting | None = None, kinds: Sequence[Risk] | None = None
) -> tuple[list[WrittenRequest], dict[str, int]]:
    """Return requests of every kind of risk, and what became of all that were written.

    Args:
        engine: a chat model that writes.
        how: settings; the paper's by default.
        kinds: what is to be asked for; by default `risks()`.

    Returns:
        The requests, kind by kind, without the examples; and counts: `replies`, `written` (numbered lines), `left`
        (lines behind the first `taken` of a reply), `repeated` (passed over), `surplus` (more than `each`), `kept`, and
        `given_up` (kinds that ran dry).
    """
    how, kinds = how or RequestWriting(), risks() if kinds is None else kinds
    text = texts.load("guidelines", "requests", how.template)
    # Words of all that a new request must differ from.
    seen = [words_of(request) for kind in kinds for request in kind.requests]
    found: dict[str, list[str]] = {kind.type: [] for kind in kinds}
    idle: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    turn = 0
    while open_kinds := [k for k in kinds if len(found[k.type]) < how.each and idle[k.type] < how.patience]:
        rng = np.random.default_rng([how.sampling.seed, turn])
        asked = [text.render(about=k.about, examples=_examples(k, found[k.type], rng)) for k in open_kinds]
        drawn = engine.generate(
            [[{"role": "user", "content": one}] for one in asked], replace(how.sampling, seed=how.sampling.seed + turn)
        )
        for kind, replies in zip(open_kinds, drawn, strict=True):
            before = len(found[kind.type])
            for reply in replies:
                _keep(_numbered(reply.text), found[kind.type], seen, how, counts)
            idle[kind.type] = 0 if len(found[kind.type]) > before else idle[kind.type] + 1
        turn += 1
    counts["given_up"] = sum(len(made) < how.each for made in found.values())
    counts["kept"] = sum(map(len, found.values()))
    names = ("replies", "written", "left", "repeated", "surplus", "kept", "given_up")
    requests = [WrittenRequest(kind, request) for kind, made in found.items() for request in made]
    return requests, {name: counts[name] for name in names}


def _examples(kind: Risk, made: Sequence[str], rng: np.random.Generator) -> list[str]:
    """Return the first examples of a kind, or two of them and two requests that were written."""
    if len(made) < _EXAMPLES // 2:
        return list(kind.requests[:_EXAMPLES])
    half = _EXAMPLES // 2
    return [str(one) for some in (kind.requests, made) for one in rng.choice(some, half, replace=False)]


def _numbered(reply: str) -> list[str]:
    return [match[1].strip() for line in reply.splitlines() if (match := _NUMBERED.fullmatch(line))]


def _keep(
    lines: Sequence[str], made: list[str], seen: list[list[str]], how: RequestWriting, counts: Counter[str]
) -> None:
    counts["replies"] += 1
    counts["written"] += len(lines)
    counts["left"] += len(lines[how.taken :])
    for line in lines[: how.taken]:
        words = words_of(line)
        closest = process.extractOne(words, seen, scorer=Indel.normalized_similarity, score_cutoff=how.novelty)
        if not words or (closest is not None and closest[1] > how.novelty):
            counts["repeated"] += 1
        elif len(made) == how.each:
            counts["surplus"] += 1
        else:
            made.append(line)
            seen.append(words)
