"""Methods that requests name or change: answered as the library would, and nothing named that could do harm."""

from __future__ import annotations

import json

import httpx
import openai
import pytest
from running_server import Running

import fairlead
from fairlead import catalog
from fairlead.engines import Sampling
from fairlead.errors import UsageError
from fairlead.rewards.base import RewardSpec
from fairlead.serve.app import Limits
from fairlead.serve.methods import settings

ALIGNED, BASE = fairlead.engine("harbor:aligned-300k"), fairlead.engine("harbor:base-300k")
NUDGED = fairlead.decoder("nudging", base=BASE, nudger=ALIGNED, gamma=0.5, draft_tokens=4)
POLITE = {"name": "harbor_proxy", "proxy": "polite_count"}
QUESTION = [{"role": "user", "content": "where is the ship?"}]
GREEDY = Sampling(max_tokens=16, temperature=0)


@pytest.fixture(scope="module")
def running():
    server = Running({"aligned": ALIGNED, "base": BASE, "nudged": NUDGED})
    yield server
    server.stop()


@pytest.fixture(scope="module")
def client(running):
    with (
        httpx.Client(trust_env=False) as plain,
        openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", http_client=plain, max_retries=0) as client,
    ):
        yield client


def ask(client, steering, *, model="base", **changes):
    asked = {"model": model, "messages": QUESTION, "max_tokens": 16, "temperature": 0, **changes}
    return client.chat.completions.create(**asked, extra_body={} if steering is None else {"steering": steering})


def answered(engine, sampling=GREEDY):
    return engine.generate([QUESTION], sampling)[0][0]


def test_a_request_names_a_method(client):
    wanted = answered(fairlead.decoder("nudging", base=BASE, nudger=ALIGNED, gamma=0.6))
    made = ask(client, {"method": "nudging", "params": {"nudger": "aligned", "gamma": 0.6}})
    assert made.choices[0].message.content == wanted.text
    assert made.model_extra["steering"] == made.choices[0].model_extra["steering"]
    assert made.model_extra["steering"]["method"] == "nudging"
    assert made.model_extra["steering"]["stats"] == wanted.extra["stats"]


def test_a_request_changes_the_served_method(client):
    changes = {"gamma": 1.0, "agree": False}
    wanted = answered(fairlead.decoder("nudging", base=BASE, nudger=ALIGNED, draft_tokens=4, **changes))
    assert wanted.extra["stats"] != answered(NUDGED).extra["stats"]
    made = ask(client, {"params": changes}, model="nudged")
    assert made.choices[0].message.content == wanted.text
    assert made.model_extra["steering"]["stats"] == wanted.extra["stats"]
    profile = ask(client, {"profile": "nudged", "params": changes, "return_stats": False})
    assert profile.choices[0].message.content == wanted.text
    assert profile.model_extra["steering"] == {"method": "nudging"}
    plain = ask(client, None, model="nudged")
    assert plain.model_extra["steering"]["stats"] == answered(NUDGED).extra["stats"]


def test_methods_compose_the_first_outermost(client):
    wanted = answered(
        fairlead.decoder("best_of_n", engine=fairlead.decoder("urial", engine=BASE, k=0), reward=POLITE, n=3),
        Sampling(max_tokens=16, seed=3),
    )
    steering = [
        {"method": "best_of_n", "params": {"reward": POLITE, "n": 3}},
        {"method": "urial", "params": {"k": 0}},
    ]
    made = ask(client, steering, temperature=1, seed=3)
    assert made.choices[0].message.content == wanted.text
    assert made.model_extra["steering"]["candidates"] == wanted.extra["candidates"]


def test_a_search_with_rewards_of_the_request(client):
    heuristics = [{"reward": {"name": "keywords", "words": ["harbor"]}, "weight": 2.0}]
    wanted = answered(fairlead.decoder("deal", engine=BASE, heuristics=heuristics, k=3, lookahead=4, strength=2.0))
    params = {"heuristics": heuristics, "k": 3, "lookahead": 4, "strength": 2}
    made = ask(client, {"method": "deal", "params": params}, logprobs=True)
    assert made.choices[0].message.content == wanted.text
    told = made.choices[0].logprobs.content
    assert b"".join(bytes(token.bytes) for token in told).decode() == wanted.text


def test_tokens_of_a_nudged_answer_tell_who_wrote_them(client):
    """Streamed and whole alike; the segments of the library's answer say the same."""
    wanted = answered(NUDGED)
    made = ask(client, None, model="nudged", logprobs=True, top_logprobs=2)
    told = made.choices[0].logprobs.content
    assert b"".join(bytes(token.bytes) for token in told).decode() == wanted.text
    written = {"base": "", "nudge": ""}
    for token in told:
        written[token.model_extra["source"]] += bytes(token.bytes).decode()
        assert token.model_extra["entropy"] >= 0
        assert token.top_logprobs[0].logprob == pytest.approx(token.logprob, abs=1e-6)
    segments = wanted.extra["segments"]
    assert written == {
        source: "".join(part["text"] for part in segments if part["source"] == source) for source in written
    }
    events = list(ask(client, None, model="nudged", logprobs=True, top_logprobs=2, stream=True))
    streamed = [token for e in events if e.choices[0].logprobs for token in e.choices[0].logprobs.content]
    assert [(t.bytes, t.model_extra["source"]) for t in streamed] == [(t.bytes, t.model_extra["source"]) for t in told]
    assert sum(bool(event.choices[0].delta.content) for event in events) > 1
    assert events[-1].model_extra["steering"]["stats"] == wanted.extra["stats"]


