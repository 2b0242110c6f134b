"""What is wrong with a request is said in OpenAI's form, whatever it is; nothing that is sent breaks the server."""

from __future__ import annotations

import json

import httpx
import openai
import pytest
from running_server import Running

import fairlead
from fairlead.errors import EngineError, EngineTimeoutError, ModelError, RequestError
from fairlead.serve.app import Limits

LOCAL = fairlead.engine("harbor:aligned-300k")
KEY = "k-1"
HELLO = [{"role": "user", "content": "hello"}]
GOOD = {"model": "ship", "messages": HELLO, "max_tokens": 2}


@pytest.fixture(scope="module")
def server():
    running = Running({"ship": LOCAL}, keys=[KEY], limits=Limits(max_tokens=64))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def client(server):
    with (
        httpx.Client(trust_env=False) as plain,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, http_client=plain, max_retries=0) as client,
    ):
        yield client


def post(server, content=None, *, path="chat/completions", key=KEY, **options):
    headers = {"Authorization": f"Bearer {key}", **options.pop("headers", {})}
    if content is not None and not isinstance(content, dict):
        options["content"] = content
    else:
        options["json"] = content
    return httpx.post(f"{server.url}/v1/{path}", headers=headers, trust_env=False, timeout=30, **options)


def error_of(answer, status):
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return error


@pytest.mark.parametrize(("n", "message"), [(0, "greater than or equal to 1"), (99, "less than or equal to 16")])
def test_the_official_client_sees_the_field(client, n, message):
    with pytest.raises(openai.BadRequestError, match=message) as caught:
        client.chat.completions.create(**GOOD, n=n)
    assert caught.value.param == "n"
    assert caught.value.type == "invalid_request_error"


def test_the_official_client_sees_who_is_unknown(client, server):
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(**GOOD | {"model": "gone"})
    assert (caught.value.param, caught.value.code) == ("model", "model_not_found")
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(**GOOD, extra_body={"steering": {"profile": "gone"}})
    assert caught.value.param == "steering.profile"
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**GOOD, extra_body={"steering": {"method": "gone"}})
    assert caught.value.param == "steering.method"
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**GOOD, extra_body={"reasoning_effort": "high"})
    assert (caught.value.param, caught.value.code) == ("reasoning_effort", "unknown_field")
    with pytest.raises(openai.AuthenticationError) as caught:
        client.with_options(api_key="wrong").chat.completions.create(**GOOD)
    assert caught.value.code == "invalid_api_key"


@pytest.mark.parametrize(
    "value", [None, "Bearer", "Basic k-1", f"Bearer {KEY[:-1]}", f"Bearer {KEY}x", "Bearer \u00ff"]
)
def test_a_key_that_is_missing_or_wrong(server, value):
    headers = {} if value is None else {"Authorization": value.encode("latin-1")}
    for path in ("v1/models", "openapi.json", "metrics"):
        answer = httpx.get(f"{server.url}/{path}", headers=headers, trust_env=False)
        assert error_of(answer, 401)["type"] == "authentication_error"
        assert answer.headers["www-authenticate"] == "Bearer"


