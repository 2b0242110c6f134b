"""Every way of drawing that a request can ask for, by the official client: the library's answers, or a clear no."""

from __future__ import annotations

import httpx
import openai
import pytest
from running_server import Running

import fairlead
from fairlead.engines import Http, Sampling
from fairlead.errors import UnsupportedError
from fairlead.serve.app import Limits

LOCAL = fairlead.engine("harbor:aligned-300k")
NUDGED = fairlead.decoder("nudging", base="harbor:base-300k", nudger=LOCAL)
QUESTIONS = ["hello", "what color is the sea?", "who is the captain?"]
OPENAI = {"presence_penalty": 1.5, "frequency_penalty": -0.5, "logit_bias": {"40": 4, "41": -100}}
EXTRAS = {
    "top_k": 60,
    "min_p": 0.001,
    "repetition_penalty": 1.3,
    "min_tokens": 5,
    "ignore_eos": True,
    "stop_token_ids": [60, 61],
}
ASKED = {"max_tokens": 16, "temperature": 1.2, "seed": 4, "stop": ["e", "the"]}
WANTED = Sampling(**{**ASKED, **OPENAI, **EXTRAS, "logit_bias": {40: 4.0, 41: -100.0}})


@pytest.fixture(scope="module")
def client():
    server = Running({"ship": LOCAL, "nudged": NUDGED}, limits=Limits(max_tokens=64))
    with (
        httpx.Client(trust_env=False) as plain,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", http_client=plain, max_retries=0) as client,
    ):
        yield client
    server.stop()


def chat(client, question="hello", model="ship", **asked):
    message = {"role": "user", "content": question}
    return client.chat.completions.create(model=model, messages=[message], **asked)


def test_chats_are_drawn_as_the_library_draws(client):
    for question in QUESTIONS:
        ((wanted,),) = LOCAL.generate([[{"role": "user", "content": question}]], WANTED)
        made = chat(client, question, **ASKED, **OPENAI, extra_body=EXTRAS).choices[0]
        assert (made.message.content, made.finish_reason) == (wanted.text, wanted.finish_reason)
        events = chat(client, question, **ASKED, **OPENAI, extra_body=EXTRAS, stream=True)
        assert "".join(event.choices[0].delta.content or "" for event in events) == wanted.text


def test_texts_are_drawn_as_the_library_draws(client):
    for question in QUESTIONS:
        ((wanted,),) = LOCAL.generate([question], WANTED)
        asked = {"model": "ship", "prompt": question, **ASKED, **OPENAI, "extra_body": EXTRAS}
        assert client.completions.create(**asked).choices[0].text == wanted.text
        events = client.completions.create(**asked, stream=True)
        assert "".join(event.choices[0].text for event in events) == wanted.text


@pytest.mark.parametrize("name", [*OPENAI, *EXTRAS])
def test_each_alone_changes_an_answer_as_in_the_library(client, name):
    value = (OPENAI | EXTRAS)[name]
    strong = {"min_p": 1.0, "min_tokens": 24, "top_k": 1, "repetition_penalty": 4.0, "frequency_penalty": 2.0}
    value = strong.get(name, value)
    base = {"max_tokens": 24, "temperature": 1.5, "seed": 9}
    own = {int(token): float(bias) for token, bias in value.items()} if name == "logit_bias" else value
    prompts = [[{"role": "user", "content": question}] for question in QUESTIONS]
    wanted = [row[0].text for row in LOCAL.generate(prompts, Sampling(**base, **{name: own}))]
    made = [chat(client, q, **base, extra_body={name: value}).choices[0].message.content for q in QUESTIONS]
    assert made == wanted
    assert wanted != [row[0].text for row in LOCAL.generate(prompts, Sampling(**base))]


