"""The texts that methods put before models: Jinja files, one folder per method, each of which a user may replace.

load("rewriter", "complement").render(prompt="...", history=[], words=60)
load("rewriter", "complement", "mine.jinja")         # a file of the user's
load("rewriter", "complement", "{{ prompt }}")       # or the text itself
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fairlead import fields
from fairlead.errors import DataError, FairleadError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["PromptText", "file_of", "load", "read_entries", "read_yaml"]

T = TypeVar("T")


@dataclass(frozen=True)
class PromptText:
    """A Jinja text."""

    source: str
    """The text, with its slots."""
    place: str
    """Where it is from, for errors."""

    def render(self, **values: Any) -> str:
        """Return the text with its slots filled, without white space around it.

        Raises:
            UsageError: the text asks for something that it is not given.
        """
        import jinja2

        try:
            return _compiled(self.source, self.place).render(values).strip()
        except jinja2.TemplateError as error:
            fix = f"a text for this place may use {', '.join(sorted(values))}"
            raise UsageError(f"cannot be filled: {error}", place=self.place, fix=fix) from error


def file_of(own: object) -> str | None:
    """Return the path that a user's text names; None when it is the text itself, or none was given."""
    return own if isinstance(own, str) and "{{" not in own and "{%" not in own else None


def load(method: str, name: str, own: str | None = None) -> PromptText:
    """Return a method's text, or the one that a user puts in its place.

    Args:
        method: the folder of the shipped text.
        name: its file, without `.jinja`.
        own: a path, or a Jinja text with at least one `{{` or `{%`; None for the shipped text.

    Raises:
        UnknownNameError, UsageError: no such text or file, or one that Jinja cannot read.
    """
    text = PromptText(own, f"text of {method}") if own is not None and file_of(own) is None else None
    text = text or (_shipped(method, name) if own is None else _read(Path(own).expanduser(), method))
    _compiled(text.source, text.place)
    return text


def _shipped(method: str, name: str) -> PromptText:
    folder = resources.files("fairlead.prompts").joinpath(method)
    known = [entry.name.removesuffix(".jinja") for entry in folder.iterdir()] if folder.is_dir() else []
    if name not in known:
        raise UnknownNameError(f"text of {method}", name, known)
    return PromptText(folder.joinpath(f"{name}.jinja").read_text(encoding="utf-8"), f"{method}/{name}.jinja")


def _read(path: Path, method: str) -> PromptText:
    try:
        return PromptText(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        fix = "give the path of a Jinja text in UTF-8, or the text itself with its {{ slots }}"
        raise UsageError(f"text of {method} cannot be read: {error}", place=str(path), fix=fix) from error


@lru_cache(maxsize=64)
def _compiled(source: str, place: str) -> Template:
    import jinja2
    from jinja2.sandbox import SandboxedEnvironment

    environment = SandboxedEnvironment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    try:
        return environment.from_string(source)
    except jinja2.TemplateSyntaxError as error:
        fix = "mend the Jinja text"
        raise UsageError(f"line {error.lineno}: {error.message}", place=place, fix=fix) from error


def read_yaml(shipped: str, own: str | None = None) -> Any:
    """Return what a YAML file holds: one of the files shipped beside the texts, or a user's.

    Args:
        shipped: its path below this folder, such as `bias/people.yaml`.
        own: the path of the user's file; None for the shipped one.

    Raises:
        UsageError: a file that cannot be read.
    """
    import yaml

    file = resources.files("fairlead.prompts").joinpath(shipped) if own is None else Path(own).expanduser()
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        what = f"cannot be read: {str(error).splitlines()[0]}"
        raise UsageError(what, place=own or shipped, fix="give the path of a YAML file") from error


def read_entries(entry: type[T], shipped: str, own: str | None = None, *, called: str) -> tuple[T, ...]:
    """Return the entries of a YAML list of mappings, each as the dataclass that it describes.

    Args:
        entry: the dataclass.
        shipped, own: as in `read_yaml`.
        called: what one entry is called, for errors.

    Raises:
        UsageError: a file that cannot be read.
        DataError: one that is no list of mappings, or an entry that is not what the dataclass takes.
    """
    rows, place = read_yaml(shipped, own), own or shipped
    names = [field.name for field in fields.describe(entry)]
    if not isinstance(rows, list) or not rows:
        raise DataError(
            f"holds no list of {called}s", place=place, fix=f"write a list of mappings of {', '.join(names)}"
        )
    found = []
    for number, row in enumerate(rows, 1):
        at = f"{place}, {called} {number}"
        if not isinstance(row, Mapping):
            raise DataError(f"is {row!r}", place=at, fix=f"write a mapping of {', '.join(names)}")
        try:
            found.append(fields.build(entry, row, owner=f"a {called}", place=at))
        except FairleadError as error:
            raise DataError(error.what, place=at, fix=error.fix) from error
    return tuple(found)
