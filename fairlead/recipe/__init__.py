"""Recipes: a YAML file that says, step by step, how a model is made and what must hold at the end."""

from __future__ import annotations

from fairlead.recipe.expectations import Checked, Expectation
from fairlead.recipe.plan import PlannedStep, Recipe, command_recipe, load, plain_config, substitute
from fairlead.recipe.preview import explain
from fairlead.recipe.running import RunResult, run
from fairlead.recipe.shipped import find_recipe, shipped_recipes

__all__ = [
    "Checked",
    "Expectation",
    "PlannedStep",
    "Recipe",
    "RunResult",
    "command_recipe",
    "explain",
    "find_recipe",
    "load",
    "plain_config",
    "run",
    "shipped_recipes",
    "substitute",
]
