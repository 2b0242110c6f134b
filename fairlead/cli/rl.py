"""`fairlead rl`: what belongs to learning from completions of one's own, besides training itself."""

from __future__ import annotations

import json
from typing import Annotated

from cyclopts import Parameter

__all__ = ["presets", "self_test"]


def self_test(
    *,
    model: Annotated[str, Parameter(help="Model to test: harbor:NAME, a directory, a hub id.")],
    data: Annotated[str, Parameter(help="Prompts to draw from.")] = "harbor:prompts?n=16",
    n: Annotated[int, Parameter(help="Completions per prompt.")] = 4,
    prompts: Annotated[int, Parameter(help="Prompts.")] = 8,
    max_tokens: Annotated[int, Parameter(help="Most tokens of a completion.")] = 64,
    dtype: Annotated[str, Parameter(help="Arithmetic of the trainer: float32, bfloat16.")] = "float32",
    draw_dtype: Annotated[
        str, Parameter(help="Number format of the weights that draw: float32, bfloat16.")
    ] = "float32",
    server: Annotated[str | None, Parameter(help='Draw from a server, "URL#model".')] = None,
    layout: Annotated[str, Parameter(help="Layout of the trainer's batch: auto, shared, packed, padded.")] = "auto",
    tolerance: Annotated[float, Parameter(help="Largest |ratio - 1| of a token that passes.")] = 1e-4,
    json_: Annotated[bool, Parameter(name="--json", help="Print JSON.", negative="")] = False,
) -> int:
    """Draw completions, train on them with a learning rate of zero, and check that the ratio stays 1.

    Exits with 1 where sampler and trainer disagree by more than the tolerance. For example:

    ```
    fairlead rl self-test --model harbor:base-300k
    fairlead rl self-test --model models/mine --data prompts.jsonl --dtype bfloat16 --tolerance 0.05
    ```
    """
    from rich.console import Console

    from fairlead.fields import build, to_plain
    from fairlead.training.config import TrainConfig
    from fairlead.training.self_test import self_test as test

    rollout = {"reward": {"name": "harbor_proxy", "proxy": "length"}, "n": n, "max_tokens": max_tokens}
    rollout |= {"dtype": draw_dtype, "server": server}
    values = {"model": model, "data": data, "objective": "policy_gradient", "batch_size": prompts, "dtype": dtype}
    found = test(build(TrainConfig, {**values, "rollout": rollout, "layout": layout}, owner="rl self-test"))
    passed = found.largest <= tolerance and found.moved == 0.0
    if json_:
        print(json.dumps({**to_plain(found), "tolerance": tolerance, "passed": passed}))
        return 0 if passed else 1
    console = Console(highlight=False)
    console.print(f"{found.completions} completions, {found.tokens} tokens, layout {found.layout}")
    console.print(f"largest |ratio - 1| of a token       {found.largest:.2e}  (at most {tolerance:g})")
    console.print(f"largest |ratio - 1| of a completion  {found.sequence:.2e}")
    console.print(f"mean |log-ratio| of a token          {found.mean:.2e} nats")
    console.print(f"largest change of a weight at rate 0 {found.moved:.2e}")
    if passed:
        console.print("[green]sampler and trainer agree[/]")
    else:
        console.print(
            "[red]sampler and trainer disagree[/]: use float32 for both, the same model and template at the server, "
            "and temperature 1; or set the objective's `correction`"
        )
    return 0 if passed else 1


def presets(
    one: Annotated[str | None, Parameter(help="Show this preset alone.")] = None,
    other: Annotated[str | None, Parameter(help="Show in what these two differ.")] = None,
    /,
    *,
    json_: Annotated[bool, Parameter(name="--json", help="Print JSON, all settings.", negative="")] = False,
) -> int:
    """Show the named algorithms as settings of `policy_gradient`.

    For example:

    ```
    fairlead rl presets
    fairlead rl presets grpo
    fairlead rl presets grpo dapo
    ```
    """
    from rich.console import Console
    from rich.table import Table

    from fairlead import catalog
    from fairlead.fields import to_plain

    names = [name for name in (one, other) if name is not None] or list(catalog.PRESETS["objective"])
    settings = {name: to_plain(catalog.build("objective", name)) for name in names}
    if json_:
        print(json.dumps(settings, indent=1))
        return 0
    fields = list(next(iter(settings.values())))
    if len(names) == 2:
        fields = [field for field in fields if settings[names[0]][field] != settings[names[1]][field]]
    elif len(names) > 2:
        plain = to_plain(catalog.build("objective", "policy_gradient"))
        fields = [field for field in fields if any(s[field] != plain[field] for s in settings.values())]
    table = Table("setting", *names, box=None)
    for field in fields:
        table.add_row(field, *(str(settings[name][field]) for name in names))
    Console(highlight=False, width=None if len(names) < 3 else 160).print(table)
    return 0
