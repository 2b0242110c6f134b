"""A server in a thread of its own, at a free port."""

from __future__ import annotations

import threading
import time

import httpx
import uvicorn

from fairlead.serve.app import create_app


class Running:
    """Serves engines until it is stopped."""

    def __init__(self, engines, **options):
        config = uvicorn.Config(create_app(engines, **options), port=0, log_level="error")
        self.server = uvicorn.Server(config)
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