BAD = [
    ({"presence_penalty": 2.5}, "presence_penalty"),
    ({"frequency_penalty": -2.5}, "frequency_penalty"),
    ({"logit_bias": {"5": 101}}, "logit_bias.5"),
    ({"logit_bias": {"five": 1}}, "logit_bias"),
    ({"logit_bias": {"99999": 1}}, "logit_bias"),
    ({"min_p": 1.5}, "min_p"),
    ({"repetition_penalty": 0}, "repetition_penalty"),
    ({"min_tokens": -1}, "min_tokens"),
    ({"min_tokens": 17, "max_tokens": 16}, "min_tokens"),
    ({"ignore_eos": 1}, "ignore_eos"),
    ({"stop_token_ids": [-1]}, "stop_token_ids"),
    ({"stop_token_ids": [99999]}, "stop_token_ids"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}}, "response_format"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"response_format": {"type": "prose"}}, "response_format"),
    ({"structured_outputs": {"json": {}}}, "structured_outputs"),
    ({"structured_outputs": {"choice": []}}, "structured_outputs.choice"),
    ({"structured_outputs": {"choice": ["yes"]}, "ignore_eos": True}, "structured_outputs"),
]


@pytest.mark.parametrize(("fields", "param"), BAD, ids=str)
@pytest.mark.parametrize("stream", [False, True])
def test_what_is_wrong_is_named(client, fields, param, stream):
    with pytest.raises(openai.BadRequestError) as caught:
        chat(client, stream=stream, extra_body=fields)
    assert caught.value.param.startswith(param)
    named = param.partition(".")[0]
    assert named in caught.value.message or (named == "structured_outputs" and "choices" in caught.value.message)


CHOICES = ("the sea is blue.", "the sea", "no")


def test_an_answer_is_one_of_fixed_texts_as_in_the_library(client):
    base = {"max_tokens": 24, "temperature": 2.0, "seed": 5}
    form = {"structured_outputs": {"choice": list(CHOICES)}}
    for question in QUESTIONS:
        ((wanted,),) = LOCAL.generate([[{"role": "user", "content": question}]], Sampling(**base, choices=CHOICES))
        assert chat(client, question, **base, extra_body=form).choices[0].message.content == wanted.text
        events = chat(client, question, **base, extra_body=form, stream=True)
        assert "".join(event.choices[0].delta.content or "" for event in events) == wanted.text
        assert wanted.text in CHOICES
    assert chat(client, response_format={"type": "text"}).choices[0].message.content


def test_our_own_engine_asks_our_own_server(client, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    served, prompts = Http(str(client.base_url), "ship"), [[{"role": "user", "content": q}] for q in QUESTIONS]
    how = Sampling(choices=CHOICES, max_tokens=24, temperature=0)
    wanted = [row[0].text for row in LOCAL.generate(prompts, how)]
    assert [row[0].text for row in served.generate(prompts, how)] == wanted
    with pytest.raises(UnsupportedError, match="response_format") as caught:
        served.generate(prompts, Sampling(schema={"type": "object"}))
    assert caught.value.place == "sampling.schema"
    ((answer,),) = served.generate(prompts[:1], Sampling(max_tokens=1, temperature=0, top_logprobs=3))
    (alone,) = LOCAL.generate(prompts[:1], Sampling(max_tokens=1, temperature=0, logprobs=True))
    (told,) = answer.extra["top_logprobs"]
    assert len(told) == 3
    assert max(told.values()) == pytest.approx(float(alone[0].logprobs[0]), abs=1e-4)


@pytest.mark.parametrize("name", ["logit_bias", "presence_penalty", "min_tokens", "ignore_eos", "stop_token_ids"])
def test_a_method_that_cannot_says_so(client, name):
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match="does not honour") as caught:
            chat(client, model="nudged", max_tokens=16, stream=stream, extra_body={name: (OPENAI | EXTRAS)[name]})
        assert caught.value.param == name
    assert chat(client, model="nudged", max_tokens=8, extra_body={"min_p": 0.1}).choices[0].message.content
