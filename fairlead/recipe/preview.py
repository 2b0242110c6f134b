"""What a recipe would do, step by step, without doing it."""

from __future__ import annotations

from dataclasses import replace

from fairlead.recipe.plan import Recipe
from fairlead.recipe.stopping import Loop
from fairlead.steps.base import Preview

__all__ = ["explain"]


def explain(recipe: Recipe) -> list[Preview]:
    """Return one preview per step, in order.

    Raises:
        ModelError, DataError: a model or file that is not there.
    """
    known: dict[str, Preview] = {}
    found = []
    for step in recipe.steps:
        known[step.id] = step.config.preview(known)
        found.append(known[step.id])
        for loop in recipe.loops:
            number = loop.round_of(step.id)
            if number > loop.certain and step.id == loop.step(number, loop.names[0]):
                found[-1] = replace(found[-1], sentences=(*found[-1].sentences, _condition(loop, number)))
            if step.id == loop.step(loop.rounds, loop.names[-1]):
                known |= {alias: known[loop.step(loop.rounds, name)] for alias, name in loop.aliases.items()}
    return found


def _condition(loop: Loop, number: int) -> str:
    """Say when a round is begun."""
    stop = loop.stop
    side = "above" if stop.goal == "highest" else "below"
    before = "the round before was" if stop.patience == 1 else f"one of the {stop.patience} rounds before was"
    margin = f" by more than {stop.by:g}" if stop.by else ""
    return f"Round {number} is begun only if {before} a gain: {stop.metric} {side} that of the last gain{margin}."
