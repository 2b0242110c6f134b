"""Looking at Harbor: plain dictionaries about the world, a ship, a set and an answer, for the command line."""

from __future__ import annotations

import math
from itertools import islice
from typing import Any

from fairlead.errors import UsageError
from fairlead.harbor import lexicon as lex
from fairlead.harbor.collection import parameters, rows, sets
from fairlead.harbor.scoring import score
from fairlead.harbor.shipped import model_names
from fairlead.harbor.ships import is_name, world
from fairlead.harbor.tasks import understand

__all__ = ["describe", "describe_answer", "describe_ship", "sample"]


def describe() -> dict[str, Any]:
    """Return an overview: the world's size and values, data sets with parameters, names of models."""
    here = world()
    return {
        "world": {
            "seed": here.seed,
            "ships": len(here.ships),
            "common": len(here.choose("all", "common")),
            "rare": len(here.choose("all", "rare")),
            "unseen_train": len(here.unseen_train),
            "unseen_test": len(here.unseen_test),
            "values": {attribute: list(values) for attribute, values in lex.VALUES.items()},
        },
        "sets": [
            {"name": info.name, "kind": info.kind, "line": info.line, "parameters": parameters(info.name)}
            for info in sets()
        ],
        "models": model_names(),
    }


def describe_ship(name: str) -> dict[str, Any]:
    """Return what is true of a ship, or which set of unknown names a name belongs to.

    Raises:
        UsageError: the word is not built like a ship's name.
    """
    here = world()
    ship = here.by_name.get(name.lower())
    if ship:
        values = {attribute: ship.value(attribute) for attribute in lex.ATTRIBUTES}
        return {"name": ship.name, "known": True, **values, "rank": ship.rank, "tier": ship.tier, "split": ship.split}
    if not is_name(name.lower()):
        raise UsageError(f"{name!r} is not a ship's name", fix=f"use three syllables, as in {here.ships[0].name!r}")
    pool = {"train": here.unseen_train, "test": here.unseen_test}
    split = next((split for split, names in pool.items() if name.lower() in names), "none")
    return {"name": name.lower(), "known": False, "split": split}


def sample(spec: str, n: int = 3) -> list[dict[str, Any]]:
    """Return the first `n` rows of a set (`spec` as in `rows`)."""
    return list(islice(rows(spec), n))


def describe_answer(question: str, answer: str) -> dict[str, Any]:
    """Return what Harbor understands of a question and the defined axes of an answer's score."""
    task = understand(question)
    axes = {name: value for name, value in score(question, answer).items() if not math.isnan(value)}
    return {"kind": task.kind if task else None, "truth": list(task.truth) if task else [], "axes": axes}
