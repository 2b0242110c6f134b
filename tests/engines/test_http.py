from __future__ import annotations

import json
import threading
import time
from dataclasses import fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

import fairlead
from fairlead.engines.base import FinishReason, Sampling
from fairlead.engines.http import Http
from fairlead.errors import EngineError, EngineTimeoutError, UnsupportedError, UsageError

CHAT = [{"role": "user", "content": "hello"}]


class Server(ThreadingHTTPServer):
    """A small OpenAI-style server whose answers echo the request; `plan` lists failures to serve first."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.plan: list = []
        self.seen: list[tuple[str, dict, dict]] = []
        self.times: list[float] = []
        self.ignores_n = False
        self.models = ["tiny"]
        self.busy = self.most_busy = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.reply(200, {"data": [{"id": name} for name in self.server.models]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            server.seen.append((self.path, body, dict(self.headers)))
            server.times.append(time.monotonic())
            server.busy += 1
            self.counted = True
            server.most_busy = max(server.most_busy, server.busy)
            failure = server.plan.pop(0) if server.plan else None
        try:
            if failure is not None:
                failure(self)
            else:
                self.answer(body)
        finally:
            self.leave()

    def leave(self):
        """Stop counting as busy: before the answer is out, as the client may send its next request at once."""
        with self.server.lock:
            self.server.busy -= getattr(self, "counted", False)
            self.counted = False

    def answer(self, body: dict):
        chat = "messages" in body
        asked = body["messages"][-1]["content"] if chat else body["prompt"]
        choices = []
        for k in range(1 if self.server.ignores_n else body["n"]):
            text = f"{asked}/{body['seed']}/{k}"
            choice: dict = {"index": k, "finish_reason": "length" if "long" in asked else "stop"}
            choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
            if chat and body.get("logprobs"):
                choice["logprobs"] = {"content": [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -1.25}]}
            if not chat and "logprobs" in body:
                choice["logprobs"] = {"tokens": ["c"], "token_logprobs": [-0.75]}
            choices.append(choice)
        self.reply(200, {"choices": choices})

    def reply(self, status: int, content, headers=()):
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.leave()
        self.wfile.write(raw)


def fails(status: int, message: str = "busy", headers=()):
    return lambda handler: handler.reply(status, {"error": {"message": message}}, headers)


def hangs(seconds: float):
    def serve(handler):
        time.sleep(seconds)
        handler.close_connection = True

    return serve


def drips(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)


def hangs_up(handler):
    handler.close_connection = True
    handler.connection.close()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("fairlead.engines.sending._FIRST_WAIT", 0.02)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield running
        running.shutdown()


def test_chat_and_text_go_to_their_own_paths(server):
    engine = Http(server.url, "tiny")
    sampling = Sampling(max_tokens=7, temperature=0.5, top_p=0.9, top_k=4, stop=("END",), seed=3, logprobs=True, n=2)
    chat, text = engine.generate([CHAT, "long text"], sampling)
    assert [c.text for c in chat] == ["hello/3/0", "hello/3/1"]
    assert [c.text for c in text] == ["long text/3/0", "long text/3/1"]
    assert [c.finish_reason for c in (chat[0], text[0])] == [FinishReason.STOP, FinishReason.LENGTH]
    assert chat[0].token_ids is None
    assert chat[0].extra["tokens"] == ["a", "b"]
    np.testing.assert_array_equal(chat[0].logprobs, np.array([-0.5, -1.25], dtype=np.float32))
    np.testing.assert_array_equal(text[0].logprobs, np.array([-0.75], dtype=np.float32))
    sent = {path: body for path, body, _ in server.seen}
    assert set(sent) == {"/v1/chat/completions", "/v1/completions"}
    chat_body = sent["/v1/chat/completions"]
    wanted = {"model": "tiny", "max_tokens": 7, "temperature": 0.5, "top_p": 0.9, "top_k": 4, "stop": ["END"], "n": 2}
    assert wanted.items() <= chat_body.items()
    assert chat_body["messages"] == CHAT


SET = {
    "top_k": (4, 4),
    "min_p": (0.1, 0.1),
    "stop": (("END",), ["END"]),
    "stop_token_ids": ((5, 6), [5, 6]),
    "min_tokens": (3, 3),
    "ignore_eos": (True, True),
    "logit_bias": ({7: -100.0, 5: 2.0}, {"5": 2.0, "7": -100.0}),
    "presence_penalty": (0.5, 0.5),
    "frequency_penalty": (-0.5, -0.5),
    "repetition_penalty": (1.2, 1.2),
}


def test_every_way_of_drawing_is_sent_and_only_when_it_is_set(server):
    engine, always = Http(server.url, "tiny"), {"model", "max_tokens", "temperature", "top_p", "n", "seed"}
    engine.generate([CHAT, "text"], Sampling())
    engine.generate([CHAT, "text"], Sampling(**{name: given for name, (given, _) in SET.items()}))
    for path, body, _ in server.seen[:2]:
        assert set(body) == {*always, "messages" if "chat" in path else "prompt"}
    for path, body, _ in server.seen[2:]:
        assert {name: body[name] for name in SET} == {name: sent for name, (_, sent) in SET.items()}
        assert set(body) == {*always, *SET, "messages" if "chat" in path else "prompt"}
    known = {f.name for f in fields(Sampling)}
    assert known - always - set(SET) == {"logprobs", "schema", "choices", "top_logprobs"}


SCHEMA = {"type": "object", "properties": {"b": {"type": "string"}, "a": {"enum": ["x", "y"]}}, "required": ["b", "a"]}
FORMS = {
    "schema": (
        SCHEMA,
        "response_format",
        {"type": "json_schema", "json_schema": {"name": "reply", "strict": True, "schema": SCHEMA}},
    ),
    "choices": (("yes", "no"), "structured_outputs", {"choice": ["yes", "no"]}),
    "top_logprobs": (5, "top_logprobs", 5),
}


@pytest.mark.parametrize("name", FORMS)
def test_forms_are_asked_for_as_servers_know_them(server, name):
    given, field, sent = FORMS[name]
    Http(server.url, "tiny").generate([CHAT], Sampling(**{name: given}))
    ((_, body, _),) = server.seen
    assert body[field] == sent
    if name == "schema":  # what comes first in a schema is written first
        assert list(body[field]["json_schema"]["schema"]["properties"]) == ["b", "a"]


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("said", [{"message": "Unknown parameter: {}"}, {"message": "not supported", "param": "{}"}])
def test_a_form_that_is_refused_by_name_is_not_asked_for_again(server, name, said):
    given, field, _ = FORMS[name]
    told = {key: text.format(f"'{field}'") for key, text in said.items()}
    server.plan = [lambda h: h.reply(400, {"error": told})]
    engine = Http(server.url, "tiny")
    for _ in range(2):
        with pytest.raises(UnsupportedError, match=f"status 400: .*{field}") as caught:
            engine.generate([CHAT], Sampling(**{name: given}))
        assert caught.value.place == f"sampling.{name}"
    assert len(server.seen) == 1
    assert engine.generate([CHAT], Sampling())


def test_other_refusals_of_a_request_with_a_form_are_no_matter_of_form(server):
    server.plan = [fails(400, "the prompt is too long")] * 2
    engine = Http(server.url, "tiny")
    for _ in range(2):
        with pytest.raises(EngineError, match="too long") as caught:
            engine.generate([CHAT], Sampling(schema=SCHEMA))
        assert not isinstance(caught.value, UnsupportedError)
    assert len(server.seen) == 2


def test_the_likeliest_tokens_are_told_place_by_place(server):
    told = [{"token": "A", "logprob": -0.25}, {"token": "B", "logprob": -2.0}, {"token": "B", "logprob": -1.5}]
    content = [{"token": "A", "logprob": -0.25, "top_logprobs": told}]
    chat = {"message": {"content": "A"}, "finish_reason": "stop", "logprobs": {"content": content}}
    text = {"text": "A", "logprobs": {"tokens": ["A"], "token_logprobs": [-0.25], "top_logprobs": [{"A": -0.25}]}}
    server.plan = [lambda h: h.reply(200, {"choices": [chat]}), lambda h: h.reply(200, {"choices": [text]})]
    engine = Http(server.url, "tiny")
    ((first,),) = engine.generate([CHAT], Sampling(top_logprobs=3))
    assert first.extra == {"top_logprobs": [{"A": -0.25, "B": -1.5}]}
    assert first.logprobs is None
    ((second,),) = engine.generate(["text"], Sampling(top_logprobs=3, logprobs=True))
    assert second.extra == {"tokens": ["A"], "top_logprobs": [{"A": -0.25}]}
    assert (server.seen[0][1]["logprobs"], server.seen[1][1]["logprobs"]) == (True, 3)


def test_a_server_without_a_setting_says_so(server):
    server.plan = [lambda h: h.reply(400, {"error": {"message": "Unrecognized request argument: min_p"}})]
    with pytest.raises(EngineError, match="status 400: Unrecognized request argument: min_p"):
        Http(server.url, "tiny").generate([CHAT], Sampling(min_p=0.1))


def test_order_is_kept_and_concurrency_bounded(server):
    engine = Http(server.url, "tiny", concurrency=3)
    server.plan = [lambda h: (time.sleep(0.1), fails(503)(h))] * 4
    prompts = [f"p{k}" for k in range(12)]
    answers = engine.generate(prompts, Sampling())
    assert [row[0].text.split("/")[0] for row in answers] == prompts
    assert 2 <= server.most_busy <= 3


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_n_from_a_server_that_ignores_n(server, temperature):
    server.ignores_n = True
    (row,) = Http(server.url, "tiny").generate([CHAT], Sampling(n=4, seed=11, temperature=temperature))
    assert len(row) == 4
    assert len({c.text for c in row}) == (4 if temperature else 1)
    assert len(server.seen) == (4 if temperature else 1)


@pytest.mark.parametrize("failure", [fails(429), fails(500), fails(503), hangs_up, lambda h: h.reply(200, b"<html>")])
def test_failures_that_pass_are_tried_again(server, failure):
    server.plan = [failure, failure]
    (row,) = Http(server.url, "tiny").generate([CHAT], Sampling())
    assert row[0].text == "hello/0/0"
    assert len(server.seen) == 3


def test_retry_after_holds_all_requests(server):
    server.plan = [fails(429, headers=[("Retry-After", "0.6")])]
    engine = Http(server.url, "tiny", concurrency=1)
    engine.generate(["a", "b"], Sampling())
    assert server.times[1] - server.times[0] >= 0.6


def test_rate_limit(server):
    engine = Http(server.url, "tiny", requests_per_second=20)
    engine.generate([f"p{k}" for k in range(8)], Sampling())
    assert server.times[-1] - server.times[0] >= 7 / 20 - 0.05


def test_gives_up_after_its_tries(server):
    server.plan = [fails(503, "overloaded")] * 5
    with pytest.raises(EngineError, match="failed 3 times; the last time: status 503 overloaded"):
        Http(server.url, "tiny", retries=2).generate([CHAT], Sampling())
    assert len(server.seen) == 3


@pytest.mark.parametrize("failure", [hangs(3.0), drips, fails(429, headers=[("Retry-After", "3600")])])
def test_deadline_ends_every_wait(server, failure):
    server.plan = [failure] * 20
    start = time.monotonic()
    with pytest.raises(EngineTimeoutError, match=r"not answered within 0\.6 s"):
        Http(server.url, "tiny", timeout=0.25, deadline=0.6).generate([CHAT], Sampling())
    assert time.monotonic() - start < 2.0


def test_a_refusal_is_not_tried_again_and_ends_the_rest(server, monkeypatch):
    monkeypatch.setenv("FAIRLEAD_API_KEY", "sk-secret")
    server.plan = [fails(401, "bad key")] + [hangs(1.0)] * 3
    start = time.monotonic()
    with pytest.raises(EngineError, match="status 401: bad key") as caught:
        Http(server.url, "tiny", concurrency=2).generate([CHAT] * 20, Sampling())
    assert time.monotonic() - start < 0.9
    assert len(server.seen) <= 3
    assert server.seen[0][2]["Authorization"] == "Bearer sk-secret"
    assert "FAIRLEAD_API_KEY" in str(caught.value)
    assert "sk-secret" not in str(caught.value)


def test_no_key_is_sent_without_one(server, monkeypatch):
    monkeypatch.delenv("FAIRLEAD_API_KEY", raising=False)
    Http(server.url, "tiny").generate([CHAT], Sampling())
    assert "Authorization" not in server.seen[0][2]


def test_the_model_is_found_when_there_is_one(server):
    engine = fairlead.engine(server.url)
    assert engine.model == "tiny"
    assert engine.fingerprint == Http(server.url + "/", "tiny").fingerprint
    assert engine.fingerprint != fairlead.engine(f"{server.url}#other").fingerprint
    server.models = ["tiny", "small"]
    with pytest.raises(UsageError, match="one of: tiny, small"):
        Http(server.url).generate([CHAT], Sampling())


@pytest.mark.parametrize("answer", [{"choices": []}, {"no": 1}, {"choices": [{"index": 0}]}, {"choices": ["x"]}, []])
def test_answers_of_another_form(server, answer):
    server.plan = [lambda h: h.reply(200, answer)]
    with pytest.raises(EngineError, match=r"completions: "):
        Http(server.url, "tiny").generate([CHAT], Sampling())


def test_a_refused_answer_says_so(server):
    message = {"content": None, "refusal": "cannot help"}
    server.plan = [lambda h: h.reply(200, {"choices": [{"message": message, "finish_reason": "content_filter"}]})]
    ((completion,),) = Http(server.url, "tiny").generate([CHAT], Sampling())
    assert completion.text == ""
    assert completion.extra == {"finish_reason": "content_filter", "refusal": "cannot help"}


def test_what_it_cannot_do(server):
    with pytest.raises(UnsupportedError):
        Http(server.url, "tiny").logprobs([CHAT], ["x"])
    with pytest.raises(UsageError, match="timeout"):
        Http(server.url, "tiny", timeout=0)
    with pytest.raises(UsageError, match="not an http address"):
        Http("host/v1")


def test_no_prompts_no_requests(server):
    assert Http(server.url, "tiny").generate([], Sampling()) == []
    assert server.seen == []
