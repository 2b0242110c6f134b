"""Opening who answers, as steps and commands name it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from fairlead.errors import UsageError

if TYPE_CHECKING:
    from fairlead.engines.base import Engine
    from fairlead.steps.base import Answerer

__all__ = ["open_engine", "open_engines"]


def open_engines(named: Mapping[str, Answerer], dtype: str | None = None) -> dict[str, Engine]:
    """Open several at once: a part of a decoding method may be one of their names, and each model is loaded once.

    Args:
        named: name -> who answers.
        dtype: number format of local models; None leaves it to the engine.

    Raises:
        UsageError: as `open_engine`; names that lead in a circle.
    """
    opened: dict[str, Engine] = {}

    def part(model: Answerer, path: tuple[str, ...]) -> Engine:
        if not isinstance(model, str):
            return open_engine(model, dtype, lambda inner: part(inner, path))
        if model not in opened:
            if model in path and named.get(model) != model:
                circle = " -> ".join([*path, model])
                raise UsageError(f"{circle} is a circle", place=path[0], fix="name a model in it")
            leads_on = model in named and model not in path
            opened[model] = part(named[model], (*path, model)) if leads_on else open_engine(model, dtype)
        return opened[model]

    return {name: part(name, ()) for name in named}


def open_engine(model: Answerer, dtype: str | None = None, part: Callable[[Answerer], Engine] | None = None) -> Engine:
    """Open `harbor:NAME`, a folder, a hub id, a server as "URL#model name", or a decoding method over such.

    Args:
        model: who answers.
        dtype: number format of local models; None leaves it to the engine.
        part: opens the parts of a decoding method; by default in the same way.

    Raises:
        UsageError: a server without the name of a model, or with a number format.
    """
    from fairlead import catalog, engine

    if not isinstance(model, str):
        if not isinstance(model, Mapping) or not isinstance(model.get("name"), str):
            fix = "write a model, or {name: METHOD, its fields}: `fairlead methods` lists the decoders"
            raise UsageError(f"{model!r} is neither a model's name nor a method with a name", fix=fix)
        decoder = catalog.find("decoder", model["name"]).load()
        own = part or (lambda inner: open_engine(inner, dtype))
        parts = {name: own(model[name]) for name in decoder.engine_fields() if model.get(name)}
        return engine({**model, **parts})
    if not model.startswith(("http://", "https://")):
        return engine(model) if dtype is None else engine(model, dtype=dtype)
    address, _, name = model.partition("#")
    if not name:
        raise UsageError("a server needs the name of a model", place=model, fix=f'write "{address}#model-name"')
    if dtype is not None:
        raise UsageError("a server's number format is its own", place=model, fix="leave dtype out")
    return engine(address, model=name)
