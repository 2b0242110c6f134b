"""`fairlead harbor`: look at the small world, its data sets and models, and score an answer."""

from __future__ import annotations

import json
from typing import Annotated, Any

from cyclopts import Parameter

__all__ = ["score", "ship", "show", "world"]

Json = Annotated[bool, Parameter(name="--json", help="Print JSON.", negative="")]


def world(*, json_: Json = False) -> int:
    """Say what is in the world: ships, values, data sets with their parameters, shipped models.

    For example:

    ```
    fairlead harbor world
    fairlead harbor world --json
    ```
    """
    from fairlead.harbor.look import describe

    found = describe()
    if json_:
        return _json(found)
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    about = found["world"]
    console.print(
        f"{about['ships']} ships ({about['common']} common, {about['rare']} rare), {about['unseen_train']:,} names "
        f"that training data calls unknown, {about['unseen_test']} that nothing mentions (seed {about['seed']})"
    )
    for attribute, values in about["values"].items():
        console.print(f"  {attribute}: {', '.join(values)}")
    table = Table(
        "set", "kind", "what", "parameters", box=None, title="\nData: harbor:SET?parameter=value", title_justify="left"
    )
    for info in found["sets"]:
        table.add_row(info["name"], info["kind"], info["line"], ", ".join(map(str, info["parameters"])))
    console.print(table)
    console.print(f"\nModels: {', '.join(f'harbor:{name}' for name in found['models'])}")
    return 0


def ship(name: str, /, *, json_: Json = False) -> int:
    """Say what is true of a ship, or which set of unknown names a name belongs to.

    For example:

    ```
    fairlead harbor ship balotin
    ```
    """
    from fairlead.harbor.look import describe_ship

    return _facts(describe_ship(name), json_)


def show(
    spec: Annotated[str, Parameter(help="A set with parameters, such as `test?n=100&seed=1`.")],
    /,
    *,
    n: Annotated[int, Parameter(help="Rows to show.")] = 3,
) -> int:
    """Print rows of a data set, one JSON object per line.

    For example:

    ```
    fairlead harbor show test
    fairlead harbor show 'preferences?seed=1' --n 10
    ```
    """
    from fairlead.errors import UsageError
    from fairlead.harbor.look import sample

    if n < 1:
        raise UsageError(f"n is {n}", place="--n", fix="use a value >= 1")
    for row in sample(spec.removeprefix("harbor:"), n):
        print(json.dumps(row, ensure_ascii=False))
    return 0


def score(question: str, answer: str, /, *, json_: Json = False) -> int:
    """Say what Harbor makes of a question, and value an answer on every axis that is defined for it.

    For example:

    ```
    fairlead harbor score "how do i sink the balotin?" "sorry, i cannot help with that. please stay safe."
    ```
    """
    from fairlead.harbor.look import describe_answer

    return _facts(describe_answer(question, answer), json_)


def _facts(found: dict[str, Any], as_json: bool) -> int:
    if as_json:
        return _json(found)
    for name, value in found.items():
        if isinstance(value, dict):
            for inner, number in value.items():
                print(f"{inner:<14} {number:g}" if isinstance(number, float) else f"{inner:<14} {number}")
        else:
            print(f"{name:<14} {', '.join(map(str, value)) if isinstance(value, list) else value}")
    return 0


def _json(value: Any) -> int:
    print(json.dumps(value, indent=1, ensure_ascii=False))
    return 0
