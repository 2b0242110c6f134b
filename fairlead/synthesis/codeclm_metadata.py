"""CodecLM's metadata as a set: mixed entries beside the encoded ones, and how many instructions each is to give."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from fairlead.synthesis.base import Draft, Row
from fairlead.synthesis.codeclm_reading import Entry, even_split

if TYPE_CHECKING:
    from fairlead.synthesis.codeclm import CodecLM

__all__ = ["metadata_rows", "mixed"]

_TRIES = 50
"""Draws per wanted entry before mixing gives up: the use cases and skills may not have as many combinations."""


def mixed(entries: Sequence[Entry], wanted: int, most: int, seed: int) -> list[tuple[int, Entry]]:
    """Return (place of the entry whose use case it has, new entry): skills come from the whole set, no entry twice."""
    rng = random.Random(f"codeclm metadata {seed}")
    skills = sorted({skill for entry in entries for skill in entry.skills})
    seen = {(entry.use_case, frozenset(entry.skills)) for entry in entries}
    found: list[tuple[int, Entry]] = []
    for _ in range(_TRIES * wanted):
        if len(found) == wanted or not skills:
            break
        place = rng.randrange(len(entries))
        drawn = tuple(rng.sample(skills, min(rng.randint(1, most), len(skills))))
        key = (entries[place].use_case, frozenset(drawn))
        if key not in seen:
            seen.add(key)
            found.append((place, Entry(entries[place].use_case, drawn)))
    return found


def metadata_rows(method: CodecLM, drafts: Sequence[Draft], counts: Counter[str]) -> Iterator[Row]:
    """Yield a prompt record per entry, encoded ones first; `n_metadata` of them where that is not 0."""
    entries = [Entry(draft.found["use_case"], tuple(draft.found["skills"])) for draft in drafts]
    chosen = list(enumerate(entries))
    wanted = method.n_metadata or len(entries)
    if wanted < len(entries):
        kept = random.Random(f"codeclm thin {method.sampling.seed}").sample(range(len(entries)), wanted)
        chosen = [(place, entries[place]) for place in sorted(kept)]
        counts["dropped_beyond_n_metadata"] += len(entries) - wanted
    elif wanted > len(entries) and entries:
        more = mixed(entries, wanted - len(entries), method.max_skills, method.sampling.seed)
        counts["mixed"] += len(more)
        chosen += more
    shares = even_split(method.total, len(chosen)) if chosen else []
    for (place, entry), share in zip(chosen, shares, strict=True):
        yield {
            "parent": drafts[place].parent,
            "prompt": [{"role": "user", "content": drafts[place].found["source"]}],
            "use_case": entry.use_case,
            "skills": list(entry.skills),
            "instructions": share,
        }
