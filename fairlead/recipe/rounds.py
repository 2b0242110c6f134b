"""Rounds: `repeat:` in a recipe stands for the same steps several times, each round with what the one before made.

    - id: sheep
      repeat: 3
      carry: {model: {first: harbor:base-1m, then: "@tuned"}}
      steps:
        - {id: made, synthesize: {synthesizer: magpie, models: {model: "@model"}, count: 500}}
        - {id: tuned, train: {model: harbor:base-1m, data: "@made"}}

Before anything else is looked at these become the steps sheep1_made, sheep1_tuned, sheep2_made, ..., so that rounds are
kept, resumed and shown as all steps are. With `stop:` a metric decides between rounds whether another one is begun.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

from fairlead.errors import RecipeError, UnknownFieldError, UsageError
from fairlead.recipe.document import Document, Keys
from fairlead.recipe.stopping import Loop, Stop

__all__ = ["REFERENCE", "unroll"]

REFERENCE = re.compile(r"@([A-Za-z0-9_-]+)([#?].*)?")
"""A text that stands for what an earlier step made: its id, and what is asked of it."""

_KEYS = ("id", "repeat", "carry", "stop", "steps")
_ENDS = ("first", "then")
_MOST = 1000


def unroll(document: Document) -> tuple[Loop, ...]:
    """Put the steps of every round in the place of each `repeat:` of a recipe; return the rounds that may end early.

    A step that gives no seed has the recipe's plus the number of rounds before.

    Raises:
        RecipeError, UnknownFieldError: a block that is not of the form above.
    """
    top: dict[str, Any] = document.value
    entries = top.get("steps")
    if not isinstance(entries, list) or not any(isinstance(e, Mapping) and "repeat" in e for e in entries):
        return ()
    steps: list[Any] = []
    loops: list[Loop] = []
    places = {keys: place for keys, place in document.places.items() if keys[:1] != ("steps",) or len(keys) == 1}

    def put(entry: Any, origin: Keys) -> None:
        for keys, place in document.places.items():
            if keys[: len(origin)] == origin:
                places["steps", len(steps), *keys[len(origin) :]] = place
        steps.append(entry)

    for index, entry in enumerate(entries):
        if isinstance(entry, Mapping) and "repeat" in entry:
            for number, inner, step in _rounds(document, index, entry):
                put(_seeded(step, document, number), ("steps", index, "steps", inner))
            loops += _loop(document, index, entry)
        else:
            put(entry, ("steps", index))
    top["steps"] = steps
    document.places = places
    return tuple(loops)


def _loop(document: Document, index: int, block: Mapping[str, Any]) -> list[Loop]:
    """Return the rounds of a block, where a rule may end them."""
    if block.get("stop") is None:
        return []
    from fairlead import fields

    place, names = document.place("steps", index, "stop"), tuple(step["id"] for step in block["steps"])
    if not isinstance(block["stop"], Mapping):
        fix = "write it like {metric: checked.rewards.model.total, by: 0.02}"
        raise RecipeError("stop is not a mapping", place=place, fix=fix)
    for key in block["stop"]:
        known = [field.name for field in fields.describe(Stop)]
        if key not in known:
            raise UnknownFieldError("stop", str(key), known, place=document.place("steps", index, "stop", key))
    try:
        stop = fields.build(Stop, dict(block["stop"]), owner="stop")
    except UsageError as error:
        raise UsageError(error.what, place=error.place or place, fix=error.fix) from error
    if stop.metric.partition(".")[0] not in names:
        fix = f"name a number of {' or '.join(names)}"
        raise RecipeError(f"stop.metric {stop.metric!r} is of no step of the round", place=place, fix=fix)
    return [Loop(block["id"], names, block["repeat"], stop, place)]


def _rounds(document: Document, index: int, block: Mapping[str, Any]) -> list[tuple[int, int, Any]]:
    """Return (rounds before, place in the block, step) of all rounds, in their order."""
    carry = _checked(document, index, block)
    name, names = block["id"], [step["id"] for step in block["steps"]]
    found = []
    for number in range(block["repeat"]):
        own = {step: f"@{name}{number + 1}_{step}" for step in names}
        before = {step: f"@{name}{number}_{step}" for step in names}
        known = own | {
            key: ends["first"] if number == 0 else _replaced(ends["then"], before) for key, ends in carry.items()
        }
        for inner, step in enumerate(block["steps"]):
            plain = {kind: _replaced(copy.deepcopy(part), known) for kind, part in step.items() if kind != "id"}
            found.append((number, inner, {"id": f"{name}{number + 1}_{step['id']}", **plain}))
    return found


def _checked(document: Document, index: int, block: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return what is carried from round to round, after checking the block."""
    place = document.place("steps", index)
    for key in block:
        if key not in _KEYS:
            raise UnknownFieldError("repeat", str(key), _KEYS, place=document.place("steps", index, key))
    times, inner = block["repeat"], block.get("steps")
    if not isinstance(times, int) or isinstance(times, bool) or not 1 <= times <= _MOST:
        fix = f"give the number of rounds, 1 to {_MOST}"
        raise RecipeError(f"repeat is {times!r}", place=document.place("steps", index, "repeat"), fix=fix)
    if not isinstance(block.get("id"), str):
        raise RecipeError("repeat has no id", place=place, fix="give it one: its steps are called ID1_..., ID2_...")
    named = isinstance(inner, list) and all(isinstance(s, Mapping) and isinstance(s.get("id"), str) for s in inner)
    if not inner or not named or any("repeat" in step for step in inner):
        fix = "list the steps of one round under `steps:`, each with an id, none of them a repeat"
        raise RecipeError("repeat needs steps", place=place, fix=fix)
    carry = block.get("carry") or {}
    ids = [step["id"] for step in inner]
    for key, ends in carry.items() if isinstance(carry, Mapping) else [("carry", carry)]:
        if not isinstance(ends, Mapping) or set(ends) != set(_ENDS) or key in ids:
            at = document.place("steps", index, "carry", key)
            fix = 'write NAME: {first: what the first round has, then: "@STEP of the round before"}, NAME no step\'s id'
            raise RecipeError(f"carry.{key} is not of the form {{first, then}}", place=at, fix=fix)
    return dict(carry)


def _replaced(value: Any, known: Mapping[str, Any]) -> Any:
    """Return plain `value` with every "@name" that is known replaced; a suffix stays behind a text."""
    if isinstance(value, str):
        match = REFERENCE.fullmatch(value)
        if match is None or match[1] not in known:
            return value
        new = known[match[1]]
        return new + (match[2] or "") if isinstance(new, str) else copy.deepcopy(new)
    if isinstance(value, Mapping):
        return {key: _replaced(inner, known) for key, inner in value.items()}
    return [_replaced(inner, known) for inner in value] if isinstance(value, list) else value


def _seeded(step: dict[str, Any], document: Document, number: int) -> dict[str, Any]:
    """Return the step with the seed of its round, where it takes one and gives none."""
    from fairlead import fields, steps

    known = {kind.name: kind for kind in steps.KINDS}
    seed = document.value.get("seed") or 0
    for kind, block in step.items():
        if kind in known and isinstance(block, dict) and "seed" not in block and isinstance(seed, int):
            takes = any(field.name == "seed" for field in fields.describe(known[kind].load()))
            return {**step, kind: {**block, "seed": seed + number}} if takes else step
    return step
