"""`fairlead theory win-rate`: win rates that transforms of ranks lead to, of one draw and of n."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

if TYPE_CHECKING:
    from fairlead.theory.transforms import Transform

__all__ = ["win_rate"]

_COLUMNS = {
    "transform": "transform",
    "kl": "KL, nats",
    "beta": "beta",
    "beta_normalised": "beta, normalised",
    "standard": "one draw",
    "best": "best of {n}",
    "worst": "worst of {n}",
}


def win_rate(
    *,
    kl: Annotated[
        float, Parameter(name="--kl", help="KL from the base at which transforms are compared, in nats.")
    ] = 0.5,
    n: Annotated[int, Parameter(name="--n", help="Draws of which either side keeps one.")] = 4,
    transform: Annotated[
        tuple[str, ...], Parameter(help="Which: identity, log, exp, neg_exp, best_of_n, worst_of_n; by default all.")
    ] = (),
    sharpness: Annotated[float, Parameter(help="How steep exp and neg_exp are.")] = 10.0,
    figure: Annotated[str | None, Parameter(help="SVG file for best-of-n win rates by KL.")] = None,
    json_: Annotated[bool, Parameter(name="--json", help="Print JSON.", negative="")] = False,
) -> int:
    """Say how often a policy beats its base after training on transformed ranks, and with which beta to train.

    Depends on transform, KL and n alone, neither on a model nor on a reward (InfAlign). `beta, normalised` is what to
    train the reward `calibrated` with.

    For example:

    ```
    fairlead theory win-rate --kl 0.5
    fairlead theory win-rate --kl 1 --n 16 --transform exp --transform best_of_n --figure curves.svg
    fairlead theory win-rate --kl 0.2 --json
    ```
    """
    from fairlead.theory.transforms import KINDS, Transform

    # The beta of the optimal ones is replaced by the one that is found.
    chosen = [Transform(kind, sharpness, n, 1.0) for kind in transform or KINDS]
    found = [_at(one, kl, n) for one in chosen]
    if figure is not None:
        path = Path(figure)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_drawn(chosen, kl, n), encoding="utf-8")
    if json_:
        print(json.dumps(found, indent=1))
    else:
        _show(found, n)
    return 0


def _at(transform: Transform, kl: float, n: int) -> dict[str, Any]:
    from fairlead.theory.transforms import matched
    from fairlead.theory.win_rates import POINTS, win_rates

    points = 4001 if n <= 8 else POINTS
    transform, beta = matched(transform, kl, points)
    rates = win_rates(transform.ranks(beta, points), n)
    return {
        "transform": transform.kind,
        "kl": rates.kl,
        "beta": beta,
        "beta_normalised": None if transform.kind == "log" else beta / transform.width,
        "standard": rates.standard,
        "best": rates.best,
        "worst": rates.worst,
    }


def _drawn(chosen: list[Transform], most: float, n: int) -> str:
    from fairlead.figures import curves
    from fairlead.theory.transforms import trace

    lines = {}
    for one in chosen:
        found = trace(one, n, most)
        lines[one.kind] = ([row.kl for row in found], [row.best for row in found])
    return curves(lines, x="KL, nats", y=f"win rate, best of {n}")


def _show(rows: list[dict[str, Any]], n: int) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column, title in _COLUMNS.items():
        table.add_column(title.format(n=n), justify="left" if column == "transform" else "right")
    for row in rows:
        values = [row[column] for column in _COLUMNS]
        table.add_row(*("-" if v is None else v if isinstance(v, str) else f"{v:.4g}" for v in values))
    Console(highlight=False).print(table)
