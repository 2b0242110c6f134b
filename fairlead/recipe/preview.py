"""What a recipe would do, step by step, without doing it."""

from __future__ import annotations

from fairlead.recipe.plan import Recipe
from fairlead.steps.base import Preview

__all__ = ["explain"]


def explain(recipe: Recipe) -> list[Preview]:
    """Return one preview per step, in order.

    Raises:
        ModelError, DataError: a model or file that is not there.
    """
    known: dict[str, Preview] = {}
    for step in recipe.steps:
        known[step.id] = step.config.preview(known)
    return list(known.values())
