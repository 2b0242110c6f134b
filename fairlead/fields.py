"""A method is a frozen dataclass: what its fields are, and how to build one from plain values.

The command line, YAML and the docs all read the fields from here, so nothing is typed twice. A field's
documentation is the string literal under it.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar, cast

from fairlead.errors import UnknownFieldError, UsageError

__all__ = ["FieldInfo", "build", "describe", "to_plain"]

T = TypeVar("T")


@dataclass(frozen=True)
class FieldInfo:
    """One field of a method."""

    name: str
    """The field's name."""
    type: str
    """Its annotation, as written in the source."""
    default: Any
    """Its default, or `dataclasses.MISSING` when it must be given."""
    doc: str
    """What it means, with its unit."""

    @property
    def required(self) -> bool:
        """Whether the field has no default."""
        return self.default is dataclasses.MISSING


@cache
def describe(cls: type) -> tuple[FieldInfo, ...]:
    """Return the public fields of dataclass `cls` in order, with their attribute docstrings."""
    import docstring_parser

    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if dataclasses.is_dataclass(base):
            parsed = docstring_parser.parse_from_object(base)
            docs |= {p.arg_name: inspect.cleandoc(p.description or "") for p in parsed.params}
    infos = []
    for field in dataclasses.fields(cls):
        if field.init and not field.name.startswith("_"):
            factory = field.default_factory
            default = field.default if factory is dataclasses.MISSING else factory()
            infos.append(FieldInfo(field.name, _type_text(field.type), default, docs.get(field.name, "")))
    return tuple(infos)


def build(cls: type[T], values: Mapping[str, Any], *, owner: str, place: str | None = None) -> T:
    """Build dataclass `cls` from plain `values`, checking names and types.

    Raises:
        UnknownFieldError: a key that `cls` does not have.
        UsageError: a missing field, a value of the wrong type, or one that `cls` itself refuses.
    """
    import pydantic

    known = [f.name for f in describe(cls)]
    for key in values:
        if key not in known:
            raise UnknownFieldError(owner, str(key), known, place=place)
    try:
        return cast(T, _adapter(cls).validate_python(dict(values)))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        what = f"{owner}.{where}: {first['msg']}" if where else f"{owner}: {first['msg']}"
        if first["type"] != "missing":
            what += f" (found {first['input']!r})"
        raise UsageError(what, place=place, fix=f"fields of {owner}: {_signature(cls)}") from error


def to_plain(value: Any) -> Any:
    """Turn dataclasses, enums, paths and tuples into what JSON and YAML can hold (the inverse of `build`)."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_plain(v) for v in value]
    if isinstance(value, str | int | float | bool) or value is None:
        return getattr(value, "value", value)
    return str(value)


@cache
def _adapter(cls: type):
    import pydantic

    return pydantic.TypeAdapter(cls, config=None)


def _signature(cls: type) -> str:
    return ", ".join(f"{f.name}: {f.type}" + ("" if f.required else f" = {f.default!r}") for f in describe(cls))


def _type_text(annotation: Any) -> str:
    if isinstance(annotation, str):
        return annotation
    return annotation.__name__ if isinstance(annotation, type) and not typing.get_args(annotation) else str(annotation)
