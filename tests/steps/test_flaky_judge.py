"""An evaluation with a judge that errs, babbles and dawdles behind HTTP, killed in the middle and run again."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from fairlead.evaluation.base import Report

_FRAME = re.compile(r"<(user|answer-[AB])-([0-9a-f]{8})>\n(.*?)\n</\1-\2>", re.DOTALL)
REFUSED = (17, 101)
"""Questions that the judge's server turns down."""
BABBLED = (5, 60)
"""Questions that the judge never gives a verdict on."""


class Server(ThreadingHTTPServer):
    """Two writers that answer at once, and a judge of whom a share of replies is an error, babble, or late."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, late: float):
        super().__init__(("127.0.0.1", 0), Handler)
        self.late, self.chance, self.lock = late, random.Random(0), threading.Lock()
        self.judged: Counter[str] = Counter()
        self.errors = self.babble = 0
        threading.Thread(target=partial(self.serve_forever, poll_interval=0.01), daemon=True).start()

    def handle_error(self, request, client_address):
        """A killed client is no news."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def judge(self, body: dict) -> tuple[int, str]:
        text = body["messages"][-1]["content"]
        parts = {kind: inner for kind, _, inner in _FRAME.findall(text)}
        key = _FRAME.findall(text)[0][1]
        number = int(parts["user"].split()[-1])
        with self.lock:
            drawn = self.chance.random()
            late = self.late * (20 if self.chance.random() < 0.02 else 1)
            self.errors += drawn < 0.05
            self.babble += 0.05 <= drawn < 0.1
        time.sleep(late)
        if number in REFUSED:
            return 400, "this question is against the rules"
        if drawn < 0.05:
            return 503, "busy"
        if number in BABBLED or drawn < 0.1:
            return 200, "As a judge I find both answers remarkable."
        with self.lock:
            self.judged[text] += 1
        better = "A" if len(parts["answer-A"]) > len(parts["answer-B"]) else "B"
        return 200, json.dumps({"key": key, "reason": "it is longer", "verdict": f"{better}>{'BA'[better == 'B']}"})


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *args):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status, said = 200, ""
        if body["model"] == "judge":
            status, said = self.server.judge(body)
        else:
            question = body["messages"][-1]["content"]
            words = int(hashlib.sha256(f"{body['model']} {question}".encode()).hexdigest(), 16) % 1000
            said = f"{body['model']} " + "word " * words
        answer = {"choices": [{"message": {"content": said}, "finish_reason": "stop"}]}
        raw = json.dumps(answer if status == 200 else {"error": {"message": said}}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


def recipe(folder: Path, url: str, count: int) -> Path:
    data = folder / "questions.jsonl"
    lines = [{"id": f"q{i}", "prompt": [{"role": "user", "content": f"question {i}"}]} for i in range(count)]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    evaluate = {
        "models": {"one": f"{url}#one", "two": f"{url}#two"},
        "data": str(data),
        "samples": 0,
        "evaluators": [{"name": "pairwise_judge", "baseline": "one", "judge": f"{url}#judge", "retries": 3}],
    }
    path = folder / "flaky.yaml"
    path.write_text(yaml.safe_dump({"title": "Flaky", "steps": [{"id": "evaluation", "evaluate": evaluate}]}))
    return path


def killed_and_resumed(folder: Path, monkeypatch, count: int, late: float) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server(late)
    command = [sys.executable, "-m", "fairlead.cli", "run", str(recipe(folder, server.url, count))]
    command += ["--out", str(folder / "run")]
    first = subprocess.Popen(command, env=dict(os.environ), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while sum(server.judged.values()) < count * 0.8:
            assert first.poll() is None, "it ended before it could be killed"
            time.sleep(0.02)
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    before = sum(server.judged.values())
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    server.shutdown()
    report = Report.load(folder / "run/steps/evaluation", "pairwise_judge")
    check(report, server, count)
    again = sum(times - 1 for times in server.judged.values())
    assert before >= count * 0.8
    assert again <= 64 + 2 * 64 * 0.2, "replies from before the kill were asked for again"


def check(report: Report, server: Server, count: int) -> None:
    """Every row once, in order; every verdict right; every failure named."""
    assert [row["id"] for row in report.rows] == [f"q{i}" for i in range(count)]
    for i, row in enumerate(report.rows):
        gap = len(row["answer"]) - len(row["baseline_answer"])
        longer = 0.5 if gap == 0 else float(gap > 0)
        wanted = {"ok": longer, "failed": None, "no verdict": None}
        assert row["status"] == ("failed" if i in REFUSED else "no verdict" if i in BABBLED else "ok")
        assert row["rate"] == wanted[row["status"]]
    found = report.summary["two"]
    lost = len(REFUSED) + len(BABBLED)
    assert (found["rate"].n, found["judged"].value) == (count - lost, (count - lost) / count)
    notes = "\n".join(report.notes)
    assert f"4 of {2 * count} replies hold no verdict (no verdict 4): q5, q60" in notes
    assert f"the judge failed at 4 of {2 * count}" in notes
    assert "against the rules" in notes
    assert "q17, q101" in notes
    assert server.errors
    assert server.babble


def test_a_killed_evaluation_goes_on(tmp_path, monkeypatch):
    killed_and_resumed(tmp_path, monkeypatch, count=110, late=0.001)


@pytest.mark.slow
def test_a_killed_evaluation_of_two_thousand_rows_goes_on(tmp_path, monkeypatch):
    killed_and_resumed(tmp_path, monkeypatch, count=2000, late=0.02)