WRONG = [
    ({"messages": HELLO}, "model"),
    ({"model": "ship"}, "messages"),
    ({"model": 3, "messages": HELLO}, "model"),
    (GOOD | {"messages": "hello"}, "messages"),
    (GOOD | {"messages": []}, "messages"),
    (GOOD | {"messages": [{"role": "user"}]}, "messages.0.content"),
    (GOOD | {"messages": [{"role": "user", "content": None}]}, "messages.0.content"),
    (GOOD | {"messages": [{"role": "user", "content": {}}]}, "messages.0.content"),
    (GOOD | {"messages": [*HELLO, {"role": "user", "content": [{"type": "image_url"}]}]}, "messages.1.content.0.type"),
    (GOOD | {"messages": [{"role": "user", "content": "x", "name": "y"}]}, "messages.0.name"),
    (GOOD | {"stream": "yes"}, "stream"),
    (GOOD | {"temperature": "1"}, "temperature"),
    (GOOD | {"temperature": -0.1}, "temperature"),
    (GOOD | {"top_p": 0}, "top_p"),
    (GOOD | {"n": 1.5}, "n"),
    (GOOD | {"n": True}, "n"),
    (GOOD | {"stop": ""}, "stop"),
    (GOOD | {"stop": ["a", ""]}, "stop.1"),
    (GOOD | {"stop": list("abcde")}, "stop"),
    (GOOD | {"stream": True, "stream_options": {"include_usage": True, "x": 1}}, "stream_options.x"),
    (GOOD | {"steering": {"methods": "deal"}}, "steering.methods"),
    (GOOD | {"steering": [{"method": "best_of_n", "params": {"no": 1}}]}, "steering.params.no"),
    (GOOD | {"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
]


@pytest.mark.parametrize(("body", "param"), WRONG)
def test_the_field_at_fault_is_named(server, body, param):
    error = error_of(post(server, body), 400)
    assert error["param"] == param
    assert error["message"].startswith((param, "unknown field", "steering"))


def test_a_list_that_is_wrong_is_not_told_to_be_a_text(server):
    assert "at most 4 items" in error_of(post(server, GOOD | {"stop": list("abcde")}), 400)["message"]


DEEP = b'{"model": "ship", "messages": [], "metadata": {"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}"
BROKEN = [
    b"",
    b"{",
    b"null",
    b"[]",
    b'"x"',
    b"\xff\xfe",
    b'{"model": "ship"} trailing',
    b'{"model": "\\ud800", "messages": [{"role": "user", "content": "x"}]}',
    b'{"model": "ship", "n": 0, "seed": ' + b"9" * 5000 + b"}",
    DEEP,
]


@pytest.mark.parametrize("content", BROKEN, ids=lambda content: repr(content[:20]))
def test_what_is_no_request_is_refused(server, content):
    error = error_of(post(server, content), 400)
    assert error["type"] == "invalid_request_error"
    assert error["param"] in (None, "seed", "n", "messages")


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none_are_refused(server, value):
    content = json.dumps(GOOD).removesuffix("}") + f', "temperature": {value}}}'
    error_of(post(server, content.encode()), 400)


@pytest.mark.parametrize(
    "changes", [{"seed": 2**80}, {"seed": -1}, {"n": 2.0}, {"temperature": 1e-300}, {"top_p": 1e-300}]
)
def test_the_furthest_values_are_answered(server, changes):
    answer = post(server, GOOD | changes)
    assert answer.status_code == 200
    assert answer.json()["usage"]["completion_tokens"] > 0


def test_ten_megabytes_are_refused_before_they_are_read(server):
    def pieces():
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield b"x" * 10_000

    for content in (b"x" * 10_000_000, pieces()):
        sent = 0
        try:
            error = error_of(post(server, content), 413)
        except httpx.TransportError:  # the connection was closed while we still wrote
            continue
        assert "1048576 bytes" in error["message"]
    assert post(server, GOOD).status_code == 200


def test_a_text_without_a_token_limit_gets_sixteen_or_what_the_server_allows():
    running = Running({"ship": LOCAL}, limits=Limits(max_tokens=5))
    try:
        for limit, body in ((5, {}), (3, {"max_tokens": 3})):
            answer = post(
                running, {"model": "ship", "prompt": "the ship", "ignore_eos": True, **body}, path="completions"
            )
            assert answer.json()["usage"]["completion_tokens"] == limit
    finally:
        running.stop()


def test_paths_and_methods_that_are_not_there(server):
    with httpx.Client(trust_env=False) as client:
        assert error_of(client.get(f"{server.url}/nowhere"), 404)["message"] == "Not Found"
        answer = client.get(f"{server.url}/v1/chat/completions")
        assert error_of(answer, 405)
        assert answer.headers["allow"] == "POST"


def test_unknown_fields_are_left_out_where_the_client_says_so(server):
    body = GOOD | {
        "temperature": 0,
        "tools": [],
        "schlüssel\n": 1,
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "hello", "cache_control": {}}], "name": "x"}
        ],
    }
    assert error_of(post(server, body), 400)["code"] == "unknown_field"
    answer = post(server, body, headers={"X-Compat": "lenient"})
    assert answer.status_code == 200
    wanted = post(server, GOOD | {"temperature": 0})
    assert answer.json()["choices"] == wanted.json()["choices"]
    named = {"tools", "schl\\xfcssel\\n", "messages.0.name", "messages.0.content.0.cache_control"}
    assert set(answer.headers["x-ignored"].split(", ")) == named
    assert "x-ignored" not in wanted.headers
    for changes, param in (({"n": 99}, "n"), ({"steering": {"x": 1}}, "steering.x")):
        error = error_of(post(server, body | changes, headers={"X-Compat": "lenient"}), 400)
        assert error["param"] == param


LONG = "the ship " * 900


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("chat/completions", {"messages": [{"role": "user", "content": LONG}]}, "messages"),
        ("chat/completions", {"messages": [*HELLO, {"role": "assistant", "content": "it"}]}, "messages"),
        ("completions", {"prompt": LONG}, "prompt"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_a_model_cannot_take(server, path, body, param, stream):
    error = error_of(post(server, {"model": "ship", "stream": stream, **body}, path=path), 400)
    assert (error["param"], error["type"]) == (param, "invalid_request_error")


class Elsewhere:
    """An engine that cannot answer."""

    fingerprint = "elsewhere"

    def __init__(self, error):
        self.error = error

    def generate(self, prompts, sampling):
        raise self.error


@pytest.mark.parametrize(
    ("error", "status", "type_"),
    [
        (EngineError("status 503"), 502, "server_error"),
        (EngineTimeoutError("not answered"), 504, "server_error"),
        (RequestError("status 400"), 400, "invalid_request_error"),
        (ModelError("no weights"), 500, "server_error"),
        (ZeroDivisionError("secret of the house"), 500, "server_error"),
    ],
)
def test_whose_fault_it_is(error, status, type_):
    running = Running({"it": Elsewhere(error), "ship": LOCAL})
    try:
        for stream in (False, True):
            told = error_of(post(running, GOOD | {"model": "it", "stream": stream}), status)
            assert told["type"] == type_
            assert "secret" not in told["message"]
        assert post(running, GOOD).status_code == 200
    finally:
        running.stop()
