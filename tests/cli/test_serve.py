"""`fairlead serve`: what it is given, and that a process of its own answers and ends when told."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest

from fairlead.cli import serve
from fairlead.errors import UsageError


def test_what_is_served(tmp_path):
    file = tmp_path / "served.yaml"
    file.write_text("one: harbor:base-300k\nbest: {name: best_of_n, engine: harbor:base-300k, reward: harbor}\n")
    assert list(serve._specs(None, file)) == ["one", "best"]
    assert serve._specs("harbor:base-300k", None) == {"harbor:base-300k": "harbor:base-300k"}
    for given in ((None, None), ("harbor:base-300k", file), (None, tmp_path / "gone.yaml")):
        with pytest.raises(UsageError):
            serve._specs(*given)
    file.write_text("- harbor:base-300k\n")
    with pytest.raises(UsageError, match="no mapping"):
        serve._specs(None, file)


def test_keys(tmp_path, monkeypatch):
    monkeypatch.setenv("FAIRLEAD_API_KEYS", "one, two,")
    assert serve._secrets(None) == ["one", "two"]
    file = tmp_path / "keys"
    file.write_text("three\n\nfour\n")
    assert serve._secrets(file) == ["three", "four"]
    file.write_text("\n")
    with pytest.raises(UsageError, match="holds no key"):
        serve._secrets(file)


def test_open_to_the_network_only_with_keys(monkeypatch):
    monkeypatch.delenv("FAIRLEAD_API_KEYS", raising=False)
    with pytest.raises(UsageError, match="anybody"):
        serve.serve("harbor:base-300k", host="0.0.0.0")


def test_a_process_answers_and_ends_when_told():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "fairlead.cli", "serve", "harbor:base-300k", "--port", str(port)]
    process = subprocess.Popen(command, env={**os.environ, "NO_PROXY": "127.0.0.1"}, stderr=subprocess.PIPE)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(1200):
            try:
                if httpx.get(f"{url}/health", trust_env=False).status_code == 200:
                    break
            except httpx.TransportError:
                assert process.poll() is None, process.stderr.read().decode()[-2000:]
                time.sleep(0.1)
        body = {"model": "harbor:base-300k", "prompt": "the ship", "max_tokens": 4, "temperature": 0}
        answer = httpx.post(f"{url}/v1/completions", json=body, timeout=60, trust_env=False)
        assert 1 <= answer.json()["usage"]["completion_tokens"] <= 4
        process.send_signal(signal.SIGINT)
        assert process.wait(30) in (0, 130, -signal.SIGINT)
    finally:
        process.kill()
        process.wait()
