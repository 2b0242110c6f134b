"""Every engine: n and order kept, the same for the same seed, stop texts, batch or alone, odd prompts, cache in front.

A decoder joins with its catalog line, built from its example.
"""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from functools import cache as once
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

import fairlead
from fairlead import catalog, fields
from fairlead.engines import Cache, Completion, Engine, FinishReason, Http, Sampling
from fairlead.engines.base import SETTINGS
from fairlead.engines.desk import Desk
from fairlead.engines.programs import run
from fairlead.engines.streaming import Listener
from fairlead.errors import EngineError, FairleadError, UnsupportedError, UsageError

MODEL = "harbor:aligned-300k"
DECODERS = [e.name for e in catalog.entries("decoder")]
NAMES = ["local", "cache", "http", *DECODERS]
QUESTIONS = [
    "Where is the ship?",
    "hello",
    "what is the cargo of the lovely maiden and of the two other ships that left the harbor with her this morning?",
    "sink it",
    "how many lamps?",
]
PROMPTS = [[{"role": "user", "content": question}] for question in QUESTIONS]
SAMPLED = Sampling(max_tokens=12, temperature=1.0, top_p=0.95, n=3, seed=5)
GREEDY = Sampling(max_tokens=12, temperature=0)


@once
def local() -> Engine:
    return fairlead.engine(MODEL)


class OpenAIStyle(BaseHTTPRequestHandler):
    """The local engine behind the paths that `Http` calls."""

    def log_message(self, *args):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        chat = "messages" in body
        known = {name: value for name, value in body.items() if name in SETTINGS}
        known["choices"] = body.get("structured_outputs", {}).get("choice", ())
        sampling = fields.build(Sampling, known, owner="sampling")
        try:
            (row,) = local().generate([body["messages"] if chat else body["prompt"]], sampling)
            choices = [
                {
                    "finish_reason": c.finish_reason.value,
                    **({"message": {"content": c.text}} if chat else {"text": c.text}),
                }
                for c in row
            ]
            status, answer = 200, {"choices": choices}
        except FairleadError as error:
            status, answer = 400, {"error": {"message": str(error)}}
        raw = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


