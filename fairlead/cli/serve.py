"""`fairlead serve`: models and decoding methods behind an OpenAI-style server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

__all__ = ["serve"]

_KEYS = "FAIRLEAD_API_KEYS"


def serve(
    engine: Annotated[str | None, Parameter(help="`harbor:NAME`, a folder, a hub id, or 'URL#model'.")] = None,
    *,
    models: Annotated[Path | None, Parameter(help="YAML file: name -> model, or a decoding method's mapping.")] = None,
    host: Annotated[str, Parameter(help="Address to listen at; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, Parameter(help="Port; 0 takes a free one.")] = 8000,
    keys: Annotated[Path | None, Parameter(help=f"File of API keys, one per line; else {_KEYS} (commas).")] = None,
    rows: Annotated[int, Parameter(help="Most answers written at a time.")] = 64,
    waiting: Annotated[int, Parameter(help="Most requests that wait or run; more get 429.")] = 256,
    patience: Annotated[float, Parameter(help="Seconds until a client that takes nothing is given up.")] = 60.0,
    max_tokens: Annotated[int, Parameter(help="Most tokens of an answer.")] = 4096,
    remember: Annotated[int, Parameter(help="Tokens per model kept for prompts that begin alike; 0 for none.")] = 8192,
    dtype: Annotated[str | None, Parameter(help="Number format of local models: float32, bfloat16.")] = None,
) -> int:
    """Serve models and decoding methods to any OpenAI client.

    Paths: / (a page to chat), /v1/chat/completions, /v1/completions, /v1/models, /health, /metrics,
    /openapi.json. Ctrl-C answers what is there and ends.

    For example:

    ```
    fairlead serve harbor:aligned-1m
    fairlead serve --models served.yaml --port 9000
    ```
    """
    from fairlead.errors import MissingExtraError, UsageError

    try:
        import uvicorn

        from fairlead.serve.app import Limits, create_app
    except ImportError as error:
        raise MissingExtraError(error.name or "fastapi", "serve", "fairlead serve") from error
    from fairlead.steps.answering import open_engines

    specs = _specs(engine, models)
    secrets = _secrets(keys)
    if host not in ("127.0.0.1", "localhost", "::1") and not secrets:
        fix = f"set {_KEYS} or --keys, or listen at 127.0.0.1"
        raise UsageError("the server would answer anybody on the network", place=f"--host {host}", fix=fix)
    engines = open_engines(specs, dtype)
    limits = Limits(rows=rows, waiting=waiting, max_tokens=max_tokens, remember=remember, patience=patience)
    uvicorn.run(create_app(engines, keys=secrets, limits=limits), host=host, port=port, log_level="info")
    return 0


def _specs(engine: str | None, models: Path | None) -> dict[str, Any]:
    import yaml

    from fairlead.errors import UsageError

    if (engine is None) == (models is None):
        raise UsageError("nothing to serve, or two things", fix="name a model, or a file with --models")
    if engine is not None:
        return {engine: engine}
    assert models is not None
    try:
        found = yaml.safe_load(models.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise UsageError(f"cannot be read: {error}", place=str(models), fix="give a YAML file") from error
    if not isinstance(found, dict) or not found:
        raise UsageError("is no mapping of names", place=str(models), fix="write `name: harbor:aligned-1m`")
    return {str(name): spec for name, spec in found.items()}


def _secrets(keys: Path | None) -> list[str]:
    from fairlead.errors import UsageError

    if keys is None:
        return [key.strip() for key in os.environ.get(_KEYS, "").split(",") if key.strip()]
    try:
        found = [line.strip() for line in keys.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise UsageError(f"cannot be read: {error}", place=str(keys), fix="give a file, one key per line") from error
    if not found:
        raise UsageError("holds no key", place=str(keys), fix="write one key per line")
    return found
