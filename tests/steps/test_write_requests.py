"""The write_requests step: prompts with their kind of risk, counts, and that nothing is asked for twice."""

from __future__ import annotations

import itertools

import pytest

from fairlead import read
from fairlead.decoding.guideline_requests import RequestWriting, risks
from fairlead.engines import Completion, Sampling
from fairlead.errors import DataError
from fairlead.steps import write_requests
from fairlead.steps.base import Context, Use
from fairlead.steps.write_requests import WriteRequests


class Writer:
    """Continues lists with what no list had before, or with nothing."""

    fingerprint = "writer"

    def __init__(self, silent=False):
        self.numbers, self.silent, self.seeds = itertools.count(), silent, []

    def generate(self, prompts, sampling):
        self.seeds.append(sampling.seed)
        return [[Completion(self._say()) for _ in range(sampling.n)] for _ in prompts]

    def _say(self):
        return "Sorry." if self.silent else f"5. {' '.join(f'w{next(self.numbers)}' for _ in range(5))}"


@pytest.fixture
def writer(monkeypatch):
    writer = Writer()
    monkeypatch.setattr(write_requests, "open_engine", lambda model, dtype: writer)
    return writer


def test_requests_are_records(writer, tmp_path):
    step = WriteRequests("harbor:base-300k", RequestWriting(each=3, sampling=Sampling(n=2)), seed=4)
    context = Context(tmp_path, tmp_path / "answers.sqlite", quiet=True)
    outcome = step(context)
    found = read(tmp_path / outcome.outputs["records"])
    assert (found.kind, len(found)) == ("prompt", 42)
    assert [record.extra["risk"] for record in found] == [risk.type for risk in risks() for _ in range(3)]
    assert (outcome.metrics["kept"], outcome.metrics["surplus"], outcome.notes) == (42, 14, ())
    assert writer.seeds == [4, 5]
    assert step(context).metrics == outcome.metrics
    assert writer.seeds == [4, 5]


def test_kinds_that_ran_dry_are_told(writer, tmp_path):
    writer.silent = True
    step = WriteRequests("m", RequestWriting(each=1, patience=1))
    with pytest.raises(DataError, match=r"no request was written \(replies 56, .*given_up 14\)"):
        step(Context(tmp_path, tmp_path / "answers.sqlite", quiet=True))


def test_what_it_needs_and_says():
    step = WriteRequests("http://host/v1#m")
    assert step.uses() == (Use(("model",), "model", "http://host/v1#m"),)
    preview = step.preview({})
    assert "http://host/v1#m writes up to 1,400 requests, 100 of each of 14 kinds" in preview.sentences[0]
    assert (preview.rows, preview.kind) == (1400, "prompt")
