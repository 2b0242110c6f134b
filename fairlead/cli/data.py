"""`fairlead data`: check data before it costs a run, and look at rows as a model will see them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

if TYPE_CHECKING:
    from fairlead.records import Record, Records
    from fairlead.render import Rendered, Renderer

__all__ = ["card", "check", "show"]

Model = Annotated[str | None, Parameter(help="Model whose tokenizer and chat template are used.")]
Kind = Annotated[str | None, Parameter(help="Read rows as this kind: conversation, preference, prompt, text...")]
Format = Annotated[str | None, Parameter(help="Row format, if not Fairlead's own: hh, alpaca, sharegpt, bbq, arena.")]
Limit = Annotated[int | None, Parameter(help="Read only the first so many good rows.")]

_OPEN, _CLOSE = "[[", "]]"
"""Around trained parts in plain text."""


def check(
    path: Annotated[str, Parameter(help="A file, harbor:SET, a hub id, with options behind `?`.")],
    /,
    *,
    model: Model = None,
    kind: Kind = None,
    format: Format = None,
    limit: Limit = None,
    max_length: Annotated[
        int | None, Parameter(help="Most tokens of a prompt with one completion; the model's own limit by default.")
    ] = None,
    json_: Annotated[bool, Parameter(name="--json", help="Print JSON.", negative="")] = False,
) -> int:
    """Count and measure the rows of a data set and list its problems; the exit code is 1 when there are any.

    Problems are rows that cannot be read and, with a model, rows that its template refuses or that are too long.
    Duplicates are told, too, but are no problem.

    For example:

    ```
    fairlead data check pairs.jsonl
    fairlead data check hh.jsonl.gz --format hh
    fairlead data check harbor:preferences?n=500 --model harbor:base-1m
    ```
    """
    from fairlead.errors import DataError
    from fairlead.records.reader import survey

    try:
        records = survey(path, kind=kind, format=format, limit=limit)
    except DataError as error:
        print(json.dumps({"source": path, "error": str(error)}) if json_ else error)
        return 1
    found: dict[str, Any] = {
        "source": records.source,
        "kind": records.kind,
        "rows": len(records),
        "fingerprint": records.fingerprint,
        "left_out": len({problem.place for problem in records.dropped}),
        "duplicates": _duplicates(records),
        "extra_columns": dict(Counter(name for record in records for name in record.extra)),
        "lengths": _text_lengths(records),
    }
    refused: list[str] = []
    if model is not None:
        found["lengths"], refused = _token_lengths(records, model, max_length)
        found["refused"] = len(refused)
    if json_:
        problems = [*map(str, records.dropped), *refused]
        print(json.dumps(found | {"problems": problems}, indent=1, ensure_ascii=False))
    else:
        _print_check(found, records, refused)
    return 1 if records.dropped or refused else 0


def card(
    path: Annotated[str, Parameter(help="A file, harbor:SET, a hub id, with options behind `?`.")],
    /,
    *,
    out: Annotated[Path, Parameter(help="The page to write.")] = Path("card.html"),
    kind: Kind = None,
    format: Format = None,
    limit: Limit = None,
) -> int:
    """Write one page about a data set: counts, lengths, tags, duplicates, origin, samples.

    For example:

    ```
    fairlead data card 'harbor:pool?n=2000' --out pool.html
    fairlead data card runs/magpie/steps/made/records.jsonl
    ```
    """
    from fairlead import report
    from fairlead.records.reader import survey

    print(report.data_card(survey(path, kind=kind, format=format, limit=limit), out))
    return 0


def show(
    path: Annotated[str, Parameter(help="A file, harbor:SET, a hub id, with options behind `?`.")],
    /,
    *,
    model: Annotated[str, Parameter(help="Model whose tokenizer and chat template are used.")],
    n: Annotated[int, Parameter(help="Rows shown.")] = 3,
    start: Annotated[int, Parameter(help="First row shown, counted from 0.")] = 0,
    kind: Kind = None,
    format: Format = None,
    plain: Annotated[bool, Parameter(help="Mark trained parts with [[ ]], not with colour.", negative="")] = False,
) -> int:
    """Show rows as a model will see them, special tokens included, with what is trained in colour.

    For example:

    ```
    fairlead data show harbor:demonstrations --model harbor:base-1m
    fairlead data show hh.jsonl.gz --format hh --model harbor:base-1m --n 1 --plain
    ```
    """
    from rich.console import Console
    from rich.text import Text

    from fairlead.errors import UsageError
    from fairlead.records import read

    if n < 1 or start < 0:
        raise UsageError(f"n is {n}, start is {start}", fix="use n >= 1 and start >= 0")
    renderer = _renderer(model)
    records = read(path, kind=kind, format=format, limit=start + n)
    if start >= len(records):
        raise UsageError(f"start is {start}", place=path, fix=f"the source has {len(records)} rows")
    console = Console(highlight=False, soft_wrap=True)
    for record in records[start:]:
        for label, rendered in _renderings(record, renderer):
            trained = sum(rendered.loss_mask)
            head = f"{record.kind} {record.id}, {label}: {len(rendered.ids)} tokens, {trained} trained"
            parts = renderer.parts(rendered)
            if plain:
                body = "".join(f"{_OPEN}{text}{_CLOSE}" if is_trained else text for text, is_trained in parts)
                print(f"{head}\n{body}\n")
            else:
                console.print(Text(head, style="bold"))
                console.print(Text.assemble(*((text, "green" if is_trained else "dim") for text, is_trained in parts)))
                console.print()
    return 0


def _renderer(model: str) -> Renderer:
    from fairlead.models import load_tokenizer
    from fairlead.render import Renderer

    return Renderer(load_tokenizer(model), place=model)


def _renderings(record: Any, renderer: Renderer) -> list[tuple[str, Rendered]]:
    """Return every way in which a record goes through a model, each with a name."""
    from fairlead.render import Rendered

    def answered(name: str) -> tuple[str, Rendered]:
        return name, renderer.example(record.prompt, getattr(record, name))

    def prompt() -> Rendered:
        ids = renderer.prompt(record.prompt)
        return Rendered(ids, [False] * len(ids), [], len(ids))

    def document() -> Rendered:
        ids = renderer.text(record.text)
        return Rendered(ids, [i > 0 for i in range(len(ids))], [], 1)

    ways = {
        "conversation": lambda: [answered("completion")],
        "feedback": lambda: [("good" if record.label else "bad", answered("completion")[1])],
        "preference": lambda: [answered("chosen"), answered("rejected")],
        "ranking": lambda: [
            (f"score {score:g}", renderer.example(record.prompt, completion))
            for score, completion in zip(record.scores, record.completions)
        ],
        "prompt": lambda: [("prompt", prompt())],
        "text": lambda: [("document", document())],
    }
    return ways[record.kind]()


def _duplicates(records: Records) -> dict[str, int]:
    """Count rows whose content, or whose prompt, an earlier row has; and pairs of equal answers."""
    from fairlead.records import Preference

    contents = Counter(_content(record) for record in records)
    asked = [getattr(record, "prompt", ()) for record in records]
    prompts = Counter(_said(prompt) for prompt in asked if prompt)
    same = sum(isinstance(record, Preference) and record.chosen == record.rejected for record in records)
    return {
        "rows": len(records) - len(contents),
        "prompts": sum(prompts.values()) - len(prompts),
        "equal_pairs": same,
    }


def _content(record: Record) -> str:
    from fairlead.records import to_row

    return _said({key: value for key, value in to_row(record).items() if key != "id" and key not in record.extra})


def _said(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _text_lengths(records: Records) -> dict[str, dict[str, float]]:
    from fairlead.records import texts

    return {"characters": _spread([sum(map(len, texts(record))) for record in records])}


def _token_lengths(
    records: Records, model: str, max_length: int | None
) -> tuple[dict[str, dict[str, float]], list[str]]:
    """Return the spread of tokens, and why rows cannot be rendered or do not fit."""
    from fairlead.errors import RenderError

    renderer = _renderer(model)
    own = getattr(renderer.tokenizer, "model_max_length", None)
    limit = max_length if max_length is not None else own
    prompts, completions, trained, refused = [], [], [], []
    for record in records:
        try:
            rows = _renderings(record, renderer)
        except RenderError as error:
            refused.append(f"record {record.id}: {error.what} (fix: {error.fix})")
            continue
        prompts.append(rows[0][1].split)
        for label, rendered in rows:
            completions.append(len(rendered.ids) - rendered.split)
            trained.append(sum(rendered.loss_mask))
            if limit is not None and len(rendered.ids) > limit:
                refused.append(f"record {record.id}, {label}: {len(rendered.ids)} tokens, more than {limit}")
    lengths = {"prompt tokens": prompts, "completion tokens": completions, "trained tokens": trained}
    return {name: _spread(values) for name, values in lengths.items() if values}, refused


def _spread(values: list[int]) -> dict[str, float]:
    import numpy as np

    low, median, high, top = np.percentile(values, [0, 50, 95, 100]).tolist()
    return {"min": low, "median": median, "p95": high, "max": top, "mean": float(np.mean(values)), "sum": sum(values)}


def _print_check(found: dict[str, Any], records: Records, refused: list[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from fairlead.records.reader import tell

    console = Console(highlight=False, soft_wrap=True)

    def say(line: str) -> None:
        console.print(Text(line))  # what stands in data is text, never markup

    say(f"{found['source']}: {found['rows']:,} {found['kind']} rows")
    say(f"fingerprint {found['fingerprint'][:16]}")
    if found["extra_columns"]:
        say("other columns: " + ", ".join(f"{name} ({count:,})" for name, count in found["extra_columns"].items()))
    table = Table("", box=None)
    for name in next(iter(found["lengths"].values()), {}):
        table.add_column(name, justify="right")
    for name, spread in found["lengths"].items():
        table.add_row(name, *(f"{value:,.0f}" for value in spread.values()))
    console.print(table)
    repeated = found["duplicates"]
    say(
        f"duplicates: {repeated['rows']:,} rows, {repeated['prompts']:,} prompts; "
        f"{repeated['equal_pairs']:,} pairs of equal answers"
    )
    if records.dropped:
        say(f"{found['left_out']:,} rows cannot be read\n{tell(records.dropped)}")
    if refused:
        more = f"\n  ... and {len(refused) - 5:,} more" if len(refused) > 5 else ""
        say(f"{len(refused):,} problems with the model\n" + "\n".join(f"  {line}" for line in refused[:5]) + more)
    if not records.dropped and not refused:
        say("no problems")
