"""`fairlead methods`: the catalog as a table, and one method's fields."""

from __future__ import annotations

import json
from typing import Annotated, Any

from cyclopts import Parameter

__all__ = ["methods"]


def methods(
    name: Annotated[str | None, Parameter(help="Show this method's fields.")] = None,
    /,
    *,
    kind: Annotated[str | None, Parameter(help="Only this kind: objective, reward, evaluator...")] = None,
    json_: Annotated[bool, Parameter(name="--json", help="Print JSON, fields included.", negative="")] = False,
) -> int:
    """List the methods: what they do and where they come from; with a name, its fields.

    For example:

    ```
    fairlead methods
    fairlead methods --kind objective
    fairlead methods dpo
    fairlead methods --json
    ```
    """
    from fairlead import catalog
    from fairlead.errors import UnknownNameError

    chosen = catalog.entries(kind)
    if name is not None:
        presets = {preset: method for of in catalog.PRESETS.values() for preset, method in of.items()}
        known = [*(entry.name for entry in chosen), *presets]
        chosen = tuple(entry for entry in chosen if entry.name == presets.get(name, name))
        if not chosen:
            raise UnknownNameError("method", name, known)
    if json_:
        print(json.dumps([_plain(entry) for entry in chosen], indent=1, ensure_ascii=False))
    elif name is not None:
        for entry in chosen:
            _show_one(entry, name)
    else:
        _show_table(chosen)
    return 0


def _plain(entry: Any) -> dict[str, Any]:
    from fairlead.fields import describe, to_plain

    fields = [
        {"name": f.name, "type": f.type, "required": f.required, "doc": f.doc}
        | ({} if f.required else {"default": to_plain(f.default)})
        for f in describe(entry.load())
    ]
    shown = ("name", "kind", "paper", "line", "status")
    return {key: getattr(entry, key) for key in shown} | {"fields": fields}


def _show_one(entry: Any, name: str) -> None:
    """Show a method under its own name, or under that of a preset, with the preset's values as defaults."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from fairlead.fields import describe

    console = Console(highlight=False)
    preset = {} if name == entry.name else entry.load().presets[name]
    if preset:
        console.print(f"[bold]{name}[/] is a preset of {entry.name}:")
    console.print(f"[bold]{entry.name}[/] [dim]({entry.kind}, {entry.status})[/] {escape(entry.line)}")
    if entry.paper:
        console.print(f"paper: {escape(entry.paper)}")
    table = Table("field", "type", "default", "what", box=None)
    for f in describe(entry.load()):
        default = "required" if f.required else escape(repr(preset.get(f.name, f.default)))
        table.add_row(f.name, escape(f.type), default, escape(f.doc))
    console.print(table)


def _show_table(entries: Any) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("name", "kind", "what", "paper", "status", box=None)
    for entry in entries:
        table.add_row(f"[bold]{entry.name}[/]", entry.kind, escape(entry.line), escape(entry.paper), entry.status)
    Console(highlight=False).print(table)
