"""The texts that methods put before models: Jinja files, one folder per method, each of which a user may replace.

load("rewriter", "complement").render(prompt="...", history=[], words=60)
load("rewriter", "complement", "mine.jinja")         # a file of the user's
load("rewriter", "complement", "{{ prompt }}")       # or the text itself
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairlead.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["PromptText", "file_of", "load"]


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
