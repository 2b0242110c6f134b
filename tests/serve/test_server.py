"""The server, asked by the official client: the library's answers, whole or streamed; errors name the field."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest
from running_server import Running

import fairlead
from fairlead.engines import Sampling
from fairlead.serve.app import Limits

LOCAL = fairlead.engine("harbor:aligned-300k")
BEST = fairlead.decoder("best_of_n", engine=LOCAL, reward={"name": "harbor_proxy", "proxy": "polite_count"}, n=3)
ENGINES = {"aligned": LOCAL, "best": BEST}
QUESTIONS = [
    "hello",
    "what color is the sea?",
    "who is the captain?",
    "sink it",
    "how many lamps are there on the quay?",
]
KEY = "secret-1"


def messages(question):
    return [{"role": "user", "content": question}]


@pytest.fixture(scope="module")
def running():
    server = Running(ENGINES, keys=["other", KEY], limits=Limits(max_tokens=64, body_bytes=20_000))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def client(running):
    with (
        httpx.Client(trust_env=False) as plain,
        openai.OpenAI(base_url=f"{running.url}/v1", api_key=KEY, http_client=plain, max_retries=0) as client,
    ):
        yield client


def drawn(question, **changes):
    """The library's own answers."""
    return LOCAL.generate([messages(question)], Sampling(**{"max_tokens": 12, "seed": 4, **changes}))[0]


def test_answers_are_the_librarys_whatever_else_is_asked(client):
    def ask(question):
        made = client.chat.completions.create(
            model="aligned", messages=messages(question), max_tokens=12, seed=4, n=3, temperature=1
        )
        return [choice.message.content for choice in made.choices]

    with ThreadPoolExecutor(5) as pool:
        together = list(pool.map(ask, QUESTIONS))
    assert together == [[drawn(question, seed=4 + k)[0].text for k in range(3)] for question in QUESTIONS]


def test_greedy_answer_with_its_counts(client):
    (wanted,) = drawn("hello", temperature=0)
    made = client.chat.completions.create(model="aligned", messages=messages("hello"), max_tokens=12, temperature=0)
    assert made.object == "chat.completion"
    assert made.choices[0].message.content == wanted.text
    assert made.choices[0].finish_reason == wanted.finish_reason
    assert made.usage.completion_tokens == len(wanted.token_ids)
    assert made.usage.prompt_tokens == len(LOCAL.renderer.prompt(messages("hello")))
    assert made.usage.total_tokens == made.usage.prompt_tokens + made.usage.completion_tokens


@pytest.mark.parametrize("stop", [None, [" the", "zz"]])
def test_streamed_equals_whole(client, stop):
    for question in QUESTIONS:
        asked = {"model": "aligned", "messages": messages(question), "max_tokens": 20, "seed": 2, "n": 2, "stop": stop}
        whole = client.chat.completions.create(**asked)
        texts, ends, usage, roles = ["", ""], [None, None], None, [None, None]
        for event in client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}):
            usage = event.usage or usage
            for choice in event.choices:
                roles[choice.index] = choice.delta.role or roles[choice.index]
                texts[choice.index] += choice.delta.content or ""
                ends[choice.index] = choice.finish_reason or ends[choice.index]
        assert texts == [choice.message.content for choice in whole.choices]
        assert ends == [choice.finish_reason for choice in whole.choices]
        assert roles == ["assistant", "assistant"]
        assert usage == whole.usage


def test_events_in_order(running):
    body = {"model": "aligned", "messages": messages("hello"), "max_tokens": 4, "temperature": 0, "stream": True}
    for options, usage in (({}, False), ({"stream_options": {"include_usage": True}}, True)):
        with httpx.stream(
            "POST", f"{running.url}/v1/chat/completions", json=body | options, headers=bearer(), trust_env=False
        ) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
        assert lines[-1] == "[DONE]"
        events = [json.loads(line) for line in lines[:-1]]
        assert len({(event["id"], event["created"]) for event in events}) == 1
        assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        last = events[-2] if usage else events[-1]
        assert last["choices"][0]["delta"] == {}
        assert last["choices"][0]["finish_reason"] in ("stop", "length")
        assert ("usage" in events[-1]) is usage
        assert (events[-1]["choices"] == []) is usage


def test_logprobs(client):
    (wanted,) = drawn("hello", temperature=0, logprobs=True)
    made = client.chat.completions.create(
        model="aligned", messages=messages("hello"), max_tokens=12, temperature=0, logprobs=True, top_logprobs=3
    )
    told = made.choices[0].logprobs.content
    assert [token.logprob for token in told] == pytest.approx(wanted.logprobs[: len(told)].tolist(), abs=1e-4)
    assert b"".join(bytes(token.bytes) for token in told).decode() == wanted.text
    for token in told:
        assert len(token.top_logprobs) == 3
        assert token.top_logprobs[0].logprob == pytest.approx(token.logprob, abs=1e-6)


