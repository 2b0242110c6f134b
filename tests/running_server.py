"""A server in a thread of its own, at a free port."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import httpx
import uvicorn

from fairlead.serve.app import create_app


class Running:
    """Serves engines until it is stopped; `change` may add to the application first."""

    def __init__(self, engines, *, change: Callable = lambda app: None, **options):
        app = create_app(engines, **options)
        change(app)
        self.server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}"

    @property
    def pending(self) -> int:
        return httpx.get(f"{self.url}/health", trust_env=False).json()["pending"]

    def stop(self):
        self.server.should_exit = True
        self.thread.join(10)
