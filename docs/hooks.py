"""Fill the parts of the documentation that the code already knows; called by mkdocs while it builds the site.

The catalog's methods join the navigation under "Methods", by kind. In the pages four markers are replaced, so that
no field, default or method is typed twice:

- `<!-- fields: KIND NAME -->`: what a catalogued method is, where it lives, and the table of its fields;
- `<!-- fields: MODULE:CLASS -->`: the table of any dataclass's fields;
- `<!-- names: MODULE:MAPPING -->`: the table of a mapping of names to texts;
- `<!-- catalog -->`: the table of all methods, with links to their pages.

A marker that names nothing stops the build.
"""

from __future__ import annotations

import dataclasses
import importlib
import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from fairlead import catalog, fields

METHOD = re.compile(r"<!-- fields: (\w+) (\w+) -->")
CLASS = re.compile(r"<!-- fields: ([\w.]+):(\w+) -->")
NAMES = re.compile(r"<!-- names: ([\w.]+):(\w+) -->")
CATALOG = "<!-- catalog -->"


def on_config(config, **_):
    """Add a link to every method's page below "Methods"; mkdocs calls this once."""
    methods = next(section["Methods"] for section in config["nav"] if "Methods" in section)
    for kind in catalog.KINDS:
        if pages := [{entry.name: f"methods/{entry.name}.md"} for entry in catalog.entries(kind)]:
            methods.append({f"{kind.capitalize()}s": pages})
    return config


def on_page_markdown(markdown: str, *, page, **_) -> str:
    """Return a page's text with its markers filled; mkdocs calls this for every page."""
    return fill(markdown, page.file.src_uri)


def fill(markdown: str, page: str = "methods/index.md") -> str:
    """Return `markdown` with every marker filled; `page` is its path below docs/, which links start from."""
    markdown = METHOD.sub(lambda found: _method(*found.groups()), markdown)
    markdown = CLASS.sub(lambda found: _table(getattr(importlib.import_module(found[1]), found[2])), markdown)
    markdown = NAMES.sub(lambda found: _names(getattr(importlib.import_module(found[1]), found[2])), markdown)
    return markdown.replace(CATALOG, _catalog(page))


def _method(kind: str, name: str) -> str:
    entry = catalog.find(kind, name)
    cls = entry.load()
    facts = [
        f"**Kind** {kind}",
        f"**Name** `{name}`",
        f"**Code** `{entry.target}`",
        f"**Status** {entry.status}",
        *([f"**Source** {_source(entry.paper)}"] if entry.paper else []),
    ]
    return f"> {entry.line}\n\n{' · '.join(facts)}\n\n{_table(cls)}"


def _table(cls: type) -> str:
    rows = fields.describe(cls)
    if not rows:
        return "It has no fields."
    lines = ["| field | type | default | meaning |", "|---|---|---|---|"]
    lines += [f"| `{row.name}` | {_type(row.type)} | {_default(row.default)} | {_cell(row.doc)} |" for row in rows]
    return "\n".join(lines)


def _type(text: str) -> str:
    """Show a choice of texts as its choices, any other type as it is written."""
    choices = re.fullmatch(r"Literal\[(.*)\]", _cell(text))
    if choices is None:
        return f"`{_cell(text)}`"
    return " or ".join(f"`{name}`" for name in re.findall(r"[\"'](.*?)[\"']", choices[1]))


def _names(meanings: Mapping[str, str]) -> str:
    return "\n".join(
        ["| name | meaning |", "|---|---|", *(f"| `{n}` | {_cell(text)} |" for n, text in meanings.items())]
    )


def _default(value: object) -> str:
    if value is dataclasses.MISSING:
        return "*required*"
    plain = fields.to_plain(value)
    return f"`{_cell(repr(plain))}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _source(paper: str) -> str:
    return f"[arXiv {paper}](https://arxiv.org/abs/{paper})" if re.fullmatch(r"\d{4}\.\d{4,5}", paper) else paper


def _catalog(page: str) -> str:
    up = "../" * (len(PurePosixPath(page).parts) - 1)
    lines = ["| kind | method | what it does | source | status |", "|---|---|---|---|---|"]
    lines += [
        f"| {e.kind} | [`{e.name}`]({up}methods/{e.name}.md) | {_cell(e.line)} | {_source(e.paper)} | {e.status} |"
        for e in catalog.ENTRIES
    ]
    return "\n".join(lines)