@pytest.fixture(scope="module")
def address():
    with ThreadingHTTPServer(("127.0.0.1", 0), OpenAIStyle) as server:
        server.daemon_threads = True
        threading.Thread(target=partial(server.serve_forever, poll_interval=0.01), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


@pytest.fixture
def engine(request, tmp_path, address, monkeypatch) -> Engine:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    name = request.param
    if name in DECODERS:
        return catalog.build("decoder", name, **catalog.find("decoder", name).load().example)
    made = {
        "local": local,
        "cache": lambda: Cache(local(), tmp_path / "answers.sqlite"),
        "http": lambda: Http(address, MODEL),
    }
    return made[name]()


every = pytest.mark.parametrize("engine", NAMES, indirect=True)


def random(engine: Engine, sampling: Sampling = SAMPLED) -> Sampling:
    """Return how to draw from an engine at random; greedily where it cannot."""
    return sampling if getattr(engine, "samples", True) else replace(sampling, temperature=0)


def texts(rows: list[list[Completion]]) -> list[list[str]]:
    return [[c.text for c in row] for row in rows]


@every
def test_it_is_an_engine(engine):
    assert isinstance(engine, Engine)
    assert engine.fingerprint == engine.fingerprint
    assert isinstance(engine.fingerprint, str)
    assert engine.fingerprint


@every
def test_n_and_order_are_kept(engine):
    rows = engine.generate(PROMPTS, random(engine))
    assert [len(row) for row in rows] == [3] * len(PROMPTS)
    shuffled = engine.generate(PROMPTS[::-1], random(engine))
    assert texts(shuffled[::-1]) == texts(rows)
    assert engine.generate([], random(engine)) == []


@every
def test_batch_equals_alone(engine):
    for sampling in (random(engine), GREEDY):
        rows = engine.generate(PROMPTS, sampling)
        alone = [engine.generate([prompt], sampling)[0] for prompt in PROMPTS]
        assert texts(alone) == texts(rows)
        assert [[c.token_ids for c in row] for row in alone] == [[c.token_ids for c in row] for row in rows]


@every
def test_the_seed_decides(engine):
    sampling = random(engine)
    first, again = engine.generate(PROMPTS, sampling), engine.generate(PROMPTS, sampling)
    assert texts(first) == texts(again)
    other = engine.generate(PROMPTS, replace(sampling, seed=6))
    assert (texts(other) != texts(first)) is getattr(engine, "samples", True)


@every
def test_a_decoder_that_cannot_sample_says_so(engine):
    if getattr(engine, "samples", True):
        return
    with pytest.raises(UsageError, match="temperature"):
        engine.generate(PROMPTS, SAMPLED)


@every
def test_token_limit(engine):
    for row in engine.generate(PROMPTS, random(engine, Sampling(max_tokens=3, temperature=1.0, n=2))):
        for completion in row:
            assert isinstance(completion.finish_reason, FinishReason)
            if completion.token_ids is not None:
                assert 1 <= len(completion.token_ids) <= 3
                assert completion.finish_reason is FinishReason.STOP or len(completion.token_ids) == 3


@every
def test_stop_texts(engine):
    """Stopping at a text that an answer has ends it before that text, and changes nothing before it."""
    whole = engine.generate(PROMPTS, GREEDY)
    cut_any = False
    for prompt, (answer,) in zip(PROMPTS, whole):
        if len(answer.text) < 8:
            continue
        stop = answer.text[3:6]
        ((cut,),) = engine.generate([prompt], Sampling(max_tokens=12, temperature=0, stop=(stop, "@@")))
        assert cut.text == answer.text[: answer.text.index(stop)]
        assert cut.finish_reason is FinishReason.STOP
        cut_any = True
    assert cut_any


TOKEN = 40
"""One of the vocabulary of all models here."""
WAYS = {
    "min_p": {"min_p": 1.0},
    "repetition_penalty": {"repetition_penalty": 5.0},
    "presence_penalty": {"presence_penalty": 2.0},
    "frequency_penalty": {"frequency_penalty": 2.0},
    "logit_bias": {"logit_bias": {TOKEN: 20.0}},
    "min_tokens": {"min_tokens": 16},
    "ignore_eos": {"ignore_eos": True},
    "stop_token_ids": {"stop_token_ids": tuple(range(30, 90))},
}
SERVERS = {"schema": {"type": "object"}, "top_logprobs": 3}
"""What servers alone do."""


@every
def test_every_way_of_drawing_is_honoured_or_refused(engine):
    """Nothing is ignored: answers change as they should, or the error names the setting."""
    usual = random(engine, Sampling(max_tokens=16, temperature=2.0, seed=3))
    plain, honoured = texts(engine.generate(PROMPTS, usual)), {}
    for name, way in WAYS.items():
        asked = replace(usual, **way)
        if name not in getattr(engine, "honours", SETTINGS):
            for ask in (engine.generate, lambda _, asked: heard(engine, asked)):
                with pytest.raises(UnsupportedError, match=f"sampling.{name}"):
                    ask(PROMPTS, asked)
            continue
        honoured |= way
        found = engine.generate(PROMPTS, asked)
        if name == "min_p":  # only the likeliest token is left
            assert texts(found) == texts(engine.generate(PROMPTS, replace(usual, temperature=0)))
        else:
            assert texts(found) != plain, name
        if name == "min_tokens":
            assert all(c.finish_reason is FinishReason.LENGTH for row in found for c in row)
    asked = replace(usual, **{**honoured, "min_p": 0.01})
    said, _, made = heard(engine, asked)
    assert texts(made) == texts(engine.generate(PROMPTS, asked))
    assert all(a.text.startswith(stream) for row, own in zip(made, said) for a, stream in zip(row, own))


def test_what_is_asked_for_is_looked_at_somewhere():
    """Every setting of Sampling is one of those tried above, or elsewhere in this file."""
    elsewhere = {"max_tokens", "temperature", "top_p", "top_k", "n", "stop", "seed", "logprobs"}
    assert set(WAYS) | set(SERVERS) | {"choices"} | elsewhere == SETTINGS


@every
def test_an_answer_is_one_of_fixed_texts_or_they_are_refused(engine):
    texts_ = ("the ship", "the ship is at the quay.", "salt")
    asked = random(engine, replace(SAMPLED, choices=texts_, max_tokens=32))
    if "choices" not in getattr(engine, "honours", SETTINGS):
        for ask in (engine.generate, lambda _, asked: heard(engine, asked)):
            with pytest.raises(UnsupportedError, match=r"sampling\.choices"):
                ask(PROMPTS, asked)
        return
    found = texts(engine.generate(PROMPTS, asked))
    assert {text for row in found for text in row} <= set(texts_)
    said, _, made = heard(engine, asked)
    assert texts(made) == found
    assert all(a.text.startswith(stream) for row, own in zip(made, said) for a, stream in zip(row, own))


@every
@pytest.mark.parametrize("name", SERVERS)
def test_what_servers_alone_do_is_refused_elsewhere(engine, name):
    if isinstance(engine, Http):  # tried in its own tests
        return
    with pytest.raises(UnsupportedError, match=f"sampling.{name}"):
        engine.generate(PROMPTS[:1], random(engine, replace(SAMPLED, **{name: SERVERS[name]})))


@every
def test_empty_and_very_long_prompts(engine):
    """An answer, or an error that says why not: never an answer to something else."""
    ((answer,),) = engine.generate([[{"role": "user", "content": ""}]], GREEDY)
    assert isinstance(answer.text, str)
    long = [{"role": "user", "content": "the ship " * 5000}]
    with pytest.raises(EngineError, match="reads at most"):
        engine.generate([long], GREEDY)


@every
def test_a_cache_in_front_changes_nothing(engine, tmp_path):
    cached = Cache(engine, tmp_path / "front.sqlite")
    wanted = texts(engine.generate(PROMPTS, random(engine)))
    assert texts(cached.generate(PROMPTS, random(engine))) == wanted
    assert texts(cached.generate(PROMPTS, random(engine))) == wanted
    assert (cached.hits, cached.misses) == (len(PROMPTS), len(PROMPTS))
    assert cached.fingerprint == engine.fingerprint


@every
def test_logprobs_or_a_clear_no(engine):
    answers = ["at the quay.", "", "the cargo is salt."]
    try:
        scored = engine.logprobs(PROMPTS[:3], answers)
    except UnsupportedError:
        return
    for values, alone in zip(scored, (engine.logprobs([p], [a])[0] for p, a in zip(PROMPTS, answers))):
        assert values.dtype == np.float32
        assert (values <= 0).all()
        np.testing.assert_allclose(values, alone, atol=1e-4)
    assert len(scored[1]) == 1  # the end of turn alone
    assert len(scored[2]) > len(scored[1])


def heard(engine: Engine, sampling: Sampling, top: int | None = None):
    """Every answer as a program beside all others: what was said, the tokens told, the completion."""
    said = [["" for _ in range(sampling.n)] for _ in PROMPTS]
    tokens = [[[] for _ in range(sampling.n)] for _ in PROMPTS]

    def listener(i, k):
        def hear(text, more):
            said[i][k] += text
            tokens[i][k] += more

        return Listener(hear, top)

    with Desk() as desk:
        places = [(i, k) for i in range(len(PROMPTS)) for k in range(sampling.n)]
        starts = [partial(desk.answer, engine, PROMPTS[i], k, sampling, listener(i, k)) for i, k in places]
        made = run(starts)
    return said, tokens, [made[i * sampling.n : (i + 1) * sampling.n] for i in range(len(PROMPTS))]


@every
def test_streaming_equals_not_streaming(engine):
    for sampling in (random(engine), GREEDY, replace(GREEDY, stop=("the", " i"))):
        wanted = engine.generate(PROMPTS, sampling)
        said, tokens, made = heard(engine, sampling)
        assert texts(made) == texts(wanted)
        assert [[c.finish_reason for c in row] for row in made] == [[c.finish_reason for c in row] for row in wanted]
        assert [[set(c.extra) for c in row] for row in made] == [[set(c.extra) for c in row] for row in wanted]
        for row, streams, told in zip(wanted, said, tokens):
            assert all(answer.text.startswith(stream) for answer, stream in zip(row, streams))
            assert not any(told)


@every
def test_tokens_told_spell_the_answer(engine):
    _, tokens, made = heard(engine, GREEDY, top=2)
    if not any(told for row in tokens for told in row):
        return  # asked as a whole
    for (answer,), (told,) in zip(made, tokens):
        assert answer.text in b"".join(token.spelled for token in told).decode(errors="replace")
        for token in told:
            assert token.logprob <= 0
            assert all(best.logprob >= other.logprob for best, other in zip(token.top, token.top[1:]))


def test_decoders_are_heard_while_they_write():
    """Those whose answer is not chosen among whole ones say more than nothing before the end."""
    for name in sorted(set(DECODERS) - {"best_of_n", "worst_of_n", "smooth_llm"}):
        made = catalog.build("decoder", name, **catalog.find("decoder", name).load().example)
        said, *_ = heard(made, GREEDY)
        assert any(stream for row in said for stream in row), name
