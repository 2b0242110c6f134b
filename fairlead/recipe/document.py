"""YAML text as plain values that remember where they stood, so that every complaint can name file and line.

Plainer than YAML 1.1: `1e-3` is a number, `on`, `yes` and dates are text, and a key may appear once. `${NAME}` and
`${NAME:-default}` inside a text are read from the environment.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fairlead.errors import RecipeError

__all__ = ["Document", "Keys", "parse_document", "parse_value", "read_document"]

Keys = tuple[str | int, ...]

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's plain scalars."""

    yaml_implicit_resolvers: dict = {}  # noqa: RUF012


for _tag, _pattern, _first in [
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"^[-+]?(?:0|[1-9][0-9_]*)$", "-+0123456789"),
    ("float", r"^[-+]?(?:[0-9][0-9_]*\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?$", "-+0123456789."),
    ("float", r"^[-+]?[0-9]+[eE][-+]?[0-9]+$", "-+0123456789"),
    ("float", r"^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$", "-+."),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("merge", r"^(?:<<)$", "<"),
]:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))


@dataclass
class Document:
    """A YAML file's content and the place of each key."""

    value: Any
    """Mappings, lists, texts, numbers, booleans and None."""
    source: str
    """The file's name, as the user gave it."""
    places: dict[Keys, str] = field(default_factory=dict)
    """Keys from the top -> "file:line"."""

    def place(self, *keys: str | int) -> str:
        """Return where `keys` stands, or the nearest thing around it that has a place."""
        for end in range(len(keys), -1, -1):
            if keys[:end] in self.places:
                return self.places[keys[:end]]
        return self.source

    def set(self, keys: Keys, value: Any, place: str) -> None:
        """Put `value` at `keys` (mappings on the way are made), as said at `place`."""
        inner: Any = self.value
        for depth, key in enumerate(keys[:-1]):
            if isinstance(inner, dict):
                inner = inner.setdefault(key, {})
            elif isinstance(inner, list) and isinstance(key, int):
                inner = inner[key]
            if not isinstance(inner, dict | list):
                path = ".".join(map(str, keys[: depth + 1]))
                raise RecipeError(
                    f"{path} is {inner!r}, which has no fields to set", place=place, fix=f"set {path} whole"
                )
        holder: Any = inner
        holder[keys[-1]] = value
        self.places[keys] = place


def read_document(path: str | Path) -> Document:
    """Read the YAML file at `path`.

    Raises:
        RecipeError: no such file, not UTF-8, broken YAML, a key given twice, an environment variable that is not set.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise RecipeError("no such file", place=str(path), fix="check the path") from error
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot be read as UTF-8 text: {error}", place=str(path), fix="give a YAML file") from error
    return parse_document(text, str(path))


def parse_document(text: str, source: str) -> Document:
    """Parse YAML `text` that came from `source`."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            raise RecipeError("the file is empty", place=source, fix="a recipe has `title:` and `steps:`")
        document = Document(None, source)
        document.value = _plain(loader, node, document, ())
        return document
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{source}:{mark.line + 1}" if mark else source
        what = ", ".join(part for part in (error.context, error.problem) if part)
        fix = "mind indentation and colons; quote a text that starts with @, or holds ? or # inside {...} or [...]"
        raise RecipeError(f"not valid YAML: {what}", place=place, fix=fix) from error
    except yaml.YAMLError as error:
        raise RecipeError(f"not valid YAML: {error}", place=source, fix="give plain UTF-8 YAML") from error
    finally:
        loader.dispose()


def parse_value(text: str, place: str) -> Any:
    """Read one value as a recipe would have it: `1e-4`, `true`, `[a, b]`, `{name: dpo, beta: 0.1}`, or plain text."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        return None if node is None else _plain(loader, node, Document(None, place), ())
    except yaml.YAMLError as error:
        fix = "quote a text that starts with @, or holds ? or # inside {...} or [...]"
        raise RecipeError(f"{text!r} cannot be read as a YAML value", place=place, fix=fix) from error
    finally:
        loader.dispose()


def _plain(loader: _Loader, node: yaml.Node, document: Document, keys: Keys) -> Any:
    place = f"{document.source}:{node.start_mark.line + 1}"
    document.places.setdefault(keys, place)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(loader, item, document, (*keys, i)) for i, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        _refuse_repeated_keys(node, document)
        loader.flatten_mapping(node)
        value = {}
        for key_node, value_node in node.value:
            key = _key(loader, key_node, document)
            document.places[(*keys, key)] = f"{document.source}:{key_node.start_mark.line + 1}"
            value[key] = _plain(loader, value_node, document, (*keys, key))
        return value
    value = loader.construct_object(node)
    return _expand(value, place) if isinstance(value, str) else value


def _key(loader: _Loader, node: yaml.Node, document: Document) -> str:
    key = loader.construct_object(node) if isinstance(node, yaml.ScalarNode) else None
    if not isinstance(key, str):
        place = f"{document.source}:{node.start_mark.line + 1}"
        raise RecipeError("a key must be text", place=place, fix="quote the key")
    return key


def _refuse_repeated_keys(node: yaml.MappingNode, document: Document) -> None:
    seen: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if isinstance(key, yaml.ScalarNode) and key.value in seen:
            what = f"{key.value!r} is given twice (also in line {seen[key.value]})"
            raise RecipeError(what, place=f"{document.source}:{line}", fix="keep one of them")
        seen[str(key.value)] = line


def _expand(text: str, place: str) -> str:
    def replace(match: re.Match[str]) -> str:
        name, default = match.groups()
        value = os.environ.get(name) or default
        if value is None:
            fix = f"set {name}, or give a default: ${{{name}:-...}}"
            raise RecipeError(f"the environment variable {name} is not set", place=place, fix=fix)
        return value

    return _VARIABLE.sub(replace, text)
