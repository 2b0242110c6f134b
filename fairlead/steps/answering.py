"""Opening who answers, as steps and commands name it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairlead.errors import UsageError

if TYPE_CHECKING:
    from fairlead.engines.base import Engine
    from fairlead.steps.base import Answerer

__all__ = ["open_engine"]


def open_engine(model: Answerer, dtype: str | None = None) -> Engine:
    """Open `harbor:NAME`, a folder, a hub id, a server as "URL#model name", or a decoding method over such.

    Args:
        model: who answers.
        dtype: number format of local models; None leaves it to the engine.

    Raises:
        UsageError: a server without the name of a model, or with a number format.
    """
    from fairlead import catalog, engine

    if not isinstance(model, str):
        decoder = catalog.find("decoder", str(model.get("name"))).load()
        parts = {name: open_engine(model[name], dtype) for name in decoder.engine_fields() if model.get(name)}
        return engine({**model, **parts})
    if not model.startswith(("http://", "https://")):
        return engine(model) if dtype is None else engine(model, dtype=dtype)
    address, _, name = model.partition("#")
    if not name:
        raise UsageError("a server needs the name of a model", place=model, fix=f'write "{address}#model-name"')
    if dtype is not None:
        raise UsageError("a server's number format is its own", place=model, fix="leave dtype out")
    return engine(address, model=name)
