"""The recipes that come with the package."""

from __future__ import annotations

from pathlib import Path

from fairlead.errors import RecipeError, UnknownNameError

__all__ = ["find_recipe", "shipped_recipes"]


def shipped_recipes() -> dict[str, Path]:
    """Return name -> file. They lie beside the modules in an installed package, one level up in a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "recipes", package.parent / "recipes"):
        found = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
        if found:
            return found
    raise RecipeError("the package holds no recipes", place=str(package), fix="reinstall fairlead")


def find_recipe(name: str) -> Path:
    """Return the recipe file that `name` stands for: a path, or the name of a shipped recipe.

    Raises:
        UnknownNameError: neither; the nearest shipped name is suggested.
        RecipeError: a path to a file that is not there.
    """
    path = Path(name)
    if path.is_file():
        return path
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        raise RecipeError("no such file", place=name, fix="check the path, or use the name of a shipped recipe")
    shipped = shipped_recipes()
    if name not in shipped:
        raise UnknownNameError("recipe", name, shipped)
    return shipped[name]
