"""`fairlead serve`: what it is given, and that a process of its own answers and ends when told."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest

from fairlead.cli import main, serve
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


def test_a_process_finishes_its_answers_when_told_to_end():
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
        body = {"model": "harbor:base-300k", "prompt": "the ship", "max_tokens": 200, "ignore_eos": True}
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=60, trust_env=False) as answer:
            lines = answer.iter_lines()
            first = next(lines)
            process.send_signal(signal.SIGTERM)
            rest = [line for line in lines if line]
        assert first.startswith("data: ")
        assert rest[-1] == "data: [DONE]"
        assert json.loads(rest[-2].removeprefix("data: "))["usage"]["completion_tokens"] == 200
        assert process.wait(30) in (0, 143, -signal.SIGTERM)
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/health", trust_env=False)
    finally:
        process.kill()
        process.wait()


ABSENT = [
    ("{name: nudging, base: harbor:base-300k, nudger: /nowhere/model}", "/nowhere/model: no such model folder"),
    ("{name: nudging, base: harbor:base-300k, nudger: harbor:base-9k}", "base-9k"),
    ("{name: nudging, base: harbor:base-300k}", "nudging.nudger"),
    ("{name: nudging, base: harbor:base-300k, nudger: harbor:base-300k, gamma: 7}", "nudging.gamma is 7.0"),
    ("{name: gone, engine: harbor:base-300k}", "'gone'"),
]


@pytest.mark.parametrize(("spec", "told"), ABSENT)
def test_what_cannot_be_served_is_said_at_the_start(tmp_path, capsys, spec, told):
    file = tmp_path / "served.yaml"
    file.write_text(f"ship: harbor:base-300k\nother: {spec}\n")
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--models", str(file), "--port", "0"])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert told in error
    assert "fix: " in error
    assert "Traceback" not in error
