"""Replies held to the form of a verdict, and verdicts by log-probs: of servers that can, and of some that cannot."""

from __future__ import annotations

import json
import math
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jsonschema_rs
import numpy as np
import pytest
from judges import shown
from known import rows

from fairlead.engines import Cache, Http
from fairlead.errors import UnsupportedError
from fairlead.evaluation.aspect_judge import AspectJudge
from fairlead.evaluation.checklist_judge import ChecklistJudge
from fairlead.evaluation.judging import form_of
from fairlead.evaluation.pairwise_judge import PairwiseJudge
from fairlead.verdicts import LABELS


class Server(ThreadingHTTPServer):
    """Replies in the form that is asked for, at length where none is; `refuses` names the fields that it has not."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.refuses: tuple[str, ...] = ()
        self.says = ""
        self.top: dict[str, float] | None = None
        self.seen: list[dict] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def asked(self, field: str) -> list:
        return [body[field] for body in self.seen if field in body]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *args):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append(body)
        refused = next((field for field in self.server.refuses if field in body), None)
        if refused:
            return self.reply(400, {"error": {"message": "not known here", "param": refused}})
        choice: dict = {"finish_reason": "stop", "message": {"content": self.says(body)}}
        if body.get("top_logprobs") and self.server.top is not None:
            told = [{"token": token, "logprob": nats} for token, nats in self.server.top.items()]
            choice["logprobs"] = {"content": [{**told[0], "top_logprobs": told}]}
        return self.reply(200, {"choices": [choice]})

    def says(self, body) -> str:
        schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
        if schema is not None:
            return json.dumps(filled(schema, shown(body["messages"][-1]["content"])["key"]))
        return body.get("structured_outputs", {}).get("choice", [self.server.says])[-1]

    def reply(self, status: int, content):
        raw = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


def filled(schema, text):
    """The last of what each part may be."""
    if schema["type"] == "object":
        return {name: filled(part, text) for name, part in schema["properties"].items()}
    return schema["enum"][-2] if "enum" in schema else text


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield running
        running.shutdown()


class Says:
    """Answers everything alike."""

    def __init__(self, text: str):
        self.text = self.fingerprint = text

    def generate(self, prompts, sampling):
        from fairlead.engines.base import Completion

        return [[Completion(self.text) for _ in range(sampling.n)] for _ in prompts]


ENGINES = {"base": Says("blue"), "other": Says("a red one")}
JUDGES = {
    "pairwise_judge": (PairwiseJudge, {"baseline": "base"}, 4, '{"key": "K", "reason": "so", "verdict": "A>B"}'),
    "aspect_judge": (AspectJudge, {"aspects": {"good": "It is good."}}, 4, '{"key": "K", "good": 5}'),
    "checklist_judge": (ChecklistJudge, {"checks": {"right": "Is it right?"}}, 4, '{"checks": {"right": "no"}}'),
}
every = pytest.mark.parametrize("name", JUDGES)


def report(name, server, **more):
    kind, fields, *_ = JUDGES[name]
    return kind(judge=Http(server.url, "tiny"), **fields, **more)(ENGINES, rows(2))


@every
def test_a_server_that_can_is_held_to_the_form(server, name):
    found = report(name, server)
    assert all(status == "ok" for row in found.rows for key, status in row.items() if key.startswith("status"))
    formats = server.asked("response_format")
    assert len(formats) == len(server.seen) == JUDGES[name][2]
    for one in formats:
        assert (one["type"], one["json_schema"]["strict"]) == ("json_schema", True)
    assert any("4 of 4 replies guided to the form of a verdict" in note for note in found.notes)


@every
def test_a_server_that_cannot_is_asked_without_and_it_is_said_once(server, name):
    server.refuses, server.says = ("response_format",), JUDGES[name][3]
    found = report(name, server)
    assert all(status == "ok" for row in found.rows for key, status in row.items() if key.startswith("status"))
    (note,) = [note for note in found.notes if "not guided" in note]
    assert "4 of 4 replies not guided" in note
    assert "response_format: not known here" in note
    refused = len(server.asked("response_format"))
    assert 1 <= refused <= 4  # those under way when the first was refused
    assert len(server.seen) == refused + JUDGES[name][2]


@every
def test_off_asks_for_no_form_and_on_insists(server, name):
    server.refuses, server.says = ("response_format",), JUDGES[name][3]
    found = report(name, server, guided="off")
    assert not server.asked("response_format")
    assert not [note for note in found.notes if "guided" in note]
    with pytest.raises(UnsupportedError, match="not known here"):
        report(name, server, guided="on")


def test_ones_own_text_is_held_to_the_form_only_where_it_is_asked(server):
    server.says = "[[A>B]]"
    own = "Judge {{ answer_a }} and {{ answer_b }}; end with [[A>B]]."
    report("pairwise_judge", server, text=own)
    assert not server.asked("response_format")
    server.says = ""
    found = report("pairwise_judge", server, text=own + " {{ key }}", guided="on")
    assert len(server.asked("response_format")) == 4
    assert found.rows[0]["label"] == "B>A"


def test_words_are_fixed_choices(server):
    text = "Is {{ answer }} good?"
    words = {"good": 5, "middling": 3, "poor": 1}
    judge = AspectJudge(
        judge=Http(server.url, "tiny"),
        aspects={"quality": "It is good."},
        safety={},
        words=words,
        text=text,
        guided="on",
    )
    found = judge(ENGINES, rows(2))
    assert {row["quality"] for row in found.rows} == {1.0}
    assert server.asked("structured_outputs") == [{"choice": list(words)}] * 4
    assert "4 of 4 replies guided" in found.notes[-1]


def test_a_judge_of_this_process_goes_on_without_a_schema_and_keeps_to_choices():
    common = {"judge": "harbor:base-300k", "aspects": {"quality": "It is good."}, "safety": {}, "retries": 0}
    found = AspectJudge(**common)({"base": ENGINES["base"]}, rows(2))
    assert "2 of 2 replies not guided (harbor:base-300k runs in this process" in found.notes[-1]
    held = AspectJudge(**common, words={"yes": 5, "no": 1}, text="{{ said }}, good?", guided="on")
    told = held({"base": ENGINES["base"]}, rows(2))
    assert all(row["reply"] in ("yes", "no") for row in told.rows)
    assert told.summary["base"]["judged"].value == 1.0


def test_guided_and_free_replies_are_kept_apart(server, tmp_path):
    server.says = '{"key": "K", "good": 5}'
    fields = {"aspects": {"good": "It is good."}, "safety": {}}
    for guided, asked in (("auto", 8), ("off", 16), ("auto", 16), ("off", 16)):
        judge = Cache(Http(server.url, "tiny"), tmp_path / "cache.sqlite")
        AspectJudge(judge=judge, guided=guided, **fields)(ENGINES, rows(4))
        assert len(server.seen) == asked
    assert len(server.asked("response_format")) == len(server.seen) / 2


def test_forms_are_strict_json_schemas():
    form = json.loads(form_of({"key": None, "aspect": {"reason": None, "score": ["1", "N/A"]}, "verdict": LABELS}))
    good = {"key": "k", "aspect": {"reason": "r", "score": "1"}, "verdict": "A=B"}
    checks = jsonschema_rs.validator_for(form)
    assert checks.is_valid(good)
    for bad in ({**good, "more": 1}, {"key": "k"}, {**good, "verdict": "A"}, {**good, "aspect": {"score": "1"}}):
        assert not checks.is_valid(bad)
    assert list(form["properties"]) == ["key", "aspect", "verdict"]


def test_a_servers_likeliest_tokens_are_the_verdict(server):
    """AlpacaEval's preference 1.982558 of log-probs -4.048847 and -.017597131 is .982558 points."""
    server.top = {"A": -4.048847, "B": -0.017597131, "C": -9.0}
    found = report("pairwise_judge", server, soft=True, orders="random")
    for row in found.rows:
        points = row["points"] if row["points"] is not None else 1 - row["points_swapped"]
        assert points == pytest.approx(0.982558, abs=1e-6)
    (body, *_) = server.seen
    assert (body["max_tokens"], body["logprobs"], body["top_logprobs"]) == (1, True, 20)


def test_tokens_that_spell_a_label_count_together_and_one_that_is_not_told_has_none(server):
    server.top = {"B": math.log(0.5), " B": math.log(0.25), "A": math.log(0.25)}
    found = report("pairwise_judge", server, soft=True)
    assert [row["points"] for row in found.rows] == pytest.approx([0.75, 0.75])
    assert [row["points_swapped"] for row in found.rows] == pytest.approx([0.25, 0.25])
    server.top = {" B": -0.1, "The": -2.0}
    assert [row["points"] for row in report("pairwise_judge", server, soft=True).rows] == [1.0, 1.0]
    for nothing in ({"The": -0.1}, None):
        server.top = nothing
        found = report("pairwise_judge", server, soft=True)
        assert np.isnan(found.summary["other"]["rate"].value)
        assert any("4 of 4 replies hold no verdict" in note for note in found.notes)


def test_a_server_without_log_probs_is_no_judge_of_this_kind(server):
    server.refuses = ("top_logprobs",)
    with pytest.raises(UnsupportedError, match="top_logprobs: not known here"):
        report("pairwise_judge", server, soft=True)
