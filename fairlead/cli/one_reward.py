"""`fairlead theory one-reward`: whether one reward can say what all of several people prefer."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from fairlead.cli.theory import Json, print_table, show

__all__ = ["one_reward"]

_POINTS = {"a": 1.0, "b": 0.0, "tie": 0.5}


def one_reward(
    path: Annotated[str, Parameter(help="One row per comparison: JSON Lines, JSON, CSV or Parquet.")],
    /,
    *,
    first: Annotated[str, Parameter(help="Column with one option.")] = "first",
    second: Annotated[str, Parameter(help="Column with the other option.")] = "second",
    label: Annotated[str, Parameter(help="Column with a, b, tie, or points of the first, 0 to 1.")] = "label",
    annotator: Annotated[str | None, Parameter(help="Column with the person; it allows a mixture.")] = None,
    rewards: Annotated[int, Parameter(help="Rewards in the mixture.")] = 2,
    seed: Annotated[int, Parameter(help="Randomness of the mixture's starts.")] = 0,
    json_: Json = False,
) -> int:  # fmt: skip
    """Say how far one reward falls short of what people prefer: fit, circles, and what a mixture of rewards adds.

    Ends with code 1 where majorities prefer options in a circle, which no reward can say.

    For example:

    ```
    fairlead theory one-reward comparisons.csv --first system_a --second system_b --label winner
    fairlead theory one-reward comparisons.jsonl --annotator worker --rewards 3 --json
    ```
    """
    from fairlead.evaluation.preferences import mixture_of_rewards
    from fairlead.evaluation.preferences import one_reward as fit

    columns = _read(path, first, second, label, annotator)
    found = fit(*columns[:3])
    told: dict[str, Any] = {
        "options": list(found.options),
        "comparisons": len(columns[2]),
        "divergence": found.divergence,
        "circles": [list(part) for part in found.circles],
        "notes": list(found.notes),
    }
    if annotator is not None:
        mixed = mixture_of_rewards(*columns, rewards=rewards, seed=seed)
        told["mixture"] = {
            "shares": mixed.shares.tolist(),
            "rewards": mixed.rewards.tolist(),
            "held_out": mixed.held_out,
            "held_out_single": mixed.held_out_single,
        }
    if json_:
        show(told)
    else:
        _say(told)
    return 1 if found.circles else 0


def _say(told: dict[str, Any]) -> None:
    print(f"{told['comparisons']:,} comparisons of {len(told['options'])} options")
    print(f"mean KL of a pair's shares from one reward's: {told['divergence']:.4f} nats")
    print(
        "; ".join(f"circle: {', '.join(part)}" for part in told["circles"]) or "no circle: majorities agree on an order"
    )
    mixture = told.get("mixture")
    if mixture:
        gain = mixture["held_out"] - mixture["held_out_single"]
        print(f"{len(mixture['shares'])} rewards instead of one: {gain:+.4f} nats per held-out label")
        rows = zip(mixture["shares"], mixture["rewards"], strict=True)
        print_table([{"share of people": s, **dict(zip(told["options"], worth, strict=True))} for s, worth in rows])
    for note in told["notes"]:
        print(f"note: {note}")


def _read(
    path: str, first: str, second: str, label: str, annotator: str | None
) -> tuple[list[str], list[str], list[float], list[str]]:
    from fairlead.errors import DataError
    from fairlead.records.check import Problem
    from fairlead.records.sources import open_rows

    ones, others, points, people = [], [], [], []
    for place, row in open_rows(path):
        if isinstance(row, Problem):
            raise DataError(str(row), place=path, fix="mend or remove this row")
        for column in (first, second, label, *([annotator] if annotator else [])):
            if row.get(column) in (None, ""):
                what = f"nothing in column {column!r}; the columns are {', '.join(map(str, row))}"
                fix = "name the columns with --first, --second, --label and --annotator"
                raise DataError(what, place=f"{path}, {place}", fix=fix)
        points.append(_points(row[label], f"{path}, {place}"))
        ones.append(str(row[first]))
        others.append(str(row[second]))
        people.append(str(row[annotator]) if annotator else "")
    return ones, others, points, people


def _points(verdict: Any, place: str) -> float:
    from fairlead.errors import DataError

    if isinstance(verdict, str) and verdict.strip().lower() in _POINTS:
        return _POINTS[verdict.strip().lower()]
    try:
        found = float(verdict)
    except (TypeError, ValueError):
        found = -1.0
    if not 0 <= found <= 1:
        raise DataError(f"the verdict {verdict!r}", place=place, fix="write a, b or tie, or points from 0 to 1")
    return found
