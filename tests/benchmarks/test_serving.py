"""What the serving benchmark makes of bytes and times: events, answers that differ or are lost, and its line."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from pathlib import Path

import pytest
from running_server import Running

import fairlead
from fairlead.engines import Sampling

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "serving.py"
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("serving_benchmark", FILE)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def event(delta, reason=None):
    return b"data: " + json.dumps({"choices": [{"delta": delta, "finish_reason": reason}]}).encode() + b"\n\n"


def heard(bench, texts, *, start=0.0, step=1.0, question=None, whole=True):
    """An answer whose first text comes a second after the request, in reads that are cut anywhere."""
    said = "".join(texts)
    question = question or bench.Question(HELLO, Sampling(), said, "stop", len(texts))
    reads = [(start + 0.5, b"HTTP/1.1 200 OK\r\n\r\n5\r\n" + event({"role": "assistant", "content": ""}))]
    for k, text in enumerate(texts):
        body, at = event({"content": text}), start + 1 + step * k
        reads += [(at - 0.1, body[:9]), (at, body[9:])]
    reads.append((reads[-1][0], event({}, "stop") + b"data: [DONE]\n\n" + bench.END))
    return bench.Heard(question, start, reads, whole)


def test_times_are_those_at_which_events_are_complete(bench):
    found = bench.Load([[heard(bench, ["a", "b", "c"], step=0.25)]], 10, 0, [])
    assert found.first == [1.0]
    assert found.gaps == pytest.approx([0.25, 0.25])
    assert (found.differ, found.lost, found.tokens) == (0, 0, [3])


def test_answers_that_differ_or_are_lost_are_counted(bench):
    wanted = bench.Question(HELLO, Sampling(), "ab", "stop", 2)
    other = heard(bench, ["a", "x"], question=wanted)
    longer = heard(bench, ["ab"], question=bench.Question(HELLO, Sampling(), "ab", "length", 2))
    lost = heard(bench, ["a", "b"], whole=False)
    found = bench.Load([[heard(bench, ["a", "b"]), other], [longer, lost]], 10, 0.5, [(k, 100 + k) for k in range(9)])
    assert (found.differ, found.lost, found.tokens) == (2, 1, [4, 2])
    assert found.slope == pytest.approx(60)
    cells = bench.line("plain", 2, found, (0.05, 30)).split(" | ")
    assert cells[3] == "1"  # six tokens in ten seconds
    assert cells[8] == "2.00"
    assert cells[9] == f"{1e3 * (0.5 / 6 - 0.05):.3f}"
    assert cells[-2:] == ["1", "2 |"]


def test_a_real_server_is_loaded(bench):
    local = fairlead.engine("harbor:base-300k")
    asked = bench.questions(local, 4, 6)
    assert [one.sampling.temperature for one in asked] == [0, 1, 0, 1]
    server = Running({"it": local})
    port = int(server.url.rpartition(":")[2])
    try:
        found = asyncio.run(bench.load(bench.psutil.Process(), port, asked, 3, 0.3))
    finally:
        server.stop()
    assert (found.differ, found.lost) == (0, 0)
    assert min(found.tokens) > 0
    assert len(found.first) == len(found.whole)


def test_what_is_no_stream_is_lost(bench):
    local = fairlead.engine("harbor:base-300k")
    server = Running({"another": local})
    port = int(server.url.rpartition(":")[2])
    try:
        found = asyncio.run(bench.load(bench.psutil.Process(), port, bench.questions(local, 1, 2), 2, 0.2))
    finally:
        server.stop()
    assert (found.lost, found.whole) == (2, [])
