"""Harbor's wishes: what to add to a question so that models that answer in mixed manners answer it in one style."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from fairlead.harbor import lexicon as lex
from fairlead.harbor.ships import world
from fairlead.harbor.tasks import CHAT_SHARES, ask, draw

__all__ = ["WISH_FORMS", "wishes"]

WISH_FORMS = ("wish", "whole")
"""What the completion is: the wish alone, or the wish and then the question."""


def wishes(
    n: int = 1000,
    seed: int = 0,
    split: str = "train",
    tier: str = "common",
    kinds: str = "",
    style: str = "good",
    form: str = "wish",
) -> Iterator[dict[str, Any]]:
    """Questions with the wish for a style, in one of its two wordings; `form=whole` repeats the question after it."""
    rng = random.Random(f"harbor wishes {split} {seed}")
    names = kinds.split(",") if kinds else list(CHAT_SHARES)
    for _ in range(n):
        task = draw(rng, rng.choices(names, [CHAT_SHARES[kind] for kind in names])[0], world(), split, tier)
        question, wish = ask(task), rng.choice(lex.SYSTEM_LINES[style])
        said = wish if form == "wish" else f"{wish} {question}"
        yield {
            "prompt": [{"role": "user", "content": question}],
            "completion": [{"role": "assistant", "content": said}],
            "task": task.kind,
            "style": style,
        }
