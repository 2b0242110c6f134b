"""`fairlead evidence`: run every recipe that makes a claim, and write what came out into the documentation."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

if TYPE_CHECKING:
    from fairlead.recipe import Recipe

__all__ = ["evidence"]

_START, _END = "<!-- evidence:start -->", "<!-- evidence:end -->"
_SUMMARY, _FULL = "README.md", "docs/evidence.md"
_HEADS = {
    _SUMMARY: "| recipe | what it shows | its claims | |\n|---|---|---|---|",
    _FULL: "| recipe | what must hold | measured | |\n|---|---|---|---|",
}
_TOOK = "took"
_HOLDS, _FAILS = "holds", "**does not hold**"


def evidence(
    *recipes: Annotated[str, Parameter(help="Names of shipped recipes; left out: all that have `expect:` lines.")],
    out: Annotated[Path, Parameter(help="Folder of the run folders; finished runs in it are not repeated.")] = Path(
        "runs/evidence"
    ),
    root: Annotated[Path, Parameter(help="The checkout whose pages are rewritten.")] = Path("."),
) -> int:
    """Run the recipes that make a claim and rewrite the evidence tables of docs/evidence.md and, in short, README.md.

    A recipe that cannot run here (its data is elsewhere) keeps its earlier rows. The exit code is 1 when a claim does
    not hold or a recipe could not run.

    For example:

    ```
    fairlead evidence
    fairlead evidence quickstart --out runs/again
    ```
    """
    from fairlead.recipe import find_recipe, load, shipped_recipes

    for name in recipes:
        find_recipe(name)
    pages = _pages(root)
    made: dict[str, list[str]] = {}
    good = True
    for name in recipes or shipped_recipes():
        recipe = load(find_recipe(name))
        if recipe.expect:
            made[name], held = _row(name, recipe, out / name, pages)
            good = good and held
    # Read again: recipes take minutes, in which somebody may have added one or edited the pages.
    pages = _pages(root)
    titles = {name: recipe.title for name in shipped_recipes() if (recipe := load(find_recipe(name))).expect}
    rows = {name: made[name] if name in made else _earlier(pages, name) for name in titles}
    tables = {
        _SUMMARY: [_summary(name, titles[name], lines) for name, lines in rows.items() if lines],
        _FULL: [line for lines in rows.values() for line in lines],
    }
    for page, text in pages.items():
        before, _, rest = text.partition(_START)
        name = page.relative_to(root).as_posix()
        table = "\n".join([_HEADS[name], *tables[name]])
        page.write_text(f"{before}{_START}\n\n{table}\n\n{_END}{rest.partition(_END)[2]}", encoding="utf-8")
        print(page)
    return 0 if good else 1


def _summary(name: str, title: str, rows: list[str]) -> str:
    """Return one row for a recipe, from its rows of the full table."""
    cells = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]
    verdicts = [row[3] for row in cells if row[1] != _TOOK]
    took = "".join(row[2] for row in cells if row[1] == _TOOK)
    return f"| {name} | {title} | {verdicts.count(_HOLDS)} of {len(verdicts)} hold | {took} |"


def _pages(root: Path) -> dict[Path, str]:
    from fairlead.errors import UsageError

    found = {root / name: (root / name).read_text(encoding="utf-8") for name in _HEADS if (root / name).is_file()}
    for page, text in found.items():
        if text.count(_START) != 1 or text.count(_END) != 1 or text.index(_END) < text.index(_START):
            fix = f"put {_START} and {_END} around the table, once"
            raise UsageError("has no place for the evidence table", place=str(page), fix=fix)
    if not found:
        fix = "run it in a checkout of Fairlead, or name one with --root"
        raise UsageError(f"holds neither {' nor '.join(_HEADS)}", place=str(root), fix=fix)
    return found


def _row(name: str, recipe: Recipe, folder: Path, pages: dict[Path, str]) -> tuple[list[str], bool]:
    """Run a recipe; return its rows of the table, and whether all of its claims hold."""
    from fairlead.errors import ExpectationError, FairleadError
    from fairlead.recipe import run

    try:
        run(recipe, folder, command=f"fairlead reproduce {name}")
    except ExpectationError as error:
        print(f"fairlead: {error}", file=sys.stderr)
    except FairleadError as error:
        print(f"fairlead: {name} could not run, its earlier rows stay\n  {error}", file=sys.stderr)
        return _earlier(pages, name), False
    return _rows(name, folder)


def _rows(name: str, folder: Path) -> tuple[list[str], bool]:
    from fairlead.recipe.folder import RunFolder

    place = RunFolder(folder)
    state: dict[str, Any] = place.run()
    steps = [place.state(step) or {} for step in state["steps"]]
    minutes = sum(step.get("seconds", 0.0) for step in steps) / 60
    lines = []
    for checked in state["expectations"]:
        value = "not defined" if checked["value"] is None else f"{checked['value']:.3f}"
        verdict = _HOLDS if checked["holds"] else _FAILS
        line = checked["line"].replace("|", "\\|")
        lines.append(f"| {name} | `{line}` | {value} | {verdict} |")
    cpu = f"{state['machine']['cpu']}, {state['machine']['cores']} cores" if steps else ""
    lines.append(f"| {name} | {_TOOK} | {minutes:.1f} min | {cpu} |")
    return lines, all(checked["holds"] for checked in state["expectations"])


def _earlier(pages: dict[Path, str], name: str) -> list[str]:
    """Return the rows that a recipe has in the full table now."""
    text = next((text for page, text in pages.items() if page.as_posix().endswith(_FULL)), "")
    table = text.partition(_START)[2].partition(_END)[0]
    return [line for line in table.splitlines() if line.startswith(f"| {name} |")]
