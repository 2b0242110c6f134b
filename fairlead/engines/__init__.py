"""Everything that answers: local models, servers, and a cache in front of either.

engine("harbor:aligned-1m")                                      # a model in this process
engine("https://host/v1", model="name")                          # any OpenAI-style server
Cache(engine("harbor:aligned-1m"), "answers.sqlite")             # each answer made once
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fairlead import catalog
from fairlead.engines.base import Completion, Engine, FinishReason, Sampling
from fairlead.errors import UnknownFieldError, UsageError

if TYPE_CHECKING:
    from fairlead.engines.cache import Cache
    from fairlead.engines.desk import stream
    from fairlead.engines.http import Http
    from fairlead.engines.local import Local

__all__ = ["Cache", "Completion", "Engine", "FinishReason", "Http", "Local", "Sampling", "engine", "stream"]

_LAZY = {
    "Cache": "fairlead.engines.cache",
    "Http": "fairlead.engines.http",
    "Local": "fairlead.engines.local",
    "stream": "fairlead.engines.desk",
}


def engine(name: str | Mapping[str, Any] | Engine, **options: Any) -> Engine:
    """Open what `name` stands for.

    Args:
        name: `harbor:NAME`, a model folder or a hub id (a `Local` engine); an http(s) address (an `Http` engine),
            which may name the model after a `#`: `https://host/v1#model`; a decoding method as a mapping of its
            `name` and fields, such as `{name: best_of_n, engine: harbor:aligned-1m, reward: harbor}`; or an engine,
            which is returned as it is.
        options: the arguments of a `Local` or `Http` engine.

    Raises:
        UnknownFieldError: an option that the engine does not have.
    """
    if not isinstance(name, str):
        if options:
            raise UsageError(
                f"options {', '.join(options)} for {name!r}", fix="give them where the model itself is named"
            )
        return catalog.from_spec("decoder", name) if isinstance(name, Mapping) else name
    remote = name.startswith(("http://", "https://"))
    kind: Any = __getattr__("Http" if remote else "Local")
    known = list(inspect.signature(kind).parameters)[1:]
    for option in options:
        if option not in known:
            raise UnknownFieldError(f"the {kind.__name__} engine", option, known, place=name)
    if remote and "#" in name:
        name, _, options["model"] = name.partition("#")
    return kind(name, **options)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'fairlead.engines' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