BAD = [
    ({"method": "magic"}, "base", 400, "steering.method"),
    ({"method": "nudging"}, "base", 400, "steering.params"),
    ({"method": "nudging", "params": {"nudger": "gone"}}, "base", 404, "steering.params.nudger"),
    ({"method": "nudging", "params": {"nudger": "aligned", "gamma": 3}}, "base", 400, "steering.params"),
    ({"method": "nudging", "params": {"nudger": "aligned", "gamma": "a"}}, "base", 400, "steering.params.gamma"),
    ({"method": "nudging", "params": {"nudger": "aligned", "base": "base"}}, "base", 400, "steering.params.base"),
    ({"method": "nudging", "params": {"nudger": "aligned", "base_prompt": "x"}}, "base", 400, "steering.params.base_p"),
    ({"method": "urial", "params": {"examples": "/etc/passwd"}}, "base", 400, "steering.params.examples"),
    ({"method": "best_of_n", "params": {"reward": "model"}}, "base", 400, "steering.params.reward"),
    ({"method": "best_of_n", "params": {"reward": {"path": 3}}}, "base", 400, "steering.params.reward"),
    ({"method": "best_of_n", "params": {"reward": POLITE, "n": 1000}}, "base", 400, "steering"),
    ({"method": "deal", "params": {"heuristics": "keywords"}}, "base", 400, "steering.params.heuristics"),
    ({"method": "deal", "params": {"heuristics": [{"reward": {"name": "keywords", "find": "x"}}]}}, "base", 400,
     "steering.params.heuristics.0.reward.find"),
    ({"method": "deal", "params": {"heuristics": [{"reward": {"name": "keywords"}}]}}, "base", 400,
     "steering.params.heuristics.0.reward"),
    ({"profile": "gone"}, "base", 404, "steering.profile"),
    ({"params": {"gamma": 0.2}}, "base", 400, "steering.params"),
    ({"params": {"mode": "naive"}}, "nudged", 400, "steering.params.mode"),
    ({"methods": "nudging"}, "base", 400, "steering.methods"),
    ([{"method": "urial"}, {"method": "magic"}], "base", 400, "steering.1.method"),
    ("nudging", "base", 400, "steering"),
]  # fmt: skip


@pytest.mark.parametrize(("steering", "model", "status", "param"), BAD, ids=lambda value: json.dumps(value)[:60])
def test_what_is_wrong_is_named(running, steering, model, status, param):
    body = {"model": model, "messages": QUESTION, "steering": steering}
    answer = httpx.post(f"{running.url}/v1/chat/completions", json=body, trust_env=False)
    assert (answer.status_code, answer.json()["error"]["param"][: len(param)]) == (status, param), answer.text


def test_a_server_without_keys_answers_to_this_machines_names_alone(running):
    here = ("127.0.0.1:8000", "localhost", "[::1]:8000", "ship.localhost:1")
    for name, status in [*((name, 200) for name in here), ("[::1.evil", 403), ("127.evil.example", 403)]:
        answer = httpx.get(f"{running.url}/v1/models", headers={"Host": name}, trust_env=False)
        assert answer.status_code == status
    assert answer.json()["error"]["code"] == "wrong_host"


@pytest.mark.parametrize("change", [{"rows": 0}, {"waiting": 0}, {"max_tokens": 0}, {"remember": -1}, {"patience": -1}])
def test_limits_out_of_range_are_refused(change):
    with pytest.raises(UsageError, match=f"{next(iter(change))} is"):
        Limits(**change)


def test_settings_of_served_methods_are_told(client):
    (nudged,) = [model for model in client.models.list() if model.id == "nudged"]
    told = nudged.model_extra["fairlead"]
    assert told["method"] == "nudging"
    assert told["params"]["gamma"]["value"] == 0.5
    assert "probability" in told["params"]["gamma"]["about"]
    assert "base" not in told["params"]


@pytest.mark.parametrize("entry", [*catalog.entries("decoder"), *catalog.entries("reward")], ids=lambda e: e.name)
def test_what_requests_may_set_names_no_file(entry):
    """A field that is a file, an address, a template or a pattern is for whoever runs the server."""
    cls = entry.load()
    annotations = {name: str(t) for base in cls.__mro__ for name, t in getattr(base, "__annotations__", {}).items()}
    for name in set(settings(cls)) - set(getattr(cls, "engine_fields", tuple)()):
        assert name in annotations
        assert name not in getattr(cls, "files", lambda _: {})({name: "/etc/passwd"})
        assert annotations[name] in ("RewardSpec", str(RewardSpec)) or annotations[name] != "Any"
