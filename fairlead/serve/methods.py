"""Decoding methods that a request names or changes: built from what is served, and from values that can do no harm.

A client sets a method's numbers, switches and choices, names served models as its parts, and rewards that read nothing
but the text. It never names a file, an address or a template: whoever runs the server does that.
"""

from __future__ import annotations

import dataclasses
import json
import threading
import typing
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pydantic

from fairlead import catalog, fields
from fairlead.decoding.base import Decoder, EngineSpec
from fairlead.engines.base import Engine
from fairlead.errors import FairleadError, UnknownFieldError, UnknownNameError, UsageError
from fairlead.rewards.base import RewardSpec

__all__ = ["Method", "Methods", "Served", "described", "method_name", "settings"]

T = TypeVar("T")

_KEPT = 64
"""Methods of requests that are kept for requests like them."""


class Method(pydantic.BaseModel):
    """How one request wants to be answered."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    method: str | None = None
    """Catalog name of a decoder that is put around the model; none changes the served method itself."""
    profile: str | None = None
    """A served model or method that takes the place of the request's `model`."""
    params: dict[str, Any] = {}
    """Its settings."""
    return_stats: bool = True
    """Whether the answer tells what the method did."""


@dataclass(frozen=True)
class Served:
    """Somebody who answers."""

    engine: Engine
    """Who."""
    fingerprint: str
    """The engine's, computed once."""

    @classmethod
    def of(cls, engine: Engine) -> Served:
        """Open all that an engine needs; what is missing is an error now."""
        return cls(engine, engine.fingerprint)


def settings(cls: type) -> tuple[str, ...]:
    """Return the fields of a method that a request may set."""
    parts = cls.engine_fields()[1:] if issubclass(cls, Decoder) else ()
    return (*parts, *getattr(cls, "adjustable", ()))


