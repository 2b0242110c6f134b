"""What the server publishes of itself is what it does: requests made up from its description, right and wrong ones."""

from __future__ import annotations

import jsonschema_rs
import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

import fairlead
from fairlead.serve.app import Limits, create_app

LOCAL = fairlead.engine("harbor:aligned-300k")
NUDGED = fairlead.decoder("nudging", base="harbor:base-300k", nudger=LOCAL, draft_tokens=3)
LIMITS = Limits(max_tokens=3)
APP = create_app({"ship": LOCAL, "a/b+c": NUDGED}, limits=LIMITS)
SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", APP)
OPERATIONS = {found.ok().label: found.ok() for found in SCHEMA.get_all_operations()}
ASKING = ("POST /v1/chat/completions", "POST /v1/completions")
STEERING = [
    {"method": "best_of_n", "params": {"n": 2}},
    {"method": "best_of_n", "params": {"n": 2, "reward": "harbor"}},
    {"method": "nudging", "params": {"nudger": "ship", "gamma": 0.5}},
    {"profile": "a/b+c", "params": {"gamma": 0.9}},
    {"params": {"gamma": 2}},
    {"method": "deal"},
    {"method": "steering", "params": {"coefficient": 1e300}},
    {"method": "urial", "params": {"k": 1, "examples": "/etc/passwd"}},
    {"method": "none", "return_stats": False},
    [{"method": "best_of_n", "params": {"n": 2}}, {"method": "nudging", "params": {"nudger": "gone"}}],
]


def drawn(count: int):
    """The same requests in every run."""
    return settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def answerable(case):
    """Leave out what no schema says: what a method honours, what a model has, conversations that end in an answer."""
    if isinstance(case.body, dict):
        case.body["model"] = "ship"
        for name in ("steering", "min_tokens", "logit_bias", "stop_token_ids", "structured_outputs"):
            case.body.pop(name, None)
        for message in case.body.get("messages", ())[-1:]:
            message["role"] = "user"
    return case


@pytest.mark.parametrize("label", OPERATIONS)
def test_right_requests_are_answered_as_described(label):
    seen = set()

    @drawn(25)
    @given(case=OPERATIONS[label].as_strategy(generation_mode=GenerationMode.POSITIVE).map(answerable))
    def ask(case):
        if "{name}" in label:
            case.path_parameters = {"name": "a/b+c"}
        answer = case.call_and_validate()
        seen.add(answer.status_code)

    ask()
    assert seen == {200}


@pytest.mark.parametrize("label", ASKING)
def test_wrong_requests_are_refused_as_described(label):
    seen = set()

    @drawn(40)
    @given(case=OPERATIONS[label].as_strategy(generation_mode=GenerationMode.NEGATIVE))
    def ask(case):
        seen.add(case.call_and_validate().status_code)

    ask()
    assert 400 in seen


@pytest.mark.parametrize("label", ASKING)
def test_streams_are_told_as_described(label):
    kinds = set()

    def streamed(case):
        case = answerable(case)
        case.body |= {"stream": True, "stream_options": {"include_usage": True}, "n": 1}
        return case

    @drawn(15)
    @given(case=OPERATIONS[label].as_strategy(generation_mode=GenerationMode.POSITIVE).map(streamed))
    def ask(case):
        answer = case.call_and_validate()
        kinds.add(answer.headers["content-type"][0])
        assert b"data: [DONE]" in answer.content

    ask()
    assert kinds == {"text/event-stream; charset=utf-8"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("steering", STEERING)
def test_methods_of_requests_are_answered_or_refused_as_described(steering, stream):
    body = {"messages": [{"role": "user", "content": "hello"}], "model": "ship", "steering": steering, "stream": stream}
    case = OPERATIONS[ASKING[0]].Case(body=body, media_type="application/json")
    answer = case.call()
    case.validate_response(answer, excluded_checks=[positive_data_acceptance])
    assert answer.status_code in (200, 400, 404)


def test_what_is_not_described_would_be_found():
    case = OPERATIONS["GET /health"].Case()
    answer = case.call()
    answer.content = b'{"status": "ok"}'
    with pytest.raises(FailureGroup):
        case.validate_response(answer)
    answer.status_code = 500
    with pytest.raises(FailureGroup):
        case.validate_response(answer, checks=[not_a_server_error])


def test_the_description_is_well_formed_and_tells_the_limits():
    with TestClient(APP) as client:
        found = client.get("/openapi.json").json()
    SCHEMA.validate()
    assert found["info"]["version"] == fairlead.__version__
    fields = found["components"]["schemas"]["ChatRequest"]["properties"]
    assert fields["model"]["enum"] == ["ship", "a/b+c"]
    assert {"type": "integer", "minimum": 1, "maximum": 3} in fields["max_tokens"]["anyOf"]
    assert fields["temperature"]["description"] == "0 is greedy."


def test_keys_are_described_and_asked_for():
    with TestClient(create_app({"ship": LOCAL}, keys=["k"], limits=LIMITS)) as client:
        assert client.get("/openapi.json").status_code == 401
        found = client.get("/openapi.json", headers={"Authorization": "Bearer k"}).json()
        assert found["components"]["securitySchemes"] == {"key": {"type": "http", "scheme": "bearer"}}
        told = jsonschema_rs.validator_for({"$ref": "#/components/schemas/Refusal", "components": found["components"]})
        for path, operations in found["paths"].items():
            for method, operation in operations.items():
                if method == "parameters":
                    continue
                answer = client.request(method, path, json={})
                open_ = "security" not in operation
                assert (answer.status_code == 401, "401" in operation["responses"]) == (not open_, not open_)
                assert open_ or told.is_valid(answer.json())
            assert (path == "/health") is open_
