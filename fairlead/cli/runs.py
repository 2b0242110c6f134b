"""The commands that run recipes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from fairlead.recipe import Recipe

__all__ = ["compare", "explain_recipe", "print_explanation", "quickstart", "reproduce", "run_recipe"]

Out = Annotated[Path | None, Parameter(help="Run folder; by default `runs/<name of the recipe>`.")]
Set = Annotated[
    list[str] | None,
    Parameter(name=["--set", "-s"], help="Change a field: `STEP.FIELD=VALUE` (YAML), as often as needed.", negative=""),
]
Force = Annotated[
    bool, Parameter(help="Set finished steps whose settings changed aside, and run them again.", negative="")
]
Quiet = Annotated[bool, Parameter(help="Show no progress and no summary.", negative="")]


def quickstart(*, out: Out = None, set_: Set = None, force: Force = False, quiet: Quiet = False) -> int:
    """Align a small model on this machine in two minutes and report on it.

    Base model, supervised fine-tuning, on-policy preference pairs, DPO, evaluation, report: the recipe `quickstart`.

    For example:

    ```
    fairlead quickstart
    fairlead quickstart --out runs/mine --set dpo.objective.beta=0.05
    ```
    """
    return _go("quickstart", out, set_, force, quiet)


def run_recipe(
    recipe: Annotated[str, Parameter(help="A YAML file, or the name of a shipped recipe.")],
    /,
    *,
    out: Out = None,
    set_: Set = None,
    force: Force = False,
    quiet: Quiet = False,
) -> int:
    """Run a recipe into a run folder, with a report at the end.

    Finished steps are not repeated; a step that was stopped goes on where it was. The exit code is 1 when an `expect:`
    line does not hold.

    For example:

    ```
    fairlead run recipe.yaml
    fairlead run recipe.yaml --set dpo.learning_rate=1e-4 --set seed=1 --out runs/lower
    ```
    """
    return _go(recipe, out, set_, force, quiet)


def explain_recipe(
    recipe: Annotated[str, Parameter(help="A YAML file, or the name of a shipped recipe.")],
    /,
    *,
    set_: Set = None,
) -> int:
    """Say what a recipe would do: samples, tokens, steps, memory, what is trained and what is frozen.

    For example:

    ```
    fairlead explain quickstart
    fairlead explain recipe.yaml --set sft.epochs=3
    ```
    """
    from fairlead.recipe import find_recipe, load

    return print_explanation(load(find_recipe(recipe), set_ or ()))


def reproduce(
    system: Annotated[str | None, Parameter(help="Name of the system; left out: the list of them.")] = None,
    /,
    *,
    out: Out = None,
    force: Force = False,
    quiet: Quiet = False,
) -> int:
    """Run a system's own recipe and check the claim it makes.

    For example:

    ```
    fairlead reproduce
    fairlead reproduce hh_small
    ```
    """
    from fairlead.recipe import load, shipped_recipes

    if system is None:
        for name, path in shipped_recipes().items():
            print(f"{name:<16} {load(path).title}")
        return 0
    return _go(system, out, None, force, quiet)


def compare(
    *runs: Annotated[Path, Parameter(help="Run folders, two or more.")],
    out: Annotated[Path, Parameter(help="The page to write.")] = Path("compare.html"),
) -> int:
    """Put several runs on one page: results with intervals, win rates, answers side by side, settings, cost.

    Evaluations of the same name are compared; models that came out alike in every run are shown once.

    For example:

    ```
    fairlead compare runs/quickstart runs/lower
    fairlead compare runs/seed-0 runs/seed-1 runs/seed-2 --out seeds.html
    ```
    """
    from rich.console import Console

    from fairlead.report.comparison import compare_runs
    from fairlead.report.page import write_comparison
    from fairlead.report.summary import print_comparison

    found = compare_runs(runs)
    page = write_comparison(found, out)
    print_comparison(found, Console(stderr=True))
    print(page)
    return 0


def print_explanation(recipe: Recipe) -> int:
    """Print the plan of a recipe in sentences."""
    from rich.console import Console
    from rich.markup import escape
    from rich.padding import Padding

    from fairlead.recipe import explain

    console = Console(highlight=False)
    console.print(f"[bold]{escape(recipe.title)}[/]")
    if recipe.about:
        console.print(escape(" ".join(recipe.about.split())))
    for number, (step, preview) in enumerate(zip(recipe.steps, explain(recipe), strict=True), 1):
        console.print(f"\n{number}. [bold]{step.id}[/] [dim]({step.kind})[/]")
        for sentence in preview.sentences:
            console.print(Padding(escape(sentence), (0, 0, 0, 3)))
    if recipe.expect:
        console.print("\nAt the end this must hold:")
        for expectation in recipe.expect:
            console.print(Padding(escape(expectation.line), (0, 0, 0, 3)))
    return 0


def _go(name: str, out: Path | None, overrides: list[str] | None, force: bool, quiet: bool) -> int:
    from fairlead.recipe import find_recipe, load, run

    recipe = load(find_recipe(name), overrides or ())
    run(recipe, out, force=force, quiet=quiet)
    return 0
