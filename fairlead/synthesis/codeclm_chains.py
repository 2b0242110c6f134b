"""CodecLM's instructions on their way through answers, scores and rewrites, and what is asked about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fairlead.engines.asking import Verdict, frame
from fairlead.messages import Message
from fairlead.synthesis.base import Draft
from fairlead.synthesis.codeclm_reading import Entry, normalised
from fairlead.synthesis.principles import Principle
from fairlead.verdicts import Reading, key_of

__all__ = ["Chain", "Work", "drafted", "improved", "improves", "pair_slots", "reader", "user"]


@dataclass
class Chain:
    """One instruction and what it was made into."""

    name: str
    """Seed and number: what its action is drawn by."""
    text: str
    """The wording now."""
    iteration: int = 1
    """1 for the instruction as decoded, one more for every rewrite."""
    actions: list[str] = field(default_factory=list)
    """Actions taken so far."""
    strong: str = ""
    """The strong model's answer."""
    target: str = ""
    """The target's answer."""
    points: list[list[float]] | None = None
    """A model's scores, strong answer shown first and target's shown first."""
    scores: tuple[float, float] | None = None
    """Scores of the strong and the target's answer."""
    gap: float | None = None
    """Their difference."""
    route: str = ""
    """Where it went; see `route_of`."""


@dataclass
class Work:
    """What is known of one seed so far."""

    seed: Any
    """The seed record."""
    source: str
    """Its instruction."""
    entry: Entry | None = None
    """What it is for."""
    count: int = 0
    """Instructions wanted."""
    actions: tuple[Principle, ...] = ()
    """What makes its instructions harder."""
    chains: list[Chain] = field(default_factory=list)
    """The instructions decoded from it."""
    error: str | None = None
    """Why it gives no row."""
    failed: bool = False
    """Whether an engine failed."""

    def stop(self, verdict: Verdict, words: str) -> None:
        """Leave the seed out: without a reply, or with one that says nothing."""
        self.failed = verdict.status == "failed"
        self.error = "an engine gave no reply" if self.failed else words


def reader(read: Callable[[str], Any]) -> Callable[[str], Reading]:
    """Wrap a reader that returns nothing where it finds nothing."""

    def reading(reply: str) -> Reading:
        found = read(reply)
        return Reading(found) if found else Reading(problem="no verdict" if reply.strip() else "empty")

    return reading


def improves(text: str, before: str, banned: Sequence[str] = ()) -> bool:
    """Whether a rewrite is one: not empty, not the same, and without any of the banned texts."""
    tidy = normalised(text)
    has = any(normalised(one) in tidy for one in banned if one.strip())
    return bool(tidy) and tidy != normalised(before) and not has


def improved(chain: Chain, action: str) -> Callable[[str], Reading]:
    """Return how an improver's reply is read: it may hold neither the action's words nor the strong answer."""
    before, banned = chain.text, (action, chain.strong)
    return reader(lambda reply: reply.strip() if improves(reply, before, banned) else None)


def pair_slots(chain: Chain, swapped: bool, scale: tuple[float, float]) -> dict[str, Any]:
    """Return what a scorer's text may use, the strong answer first unless `swapped`."""
    first, second = (chain.target, chain.strong) if swapped else (chain.strong, chain.target)
    key = key_of(chain.text, first, second)
    shown = {"question": chain.text, "first": first, "second": second}
    framed = {name: frame({"question": "instruction"}.get(name, name), text, key) for name, text in shown.items()}
    return {**framed, "key": key, "scale": [f"{end:g}" for end in scale]}


def drafted(work: Work) -> Draft:
    """Return what became of a seed."""
    if work.error is not None or work.entry is None:
        return Draft(work.seed.id, error=work.error, failed=work.failed)
    names = ("text", "iteration", "actions", "strong", "target", "points", "scores", "gap", "route")
    chains = [{name: getattr(chain, name) for name in names} for chain in work.chains]
    for chain in chains:
        chain["scores"] = None if chain["scores"] is None else list(chain["scores"])
    actions = [action.title for action in work.actions]
    entry = {"use_case": work.entry.use_case, "skills": list(work.entry.skills)}
    return Draft(work.seed.id, {"source": work.source, **entry, "actions": actions, "chains": chains})


def user(text: str) -> list[Message]:
    """Return the prompt of one user message."""
    return [{"role": "user", "content": text}]
