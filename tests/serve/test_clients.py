"""Clients that are slow, go away, or come when there is no room; and a server that ends while it answers."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import openai
import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from running_server import Running

import fairlead
from fairlead.engines import Sampling
from fairlead.serve import app as serving
from fairlead.serve.app import Limits, create_app
from fairlead.serve.mailbox import Mailbox, merged
from fairlead.serve.worker import Job, Piece, Worker

LOCAL = fairlead.engine("harbor:aligned-300k")
LONG = {"model": "ship", "prompt": "the ship", "max_tokens": 500, "ignore_eos": True, "n": 8}
LIMITS = Limits(max_tokens=500)


def outcomes(url) -> dict[str, float]:
    text = httpx.get(f"{url}/metrics", trust_env=False).text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    return {s.labels["outcome"]: s.value for s in families["fairlead_requests"].samples if s.name.endswith("_total")}


def until(what, seconds=20):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def server():
    running = Running({"ship": LOCAL}, limits=LIMITS)
    yield running
    running.stop()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("reset", [False, True])
def test_a_client_that_dies_frees_its_rows(server, stream, reset):
    host, port = server.url.removeprefix("http://").split(":")
    body = json.dumps(LONG | {"stream": stream}).encode()
    with socket.create_connection((host, int(port))) as killed:
        if reset:
            killed.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        head = f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
        killed.sendall(head.encode() + body)
        if stream:
            assert killed.recv(100)
        else:
            until(lambda: server.pending == 1)
    until(lambda: server.pending == 0)
    assert outcomes(server.url) == {"cancelled": 1}
    assert httpx.post(f"{server.url}/v1/completions", json=LONG | {"n": 1, "max_tokens": 2}, trust_env=False).is_success


def test_a_busy_server_says_when_to_come_back():
    server = Running({"ship": LOCAL}, limits=Limits(waiting=1, max_tokens=500))
    try:
        with (
            httpx.Client(trust_env=False) as plain,
            openai.OpenAI(base_url=f"{server.url}/v1", api_key="-", http_client=plain, max_retries=0) as client,
        ):
            asked = {"model": "ship", "prompt": "the ship", "max_tokens": 500, "extra_body": {"ignore_eos": True}}
            with client.completions.create(**asked, stream=True) as events:
                next(iter(events))
                with pytest.raises(openai.RateLimitError) as caught:
                    client.completions.create(**asked)
                assert caught.value.type == "rate_limit_error"
                assert caught.value.response.headers["retry-after"] == "1"
            until(lambda: server.pending == 0)
            # The official client waits as it is told, and then is answered.
            assert client.with_options(max_retries=2).completions.create(**asked | {"max_tokens": 2}).choices
    finally:
        server.stop()


def heard(worker, room=lambda: None, **changes):
    """What is told of an answer, and when all is told."""
    told, ended = [], threading.Event()

    def tell(what):
        told.append(what)
        if not isinstance(what, Piece):
            ended.set()

    sampling = Sampling(max_tokens=40, ignore_eos=True, **changes)
    worker.submit(Job(LOCAL, "the ship", sampling, tell, room=room, stream=True))
    return told, ended


def test_a_slow_client_lets_only_its_own_answer_rest():
    worker = Worker()
    rest = Future()
    slow, slow_ended = heard(worker, lambda: rest if len(slow) >= 5 and not rest.done() else None, seed=1)
    until(lambda: len(slow) >= 5)
    other, other_ended = heard(worker, seed=2)
    assert other_ended.wait(20)
    assert len(slow) <= 7  # a round or two were on their way
    assert not slow_ended.is_set()
    assert worker.pending == 1
    rest.set_result(None)
    assert slow_ended.wait(20)
    worker.close()
    for told, seed in ((slow, 1), (other, 2)):
        ((wanted,),) = LOCAL.generate(["the ship"], Sampling(max_tokens=40, ignore_eos=True, seed=seed))
        assert told[-1] is None
        assert "".join(piece.text for piece in told[:-1]) == told[-2].completion.text == wanted.text


@pytest.mark.parametrize("version", ["2.3", "2.4"])
def test_a_client_that_takes_nothing_is_given_up(monkeypatch, version):
    monkeypatch.setattr(serving, "_AHEAD", 4)
    app = create_app({"ship": LOCAL}, limits=Limits(max_tokens=500, patience=0.5))
    body = json.dumps(LONG | {"stream": True}).encode()
    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": version}, "http_version": "1.1", "method": "POST",
        "scheme": "http", "path": "/v1/completions", "raw_path": b"", "query_string": b"", "root_path": "",
        "headers": [], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
    }  # fmt: skip
    taken, asked = [], [{"type": "http.request", "body": body, "more_body": False}]

    async def receive():
        return asked.pop() if asked else await asyncio.Event().wait()

    async def send(message):
        taken.append(message)
        if len(taken) > 3:
            await asyncio.Event().wait()

    async def ask():
        start = time.monotonic()
        await app(scope, receive, send)
        assert taken[-1]["more_body"]
        assert 0.5 <= time.monotonic() - start < 20
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://it") as client:
            while (await client.get("/health")).json()["pending"]:
                await asyncio.sleep(0.01)
            text = (await client.get("/metrics")).text
        assert 'fairlead_requests_total{model="ship",outcome="cancelled"} 1.0' in text
        told = float(text.partition('fairlead_tokens_total{kind="completion",model="ship"} ')[2].split()[0] or 0)
        assert told == 0  # no answer was whole: each rested long before its five hundredth token

    asyncio.run(ask())


def test_a_mailbox_has_room_again_when_it_was_emptied():
    async def use():
        box = Mailbox(2)
        with pytest.raises(TimeoutError):
            await box.take(0.01)
        for index in range(2):
            assert box.room() is None
            box.put(Piece(index, "x"))
        full = box.room()
        assert full is box.room()
        assert not full.done()
        assert [piece.index for piece in await box.take(1)] == [0, 1]
        assert full.done()
        assert box.room() is None
        asyncio.get_running_loop().call_later(0.05, box.put, None)
        assert await box.take(5) == [None]

    asyncio.run(use())


def test_what_waits_is_sent_as_one():
    error = ValueError()
    told = [Piece(0, "a"), Piece(1, "b"), Piece(0, "c"), Piece(1, "", completion=3), error]
    assert merged(told) == [Piece(0, "ac"), Piece(1, "b", completion=3), error]
    assert merged([None]) == [None]


def test_a_server_can_be_left_and_entered_again():
    app = create_app({"ship": LOCAL}, limits=LIMITS)
    for _ in range(2):
        with TestClient(app) as client:
            body = {"model": "ship", "prompt": "the ship", "max_tokens": 3}
            assert client.post("/v1/completions", json=body).status_code == 200


def test_an_event_loop_that_has_ended_ends_only_its_own_answers():
    worker = Worker()

    def gone(*_):
        raise RuntimeError("Event loop is closed")

    worker.submit(Job(LOCAL, "the ship", Sampling(max_tokens=400, ignore_eos=True), print, carry=gone, stream=True))
    _, ended = heard(worker)
    assert ended.wait(20)
    until(lambda: worker.pending == 0)
    worker.close()


def test_all_answers_are_finished_when_a_server_is_told_to_end():
    server = Running({"ship": LOCAL}, limits=LIMITS)
    body = LONG | {"n": 2, "max_tokens": 120, "seed": 3}

    def ask(stream):
        answer = httpx.post(f"{server.url}/v1/completions", json=body | {"stream": stream}, timeout=60, trust_env=False)
        assert answer.status_code == 200
        return answer.text

    with ThreadPoolExecutor(2) as pool:
        whole, streamed = pool.submit(ask, False), pool.submit(ask, True)
        until(lambda: server.pending == 2)
        server.server.should_exit = True
        until(lambda: not server.server.servers[0].is_serving())
        with pytest.raises(httpx.ConnectError):
            httpx.post(f"{server.url}/v1/completions", json=body, trust_env=False)
        assert streamed.result().endswith("data: [DONE]\n\n")
        texts = [choice["text"] for choice in json.loads(whole.result())["choices"]]
    server.stop()
    for index, text in enumerate(texts):
        events = [json.loads(line[6:]) for line in streamed.result().splitlines() if line.startswith("data: {")]
        own = [choice for event in events for choice in event["choices"] if choice["index"] == index]
        assert "".join(choice["text"] for choice in own) == text
        sampling = Sampling(max_tokens=120, ignore_eos=True, seed=3 + index)
        assert LOCAL.generate(["the ship"], sampling)[0][0].text == text
