"""A server in a thread of this process, for other programs on this machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import uvicorn

from fairlead.engines.base import Engine
from fairlead.errors import EngineError
from fairlead.serve.app import Limits, create_app

__all__ = ["serving"]

_START_SECONDS = 30.0
"""A server that has not started by then will not."""


@contextmanager
def serving(engines: Mapping[str, Engine], *, limits: Limits | None = None) -> Iterator[str]:
    """Serve engines at a free port of this machine; give the address, `http://127.0.0.1:PORT/v1`.

    Raises:
        EngineError: the server does not start.
    """
    server = uvicorn.Server(uvicorn.Config(create_app(engines, limits=limits), port=0, log_level="error"))
    thread = threading.Thread(target=server.run, name="fairlead-serving", daemon=True)
    thread.start()
    last = time.monotonic() + _START_SECONDS
    while not server.started:
        if not thread.is_alive() or time.monotonic() > last:
            raise EngineError("the server does not start", fix="see what stands above")
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    finally:
        server.should_exit = True
        thread.join()