def test_text_is_continued(client):
    made = client.completions.create(model="aligned", prompt="the ship", max_tokens=8, temperature=0)
    ((wanted,),) = LOCAL.generate(["the ship"], Sampling(max_tokens=8, temperature=0))
    assert made.choices[0].text == wanted.text
    pieces = client.completions.create(model="aligned", prompt="the ship", max_tokens=8, temperature=0, stream=True)
    assert "".join(event.choices[0].text for event in pieces) == wanted.text


def test_a_decoder_answers_and_tells_what_it_did(client):
    asked = {"model": "best", "messages": messages("hello"), "max_tokens": 12, "seed": 4}
    (wanted,) = BEST.generate([messages("hello")], Sampling(max_tokens=12, seed=4))[0]
    made = client.chat.completions.create(**asked)
    assert made.choices[0].message.content == wanted.text
    assert made.choices[0].model_extra["steering"]["candidates"] == wanted.extra["candidates"]
    events = list(client.chat.completions.create(**asked, stream=True))
    assert "".join(event.choices[0].delta.content or "" for event in events) == wanted.text
    assert events[-1].model_extra["steering"]["chosen"] == wanted.extra["chosen"]


def test_models(client):
    assert [model.id for model in client.models.list()] == ["aligned", "best"]
    assert client.models.retrieve("best").id == "best"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody")


BAD = [
    ({"n": 99}, "n"),
    ({"temperature": 3}, "temperature"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 1000}, "max_tokens"),
    ({"max_tokens": "many"}, "max_tokens"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"stop": ""}, "stop"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"best_of": 3}, "best_of"),
    ({"tools": []}, "tools"),
    ({"max_tokens": 3, "max_completion_tokens": 3}, "max_tokens"),
]


@pytest.mark.parametrize(("changes", "param"), BAD)
def test_what_is_wrong_is_named(running, changes, param):
    body = {"model": "aligned", "messages": messages("hello"), **changes}
    answer = httpx.post(f"{running.url}/v1/chat/completions", json=body, headers=bearer(), trust_env=False)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["param"].startswith(param)
    assert param.split(".")[0] in error["message"]


def bearer(key=KEY):
    return {"Authorization": f"Bearer {key}"}


def test_keys_sizes_and_broken_requests(running):
    def ask(**options):
        return httpx.post(f"{running.url}/v1/chat/completions", trust_env=False, **options)

    body = {"model": "aligned", "messages": messages("hello")}
    assert ask(json=body).status_code == 401
    assert ask(json=body, headers=bearer("wrong")).status_code == 401
    assert ask(json=body | {"model": "gone"}, headers=bearer()).status_code == 404
    assert ask(content=b"{", headers=bearer()).status_code == 400
    assert ask(json=body | {"user": "x" * 30_000}, headers=bearer()).status_code == 413
    assert httpx.get(f"{running.url}/nowhere", trust_env=False).status_code == 404


def test_a_prompt_that_does_not_fit_is_an_answer_of_its_own(client):
    long = messages("the ship " * 900)
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match="reads at most"):
            client.chat.completions.create(model="aligned", messages=long, stream=stream)
    assert client.chat.completions.create(model="aligned", messages=messages("hello"), max_tokens=2).choices


def test_health_and_metrics(running, client):
    client.chat.completions.create(model="aligned", messages=messages("hello"), max_tokens=2)
    assert httpx.get(f"{running.url}/health", trust_env=False).json()["status"] == "ok"
    text = httpx.get(f"{running.url}/metrics", headers=bearer(), trust_env=False).text
    assert 'fairlead_requests_total{model="aligned",outcome="done"}' in text
    assert 'fairlead_tokens_total{kind="completion",model="aligned"}' in text


class Slow:
    """An engine that answers when told to."""

    fingerprint = "slow"

    def __init__(self):
        self.go = threading.Event()

    def generate(self, prompts, sampling):
        self.go.wait(20)
        return LOCAL.generate(prompts, sampling)


def test_too_many_are_sent_away_and_those_there_are_answered():
    slow = Slow()
    server = Running({"slow": slow}, limits=Limits(waiting=2))
    body = {"model": "slow", "messages": messages("hello"), "max_tokens": 3}

    def ask():
        return httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=30, trust_env=False)

    try:
        with ThreadPoolExecutor(2) as pool:
            two = [pool.submit(ask) for _ in range(2)]
            while httpx.get(f"{server.url}/health", trust_env=False).json()["pending"] < 2:
                time.sleep(0.01)
            refused = ask()
            slow.go.set()
            assert [one.result().status_code for one in two] == [200, 200]
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
    finally:
        slow.go.set()
        server.stop()


def test_a_client_that_goes_frees_its_place(running):
    body = {"model": "aligned", "messages": messages("hello"), "max_tokens": 64, "n": 16, "stream": True}
    with httpx.stream(
        "POST", f"{running.url}/v1/chat/completions", json=body, headers=bearer(), trust_env=False
    ) as response:
        next(response.iter_lines())
    for _ in range(400):
        if httpx.get(f"{running.url}/health", trust_env=False).json()["pending"] == 0:
            return
        time.sleep(0.02)
    raise AssertionError("the request still runs")