class Methods:
    """What is served, and what requests make of it.

    Args:
        engines: name -> engine.
        rows: the most rows that one answer may take.
    """

    def __init__(self, engines: Mapping[str, Engine], *, rows: int):
        self.served = {name: Served.of(engine) for name, engine in engines.items()}
        self.rows = rows
        self._made: OrderedDict[str, Served] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, model: str, asked: Sequence[Method] = ()) -> Served:
        """Return who answers a request; of several methods the first is the outermost.

        Raises:
            UnknownNameError: no such model, profile or method; `place` is the request's field.
            UsageError: a setting that is wrong, or not for requests.
        """
        served = self._served(model, "model")
        if not asked:
            return served
        key = json.dumps([model, [one.model_dump(exclude={"return_stats"}) for one in asked]], sort_keys=True)
        with self._lock:
            if key not in self._made:
                self._made[key] = Served.of(self._nested(served.engine, asked))
                if len(self._made) > _KEPT:
                    self._made.popitem(last=False)
            self._made.move_to_end(key)
            return self._made[key]

    def _nested(self, engine: Engine, asked: Sequence[Method]) -> Engine:
        for number, one in reversed(list(enumerate(asked))):
            place = f"steering.{number}" if len(asked) > 1 else "steering"
            inner = engine if one.profile is None else self._served(one.profile, f"{place}.profile").engine
            engine = self._applied(one, inner, place)
        rows = getattr(engine, "rows_per_answer", 1)
        if rows > self.rows:
            what = f"an answer would take {rows} rows of the model"
            raise UsageError(what, place="steering", fix=f"use at most {self.rows}")
        return engine

    def _served(self, name: str, place: str) -> Served:
        if name not in self.served:
            raise UnknownNameError("served model", name, self.served, place=place)
        return self.served[name]

    def _applied(self, one: Method, engine: Engine, place: str) -> Engine:
        if one.method in (None, "none"):
            return self._changed(engine, one.params, f"{place}.params") if one.params else engine
        try:
            cls = catalog.find("decoder", str(one.method), place=f"{place}.method").load()
        except UnknownNameError as error:
            raise UnknownNameError("method", str(one.method), _names("decoder"), place=f"{place}.method") from error
        main = cls.engine_fields()[0]
        values = self._checked(cls, one.params, f"{place}.params")
        return _built(lambda: fields.build(cls, {main: engine, **values}, owner=str(one.method)), f"{place}.params")

    def _changed(self, engine: Engine, params: Mapping[str, Any], place: str) -> Engine:
        if not isinstance(engine, Decoder):
            raise UsageError("the model is served as it is, without a method", place=place, fix="name a method")
        values = self._checked(type(engine), params, place)
        opened = engine.parts
        return _built(lambda: dataclasses.replace(engine, **{**opened, **values}), place)

    def _checked(self, cls: type, params: Mapping[str, Any], place: str) -> dict[str, Any]:
        """Return the values of settings as the class takes them, after a look at each."""
        hints = typing.get_type_hints(cls, include_extras=True)
        known = settings(cls)
        for name in params:
            if name not in known:
                raise UnknownFieldError(cls.__name__, name, known, place=f"{place}.{name}")
        return {name: self._value(hints[name], value, f"{place}.{name}") for name, value in params.items()}

    def _value(self, hint: Any, value: Any, place: str) -> Any:
        if hint == EngineSpec:
            return self._served(str(value), place).engine
        if hint == RewardSpec:
            return self._reward(value, place)
        inner = typing.get_args(hint)
        if typing.get_origin(hint) is tuple and isinstance(inner[0], type) and dataclasses.is_dataclass(inner[0]):
            if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
                raise UsageError("is no list of objects", place=place, fix="give a list")
            return tuple(
                _built(lambda made=made: inner[0](**made), f"{place}.{k}")
                for k, made in enumerate(self._checked(inner[0], item, f"{place}.{k}") for k, item in enumerate(value))
            )
        try:
            return pydantic.TypeAdapter(hint).validate_json(json.dumps(value), strict=True)
        except pydantic.ValidationError as error:
            raise UsageError(f"{value!r}: {error.errors()[0]['msg']}", place=place, fix="see GET /v1/models") from error

    def _reward(self, value: Any, place: str) -> Any:
        spec = {"name": value} if isinstance(value, str) else value
        harmless = [name for name in _names("reward") if hasattr(catalog.find("reward", name).load(), "adjustable")]
        if not isinstance(spec, dict) or not isinstance(spec.get("name"), str):
            raise UsageError("is no reward", place=place, fix='give its name, or {"name": ..., its settings}')
        if spec["name"] not in harmless:
            raise UnknownNameError("reward for requests", spec["name"], harmless, place=place)
        cls = catalog.find("reward", spec["name"]).load()
        values = self._checked(cls, {k: v for k, v in spec.items() if k != "name"}, place)
        return _built(lambda: cls(**values), place)


def method_name(engine: Engine) -> str | None:
    """Return the catalog name of a decoding method; None for a plain model."""
    if not isinstance(engine, Decoder):
        return None
    return next((e.name for e in catalog.entries("decoder") if e.load() is type(engine)), type(engine).__name__)


def described(engine: Engine) -> dict[str, Any]:
    """Return what is told of a served model or method: its settings that a request may change."""
    name = method_name(engine)
    if name is None:
        return {"method": None, "params": {}}
    open_ = settings(type(engine))
    about = {info.name: info for info in fields.describe(type(engine)) if info.name in open_}
    return {
        "method": name,
        "params": {
            field: {"type": info.type, "value": _shown(getattr(engine, field)), "about": info.doc}
            for field, info in about.items()
        },
    }


def _shown(value: Any) -> Any:
    """Return a setting's value as JSON takes it; engines and rewards, which do not go into JSON, are not shown."""
    return value if isinstance(value, int | float | str | bool) else None


def _names(kind: str) -> list[str]:
    return [entry.name for entry in catalog.entries(kind)]


def _built(make: Callable[[], T], place: str) -> T:
    """Make something of a client's values; what it finds wrong is the request's field."""
    try:
        return make()
    except FairleadError as error:
        raise UsageError(error.what, place=place, fix=error.fix) from error
    except TypeError as error:
        raise UsageError(str(error).rpartition("() ")[2], place=place, fix="give it") from error
