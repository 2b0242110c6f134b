"""Opening who answers, as steps and commands name it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairlead.errors import UsageError

if TYPE_CHECKING:
    from fairlead.engines.base import Engine

__all__ = ["open_engine"]


def open_engine(model: str, dtype: str | None = None) -> Engine:
    """Open `harbor:NAME`, a folder, a hub id, or a server as "URL#model name".

    Args:
        model: who answers.
        dtype: number format of a local model; None leaves it to the engine.

    Raises:
        UsageError: a server without the name of a model, or with a number format.
    """
    from fairlead import engine

    if not model.startswith(("http://", "https://")):
        return engine(model) if dtype is None else engine(model, dtype=dtype)
    address, _, name = model.partition("#")
    if not name:
        raise UsageError("a server needs the name of a model", place=model, fix=f'write "{address}#model-name"')
    if dtype is not None:
        raise UsageError("a server's number format is its own", place=model, fix="leave dtype out")
    return engine(address, model=name)
