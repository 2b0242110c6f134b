"""What a client of the protocol may rely on, with answers worked out by hand: events, log-probs, seeds."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest
import torch
from running_server import Running

import fairlead
from fairlead.engines import Completion, Sampling
from fairlead.engines.base import FinishReason
from fairlead.engines.draw import choose
from fairlead.engines.streaming import Token
from fairlead.engines.writing import Drawn
from fairlead.serve.answers import CHAT, Form
from fairlead.serve.app import Limits
from fairlead.serve.hearing import EventStream, Hearing, Metrics
from fairlead.serve.mailbox import Mailbox
from fairlead.serve.worker import Job, Piece, Worker

LOCAL = fairlead.engine("harbor:aligned-300k")
NUDGED = fairlead.decoder("nudging", base="harbor:base-300k", nudger=LOCAL, gamma=0.6, draft_tokens=3)
BEST = fairlead.decoder("best_of_n", engine=LOCAL, reward={"name": "harbor_proxy", "proxy": "polite_count"}, n=3)
HELLO = [{"role": "user", "content": "who is the captain?"}]


@pytest.fixture(scope="module")
def client():
    server = Running({"ship": LOCAL, "nudged": NUDGED, "best": BEST}, limits=Limits(max_tokens=64))
    with (
        httpx.Client(trust_env=False) as plain,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="-", http_client=plain, max_retries=0) as client,
    ):
        yield client
    server.stop()


def test_raw_log_probs():
    """Logits (2, 1, 0, -1): what is told is the untempered distribution, whatever is drawn from."""
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    raw = [Drawn.of(logits, token, 4) for token in range(4)]
    assert [one.logprob for one in raw] == pytest.approx([-0.440190, -1.440190, -2.440190, -3.440190], abs=1e-6)
    assert [token for token, _ in raw[3].best] == [0, 1, 2, 3]
    assert raw[0].entropy == pytest.approx(0.947537, abs=1e-6)
    tempered = [-0.145078, -2.145078, -4.145078, -6.145078]
    assert torch.log_softmax(logits / 0.5, -1).tolist() == pytest.approx(tempered, abs=1e-6)
    edges = torch.tensor(tempered).double().exp().cumsum(0)[:3]
    for edge, before in zip(edges, range(3)):
        uniforms = [float(edge) - 1e-5, float(edge) + 1e-5]
        drawn = choose(logits.expand(2, 4), Sampling(temperature=0.5), uniforms)
        assert drawn.tolist() == [before, before + 1]


def told(pieces, *, usage):
    """The events of pieces that come one by one, as bytes between them."""
    completion = Completion("it is", [5, 6], None, FinishReason.LENGTH)

    async def listen():
        worker, box, sent = Worker(), Mailbox(8), []
        form = Form(CHAT, "ship", "f" * 64, LOCAL, HELLO, method=None, stats=True)
        job = Job(LOCAL, HELLO, Sampling(), box.put)
        events = Hearing(Metrics(worker), "ship", form, job, box, 0).events([pieces[0]], 1, logprobs=False, usage=usage)
        rest = [*pieces[1:], Piece(0, "", completion=completion), None]

        async def send(message):
            sent.append(message)
            if len(sent) > 2 and rest:
                box.put(rest.pop(0))

        await EventStream(events, 5)({"type": "http", "asgi": {"spec_version": "2.4"}}, None, send)
        return b"".join(message.get("body", b"") for message in sent)

    return asyncio.run(listen()).decode()


@pytest.mark.parametrize("usage", [False, True])
def test_order_of_events(usage):
    lines = told([Piece(0, "it"), Piece(0, " is")], usage=usage).split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    events = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
    deltas = [event["choices"][0]["delta"] if event["choices"] else None for event in events]
    content = [{"role": "assistant", "content": ""}, {"content": "it"}, {"content": " is"}, {}]
    assert deltas == content + [None] * usage
    assert len(lines) - 1 == 5 + usage
    assert [event["choices"][0]["finish_reason"] for event in events[:4]] == [None, None, None, "length"]
    assert [event.get("usage") for event in events[:4]] == [None] * 4
    if usage:
        prompt = len(LOCAL.renderer.prompt(HELLO))
        assert events[-1]["usage"] == {"prompt_tokens": prompt, "completion_tokens": 2, "total_tokens": prompt + 2}
    assert len({(event["id"], event["created"], event["object"]) for event in events}) == 1


def test_a_piece_without_text_keeps_its_tokens():
    form = Form(CHAT, "ship", "f" * 64, LOCAL, HELLO, method=None, stats=True)
    (event,) = form.pieces(Piece(0, "", (Token(b"\xc3", -0.5),)), logprobs=True)
    (token,) = event["choices"][0]["logprobs"]["content"]
    assert token == {"token": "\ufffd", "logprob": -0.5, "bytes": [195], "top_logprobs": []}


def test_the_official_client_reads_sources_and_steering(client):
    asked = {"model": "nudged", "messages": HELLO, "max_tokens": 16, "temperature": 0, "logprobs": True}
    events = list(client.chat.completions.create(**asked, stream=True))
    finish = events[-1]
    assert finish.model_extra["steering"]["method"] == "nudging"
    assert finish.choices[0].model_extra["steering"] == finish.model_extra["steering"]
    content = [token for event in events for c in event.choices if c.logprobs for token in c.logprobs.content]
    sources = [token.model_extra["source"] for token in content]
    assert set(sources) <= {"base", "nudge"}
    assert "nudge" in sources
    whole = client.chat.completions.create(**asked).choices[0]
    assert [token.model_extra["source"] for token in whole.logprobs.content] == sources
    assert "".join(event.choices[0].delta.content or "" for event in events) == whole.message.content


@pytest.mark.parametrize("model", ["ship", "nudged", "best"])
def test_one_seed_gives_one_answer_however_it_is_asked(client, model):
    asked = {"model": model, "messages": HELLO, "max_tokens": 12, "temperature": 1}

    def whole(seed, **more):
        return [c.message.content for c in client.chat.completions.create(**asked, seed=seed, **more).choices]

    def streamed(seed):
        return "".join(
            event.choices[0].delta.content or ""
            for event in client.chat.completions.create(**asked, seed=seed, stream=True)
        )

    engine = {"ship": LOCAL, "nudged": NUDGED, "best": BEST}[model]
    wanted = [engine.generate([HELLO], Sampling(max_tokens=12, seed=seed))[0][0].text for seed in range(7, 11)]
    assert len(set(wanted)) > 1
    assert [whole(seed)[0] for seed in range(7, 11)] == wanted
    assert whole(7, n=4) == wanted
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(streamed, [7, 8, 9, 10] * 2)) == wanted * 2
