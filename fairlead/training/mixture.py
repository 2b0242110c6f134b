"""Conversations of several domains in chunks: which are drawn, in what order, under which prompt, and what sees what.

Balanced sampling makes chunks, chunks make packs (arXiv 2404.18410). A group of the result is what attends to itself: a
conversation, a chunk or a whole pack; its positions start at 0.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from fairlead.errors import DataError, UnknownNameError
from fairlead.forward.layout import Branch, Group
from fairlead.messages import Message
from fairlead.records import Records
from fairlead.render import Renderer
from fairlead.training.config import TooLong
from fairlead.training.groups import Lengths, group_of, group_records

__all__ = ["Mixture", "MixtureLengths", "draw_chunks", "join", "pack_in_order", "temperature_weights"]

Sampling = Literal["all", "cycle", "stop", "temperature"]
Mask = Literal["none", "isolated", "chunk"]
ChunkOrder = Literal["default_first", "fixed", "shuffle"]
Draw = tuple[str, int]
"""A conversation: its domain, and its number in that domain."""

_MANY_PASSES = 4.0
_log = logging.getLogger("fairlead")


@dataclass
class MixtureLengths(Lengths):
    """The length report, with how often each domain is used."""

    domains: dict[str, dict[str, float]] = field(default_factory=dict)
    """Domain -> conversations it has, draws from it, how many of its conversations are never drawn, epochs."""
    fill: float = 1.0
    """Share of the packs' `max_length` that holds tokens."""

    def report(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return {**super().report(), "domains": self.domains, "fill": self.fill}


@dataclass(frozen=True)
class Mixture:
    """How conversations of several domains become groups."""

    column: str
    """Column that names a record's domain."""
    domains: dict[str, str]
    """Domain -> its system prompt (empty for none), in their fixed order; empty: whatever the column holds."""
    weights: dict[str, float]
    """Domain -> its conversations in a chunk, or the factor of its temperature weight; 1 where not given."""
    default_system: str
    """System prompt that `default_first` puts first."""
    override: bool
    """Replace system prompts that conversations bring with them."""
    sampling: Sampling
    """Which conversations an epoch holds."""
    alpha: float
    """Exponent of the domains' sizes under `temperature`."""
    chunk_size: int | None
    """Conversations in a chunk under `temperature`; the number of domains when not given."""
    max_passes: float | None
    """The epoch ends before a domain would be used more often than this."""
    order: ChunkOrder
    """Order inside a chunk."""
    mask: Mask
    """What a conversation may see of those before it: nothing, its chunk, its pack."""
    seed: int
    """Of the draws."""

    def build(
        self, records: Records, renderer: Renderer, *, max_length: int, too_long: TooLong
    ) -> tuple[list[Group], Lengths]:
        """Draw an epoch of chunks and return what attends to itself as groups.

        A chunk longer than `max_length` is split between conversations.

        Raises:
            DataError: a record without a known domain, a domain without records, conversations too long under `error`,
                text records.
        """
        domain_of = self._domains_of(records)
        systems = self.domains or dict.fromkeys(dict.fromkeys(domain_of.values()), self.default_system)
        own, lengths = self._rendered(records, renderer, domain_of, systems, max_length, too_long)
        first = own
        if self.order == "default_first" and self.default_system not in systems.values():
            under_default = dict.fromkeys(systems, self.default_system)
            first, other = self._rendered(records, renderer, domain_of, under_default, max_length, too_long)
            lengths.dropped = list(dict.fromkeys([*lengths.dropped, *other.dropped]))
            lengths.truncated = list(dict.fromkeys([*lengths.truncated, *other.truncated]))
        left_out = set(lengths.dropped)
        members = {d: [r.id for r in records if domain_of[r.id] == d and r.id not in left_out] for d in systems}
        _refuse_empty(members, records)
        rng = random.Random(f"mixture {self.seed}")
        drawn = draw_chunks(self, {d: len(ids) for d, ids in members.items()}, rng)
        if not drawn:
            fix = "raise max_passes, lower the weights, or give the domain more records"
            raise DataError("its domains do not fill a single chunk", place=records.source, fix=fix)
        chunks = []
        for chunk in drawn:
            ordered = _ORDERS[self.order](chunk, systems, self.default_system, rng)
            ids = [(members[d][i], tuple(systems).index(d)) for d, i in ordered]
            parts = [_Part((own if k else first)[id], domain) for k, (id, domain) in enumerate(ids)]
            chunks += _split_long(parts, max_length)
        packs = pack_in_order([sum(len(part) for part in chunk) for chunk in chunks], max_length)
        units = UNITS[self.mask](chunks, packs)
        groups = [join(f"{self.mask}-{number:06d}", unit) for number, unit in enumerate(units)]
        tokens = sum(len(part) for chunk in chunks for part in chunk)
        report = _report(lengths, groups, members, drawn, tokens / (len(packs) * max_length))
        return groups, report

    def _domains_of(self, records: Records) -> dict[str, str]:
        if records.kind != "conversation":
            fix = "give conversations, or pre-train with sft"
            raise DataError(f"{records.kind} records have no system prompt", place=records.source, fix=fix)
        found: dict[str, str] = {}
        for record in records:
            name = getattr(record, "extra", {}).get(self.column)
            if not isinstance(name, str):
                raise DataError(
                    f"has no text in the column {self.column!r}, which names its domain",
                    place=records.place(record.id),
                    fix="name every record's domain, or set `column` to the column that does",
                )
            if self.domains and name not in self.domains:
                raise UnknownNameError("domain", name, self.domains, place=records.place(record.id))
            if found.setdefault(record.id, name) != name:
                fix = "leave one of them out, or give each an id of its own"
                raise DataError(f"is in {name!r} and in {found[record.id]!r}", place=records.place(record.id), fix=fix)
        return found

    def _rendered(
        self,
        records: Records,
        renderer: Renderer,
        domain_of: Mapping[str, str],
        systems: Mapping[str, str],
        max_length: int,
        too_long: TooLong,
    ) -> tuple[dict[str, Group], Lengths]:
        def make(record: Any, renderer: Renderer) -> Group:
            system = systems[domain_of[record.id]]
            prompt, completion = _with_system(record.prompt, record.completion, system, self.override)
            return group_of(record.id, [renderer.example(prompt, completion)])

        groups, lengths = group_records(records, renderer, make, max_length=max_length, too_long=too_long)
        return {group.id: group for group in groups}, lengths


class _Part:
    """A conversation in its place: tokens, what is trained, and the number of its domain."""

    def __init__(self, group: Group, domain: int):
        (branch,) = group.branches
        self.ids = np.concatenate([group.prompt, branch.ids])
        self.trained = np.concatenate([np.zeros(len(group.prompt), dtype=bool), branch.trained])
        self.domain = domain

    def __len__(self) -> int:
        return len(self.ids)


def join(id: str, parts: Sequence[Any]) -> Group:
    """Join conversations end to end as one group with one completion.

    Its fields are per token: `conversation`, numbered from 0 in the group, and `domain`.
    """
    ids = np.concatenate([part.ids for part in parts])
    trained = np.concatenate([part.trained for part in parts])
    number = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    domain = np.array([part.domain for part in parts])[number]
    split = int(np.flatnonzero(trained)[0])
    fields: dict[str, Any] = {"conversation": (number[split:],), "domain": (domain[split:],)}
    return Group(id, ids[:split], (Branch(ids[split:], trained[split:]),), fields)


def draw_chunks(mixture: Mixture, sizes: Mapping[str, int], rng: random.Random) -> list[list[Draw]]:
    """Draw the chunks of an epoch.

    Args:
        mixture: its sampling, weights, alpha, chunk_size and max_passes are used.
        sizes: domain -> how many conversations it has, in the domains' fixed order.
        rng: source of chance.
    """
    slots = {domain: int(mixture.weights.get(domain, 1)) for domain in sizes}
    if mixture.sampling == "all":
        everything = [[(domain, i)] for domain, size in sizes.items() for i in range(size)]
        rng.shuffle(everything)
        return everything
    if mixture.sampling == "temperature":
        size = mixture.chunk_size or len(sizes)
        shares = temperature_weights(sizes, mixture.alpha, mixture.weights)
        number = math.ceil(sum(sizes.values()) / size)
        plan = (rng.choices(list(shares), list(shares.values()), k=size) for _ in range(number))
    else:
        needed = {domain: size / slots[domain] for domain, size in sizes.items()}
        number = math.floor(min(needed.values())) if mixture.sampling == "stop" else math.ceil(max(needed.values()))
        plan = ([domain for domain, count in slots.items() for _ in range(count)] for _ in range(number))
    queues = {domain: _endless(size, rng) for domain, size in sizes.items()}
    used, chunks = dict.fromkeys(sizes, 0), []
    for chunk in plan:
        for domain in chunk:
            used[domain] += 1
        if mixture.max_passes is not None and any(used[d] > mixture.max_passes * sizes[d] for d in sizes):
            break
        chunks.append([(domain, next(queues[domain])) for domain in chunk])
    return chunks


def temperature_weights(sizes: Mapping[str, int], alpha: float, factors: Mapping[str, float]) -> dict[str, float]:
    """Return each domain's probability: its factor times its size to the power of alpha, over their sum."""
    raw = {domain: factors.get(domain, 1.0) * size**alpha for domain, size in sizes.items()}
    total = sum(raw.values())
    return {domain: value / total for domain, value in raw.items()}


def _endless(size: int, rng: random.Random) -> Iterator[int]:
    """Yield the numbers below `size` in random order, again and again."""
    while True:
        yield from rng.sample(range(size), size)


def pack_in_order(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Fill packs one after the other: a length that does not fit any more starts the next pack."""
    packs: list[list[int]] = []
    room = 0
    for number, length in enumerate(lengths):
        if length > room or not packs:
            packs.append([])
            room = capacity
        packs[-1].append(number)
        room -= length
    return packs


def _with_system(prompt: Any, completion: Any, system: str, override: bool) -> tuple[Any, Any]:
    """Return prompt and completion under a system prompt; one that is there already stays unless overridden."""
    if isinstance(prompt, str):
        if system:
            raise DataError("is raw text, which takes no system prompt", fix="give messages, or an empty system prompt")
        return prompt, completion
    messages: tuple[Message, ...] = tuple(prompt or completion)
    has_own = messages[0]["role"] == "system"
    if override and has_own:
        messages = messages[1:]
    if system and (override or not has_own):
        messages = ({"role": "system", "content": system}, *messages)
    return (messages, completion) if prompt else (prompt, messages)


def _split_long(parts: list[_Part], max_length: int) -> list[list[_Part]]:
    """Split a chunk that is too long between conversations."""
    pieces = pack_in_order([len(part) for part in parts], max_length)
    return [[parts[i] for i in piece] for piece in pieces]


def _fixed(chunk: list[Draw], systems: Mapping[str, str], default: str, rng: random.Random) -> list[Draw]:
    names = list(systems)
    return sorted(chunk, key=lambda draw: names.index(draw[0]))


def _shuffled(chunk: list[Draw], systems: Mapping[str, str], default: str, rng: random.Random) -> list[Draw]:
    return rng.sample(chunk, len(chunk))


def _default_first(chunk: list[Draw], systems: Mapping[str, str], default: str, rng: random.Random) -> list[Draw]:
    return sorted(_fixed(chunk, systems, default, rng), key=lambda draw: systems[draw[0]] != default)


_ORDERS: dict[str, Callable[..., list[Draw]]] = {
    "fixed": _fixed,
    "shuffle": _shuffled,
    "default_first": _default_first,
}


def _conversations(chunks: list[list[_Part]], packs: list[list[int]]) -> list[list[_Part]]:
    return [[part] for chunk in chunks for part in chunk]


def _whole_packs(chunks: list[list[_Part]], packs: list[list[int]]) -> list[list[_Part]]:
    return [[part for i in pack for part in chunks[i]] for pack in packs]


UNITS: dict[str, Callable[..., list[list[_Part]]]] = {
    "isolated": _conversations,
    "chunk": lambda chunks, packs: chunks,
    "none": _whole_packs,
}
"""Mask -> what attends to itself."""


def _refuse_empty(members: Mapping[str, Sequence[str]], records: Records) -> None:
    for domain, ids in members.items():
        if not ids:
            raise DataError(
                f"no record of domain {domain!r} is left",
                place=records.source,
                fix="give records of it, raise max_length, or leave the domain out",
            )


def _report(
    lengths: Lengths,
    groups: Sequence[Group],
    members: Mapping[str, Sequence[str]],
    drawn: list[list[Draw]],
    fill: float,
) -> MixtureLengths:
    report = MixtureLengths(lengths.max_length, lengths.too_long, fill=fill)
    report.dropped, report.truncated = lengths.dropped, lengths.truncated
    for group in groups:
        (branch,) = group.branches
        report.prompt.append(len(group.prompt))
        report.completion.append(len(branch.ids))
        report.trained += int(branch.trained.sum())
    for domain, ids in members.items():
        draws = [i for chunk in drawn for name, i in chunk if name == domain]
        epochs = len(draws) / len(ids)
        report.domains[domain] = {
            "conversations": len(ids),
            "draws": len(draws),
            "never_drawn": len(ids) - len(set(draws)),
            "epochs": epochs,
        }
        if epochs > _MANY_PASSES:
            _log.warning("domain %r is used %.1f times an epoch: set max_passes or another sampling", domain, epochs)
    return report
