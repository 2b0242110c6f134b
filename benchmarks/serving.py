"""The server under load: `fairlead serve` in a process of its own, streams that ask again as soon as they are answered.

    OMP_NUM_THREADS=1 python benchmarks/serving.py [--cases plain nudging best_of_n] [--streams 1 8 32] [--seconds 10]

A case is a model or a decoding method; beside those named below, any catalogued decoder's name stands for its example.
Every stream asks the same questions, each beginning at another one. Every answer is compared with the library's own.

Columns. *first*: milliseconds from the request to the first text, median and 95th percentile. *between*: milliseconds
from one piece of text to the next, 95th percentile. *fairness*: most over fewest tokens that a stream got. *layer*:
milliseconds of CPU that a token costs the server beyond what it costs the library, which runs the same answers in this
process, as many at a time. *high* and *slope*: the server's resident memory, its most (MiB) and its trend over the
second half (MiB a minute). *lost*: requests without a whole answer. *differ*: answers that are not the library's.
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import itertools
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml

from fairlead import catalog, records
from fairlead.engines import Sampling
from fairlead.engines.desk import Desk
from fairlead.engines.programs import Runner
from fairlead.serve.answers import counter
from fairlead.steps.answering import open_engine

CASES: dict[str, Any] = {
    "plain": "harbor:aligned-1m",
    "nudging": {"name": "nudging", "base": "harbor:base-1m", "nudger": "harbor:aligned-300k", "gamma": 0.3,
                "draft_tokens": 3},
    "best_of_n": {"name": "best_of_n", "engine": "harbor:base-1m",
                  "reward": {"name": "harbor_proxy", "proxy": "polite_count"}, "n": 4},
}  # fmt: skip
COLUMNS = ("case", "streams", "answers", "tokens/s", "library", "first p50", "p95", "between p95", "fairness", "layer",
           "high", "slope", "lost", "differ")  # fmt: skip
END = b"\r\n0\r\n\r\n"
"""How a streamed answer ends on the wire."""


@dataclass(frozen=True)
class Question:
    """A request and what the library answers to it."""

    messages: list[dict[str, str]]
    sampling: Sampling
    text: str
    reason: str
    tokens: int

    def request(self, model: str) -> bytes:
        body = {"model": model, "messages": self.messages, "max_tokens": self.sampling.max_tokens, "stream": True,
                "temperature": self.sampling.temperature, "seed": self.sampling.seed}  # fmt: skip
        content = json.dumps(body).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(content)}\r\n\r\n"
        return head.encode() + content


@dataclass(frozen=True)
class Heard:
    """What one request got: bytes and when they came."""

    question: Question
    start: float
    reads: list[tuple[float, bytes]]
    whole: bool

    def events(self) -> list[tuple[float, dict[str, Any]]]:
        """Return the events with the times at which they were complete."""
        ends = list(itertools.accumulate(len(data) for _, data in self.reads))
        raw = b"".join(data for _, data in self.reads)
        found = [(match.end(), match[1]) for match in re.finditer(rb"data: (.*)\n\n", raw)]
        times = [self.reads[bisect.bisect_left(ends, end)][0] for end, _ in found]
        return [(at, json.loads(text)) for at, (_, text) in zip(times, found) if text != b"[DONE]"]


@dataclass
class Load:
    """What a level of load gave."""

    heard: list[list[Heard]]
    seconds: float
    cpu: float
    memory: list[tuple[float, float]]

    differ: int = 0
    first: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        for heard in self.whole:
            told = [(at, event["choices"][0]) for at, event in heard.events() if event.get("choices")]
            said = [(at, choice["delta"]["content"]) for at, choice in told if choice["delta"].get("content")]
            reason = told[-1][1]["finish_reason"] if told else None
            wanted = (heard.question.text, heard.question.reason)
            self.differ += ("".join(text for _, text in said), reason) != wanted
            times = [at for at, _ in said]
            self.first += [times[0] - heard.start] if times else []
            self.gaps += np.diff(times).tolist()

    @property
    def whole(self) -> list[Heard]:
        return [heard for own in self.heard for heard in own if heard.whole]

    @property
    def lost(self) -> int:
        return sum(not heard.whole for own in self.heard for heard in own)

    @property
    def tokens(self) -> list[int]:
        """Tokens by stream."""
        return [sum(heard.question.tokens for heard in own if heard.whole) for own in self.heard]

    @property
    def slope(self) -> float:
        """MiB a minute, over the second half."""
        half = self.memory[len(self.memory) // 2 :]
        if len(half) < 3:
            return float("nan")
        return 60 * float(np.polyfit([at for at, _ in half], [size for _, size in half], 1)[0])


def questions(engine: Any, count: int, new: int) -> list[Question]:
    """Return requests of every kind with the library's answers: every other one greedy, the rest drawn."""
    samples = getattr(type(engine), "samples", True)
    prompts = [[dict(m) for m in record.prompt] for record in records.read(f"harbor:test?n={count}")]
    local = counter(engine)
    found = []
    for k, messages in enumerate(prompts):
        sampling = Sampling(max_tokens=new, temperature=k % 2 if samples else 0, seed=k)
        ((answer,),) = engine.generate([messages], sampling)
        ids = answer.token_ids
        if ids is None:
            ids = local.renderer.spelling.encode(answer.text).ids if local else answer.text.split()
        found.append(Question(messages, sampling, answer.text, str(answer.finish_reason), len(ids)))
    return found


