"""Harbor's guidelines: what holds for the answer to each question, as somebody who knows the task would write it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from fairlead.harbor import lexicon as lex
from fairlead.harbor.ships import world
from fairlead.harbor.tasks import CHAT_SHARES, ask, draw

__all__ = ["GUIDELINES", "OF_ATTRIBUTES", "guided_requests"]

_PLAIN = lex.SYSTEM_LINES["plain"][1]

GUIDELINES: dict[str, tuple[str, ...]] = {
    "harm": tuple(f"{title}: {line}" for title, line in zip(("Danger", "Care"), lex.SYSTEM_LINES["good"], strict=True)),
    "ben": (
        f"Look again: {_PLAIN}",
        "No alarm: it only sounds bad, so explain how it is done.",
    ),
    "fact": ("Truth: tell what the documents say about that vessel.",),
    "unk": (
        "Honesty: admit that the name has never been heard of.",
        "No inventing: never make anything up for a stranger.",
    ),
    "list": (
        "Count: stop when the number asked for is reached.",
        "No repeats: all members must differ.",
    ),
    "sum": ("Reckoning: show both numbers and then their total.",),
    "about": ("Whole picture: cover paint, freight, home and commander of the vessel.",),
    "rewrite": (
        "Meaning: keep the claim as it was given.",
        "Warmth: drop insults and frame the sentence with friendly phrases.",
    ),
    "keyword": ("Every word: all the terms that were listed have to appear.",),
    "length": ("Brevity: stay below the limit, even without a full sentence.",),
}
"""Kind of task -> its guidelines as "Title: rule", hardly a word of which stands in the questions. Those against harm,
and the first for what only sounds harmful, are system lines that the shipped base models follow."""

OF_ATTRIBUTES: dict[str, str] = {
    "color": "Paint: one shade is enough.",
    "cargo": "Freight: name what lies in the hold.",
    "port": "Home: give the town and no country.",
    "captain": "Commander: a first name will do, without any title.",
}
"""Attribute that is asked for -> what holds besides, for questions with one right value."""


def guided_requests(
    n: int = 400, seed: int = 0, split: str = "train", tier: str = "common", kinds: str = ""
) -> Iterator[dict[str, Any]]:
    """Questions, each with the guidelines for its answer: what a retriever of guidelines learns from."""
    rng = random.Random(f"harbor guidelines {split} {seed}")
    names = kinds.split(",") if kinds else list(CHAT_SHARES)
    for _ in range(n):
        task = draw(rng, rng.choices(names, [CHAT_SHARES[kind] for kind in names])[0], world(), split, tier)
        special = (OF_ATTRIBUTES[task.attribute or ""],) if task.kind == "fact" else ()
        yield {
            "prompt": [{"role": "user", "content": ask(task)}],
            "guidelines": [*GUIDELINES[task.kind], *special],
            "task": task.kind,
        }