def alone(engine: Any, asked: Sequence[Question], streams: int, options: argparse.Namespace) -> tuple[float, float]:
    """Answer in this process, `streams` at a time; return the CPU seconds per token, and tokens per second."""
    stream_of: dict[int, tuple[int, Question]] = {}
    turns = [itertools.count(_offset(k, streams, asked)) for k in range(streams)]
    tokens = 0

    def ask(stream: int) -> None:
        question = asked[next(turns[stream]) % len(asked)]
        start = partial(desk.answer, engine, question.messages, 0, question.sampling)
        stream_of[runner.add(start, getattr(engine, "rows_per_answer", 1))] = stream, question

    def done(number: int, answer: Any) -> None:
        nonlocal tokens
        stream, question = stream_of.pop(number)
        assert answer.text == question.text, "the library differs from itself"
        tokens += question.tokens
        if time.perf_counter() < until:
            ask(stream)

    with Desk() as desk:
        runner = Runner(at_once=options.rows, done=done)
        start, cpu = time.perf_counter(), time.process_time()
        until = start + options.seconds / 4
        for stream in range(streams):
            ask(stream)
        while runner.busy:
            runner.round()
    return (time.process_time() - cpu) / tokens, tokens / (time.perf_counter() - start)


def _offset(stream: int, streams: int, asked: Sequence[Question]) -> int:
    return stream * len(asked) // streams


@contextmanager
def served(spec: Any, rows: int) -> Iterator[tuple[psutil.Process, int]]:
    """Run a server with one model, named `it`; give its process and port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        models, log = Path(folder) / "served.yaml", Path(folder) / "log"
        models.write_text(yaml.safe_dump({"it": spec}))
        command = [sys.executable, "-m", "fairlead.cli", "serve", "--models", str(models), "--port", str(port)]
        with log.open("wb") as out:
            process = subprocess.Popen([*command, "--rows", str(rows)], stdout=out, stderr=out, env=os.environ)
        try:
            while not _answers(f"http://127.0.0.1:{port}/health"):
                if process.poll() is not None:
                    raise SystemExit(f"the server ended: {log.read_text()[-2000:]}")
                time.sleep(0.1)
            yield psutil.Process(process.pid), port
        finally:
            process.terminate()
            process.wait(60)


def _answers(url: str) -> bool:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


async def listen(port: int, asked: Sequence[Question], first: int, until: float) -> list[Heard]:
    """Ask one question after the other over one connection; the bytes are kept, and read when the load is over."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    heard = []
    for turn in itertools.count(first):
        start = time.perf_counter()
        if start >= until:
            break
        question = asked[turn % len(asked)]
        writer.write(question.request("it"))
        reads: list[tuple[float, bytes]] = []
        tail = b""
        while not tail.endswith(END):
            data = await reader.read(1 << 16)
            reads.append((time.perf_counter(), data))
            tail = (tail + data)[-len(END) :]
            if not data or not reads[0][1].startswith(b"HTTP/1.1 200"):
                break
        heard.append(Heard(question, start, reads, whole=tail == END))
        if not heard[-1].whole:
            break
    writer.close()
    return heard


async def load(process: psutil.Process, port: int, asked: Sequence[Question], streams: int, seconds: float) -> Load:
    memory: list[tuple[float, float]] = []

    async def watch() -> None:
        while True:
            memory.append((time.perf_counter(), process.memory_info().rss / 2**20))
            await asyncio.sleep(0.5)

    def cpu() -> float:
        times = process.cpu_times()
        return times.user + times.system

    watching = asyncio.create_task(watch())
    start, used = time.perf_counter(), cpu()
    runs = [listen(port, asked, _offset(k, streams, asked), start + seconds) for k in range(streams)]
    heard = await asyncio.gather(*runs)
    took = time.perf_counter() - start
    watching.cancel()
    return Load(heard, took, cpu() - used, memory)


def line(case: str, streams: int, found: Load, library: Sequence[float]) -> str:
    tokens = found.tokens
    first, gaps = 1e3 * np.array(found.first or [np.nan]), 1e3 * np.array(found.gaps or [np.nan])
    layer = found.cpu / max(1, sum(tokens)) - library[0]
    cells = [case, str(streams), str(len(found.whole)), f"{sum(tokens) / found.seconds:.0f}", f"{library[1]:.0f}"]
    cells += [f"{np.percentile(first, 50):.0f}", f"{np.percentile(first, 95):.0f}", f"{np.percentile(gaps, 95):.1f}"]
    cells += [f"{max(tokens) / max(1, min(tokens)):.2f}", f"{1e3 * layer:.3f}"]
    cells += [f"{max(size for _, size in found.memory):.0f}", f"{found.slope:+.1f}", str(found.lost), str(found.differ)]
    return "| " + " | ".join(cells) + " |"


def measure(case: str, options: argparse.Namespace) -> None:
    spec = CASES.get(case) or {"name": case, **catalog.find("decoder", case).load().example}
    engine = open_engine(spec)
    asked = questions(engine, options.questions, options.new)
    with served(spec, options.rows) as (process, port):
        for streams in options.streams:
            # The library is measured on both sides of the server: the machine does not stay as it is.
            before = alone(engine, asked, streams, options)
            asyncio.run(load(process, port, asked, streams, 1))
            found = asyncio.run(load(process, port, asked, streams, options.seconds))
            after = alone(engine, asked, streams, options)
            print(line(case, streams, found, [(x + y) / 2 for x, y in zip(before, after)]), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--cases", nargs="+", default=list(CASES), choices=[*CASES, *(e.name for e in catalog.entries("decoder"))]
    )
    parser.add_argument("--streams", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=10, help="of load, at each number of streams")
    parser.add_argument("--new", type=int, default=32, help="most tokens of an answer")
    parser.add_argument("--questions", type=int, default=64)
    parser.add_argument("--rows", type=int, default=64, help="most answers that the server writes at a time")
    options = parser.parse_args()
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|")
    for case in options.cases:
        measure(case, options)


if __name__ == "__main__":
    main()
