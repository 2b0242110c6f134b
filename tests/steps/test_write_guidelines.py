"""The write_guidelines step: a library in a file, counts, and that nothing is asked for twice."""

from __future__ import annotations

import json

import pytest

from fairlead.decoding.guideline_library import read_library
from fairlead.decoding.guideline_writing import Writing
from fairlead.engines import Completion, Sampling
from fairlead.errors import UsageError
from fairlead.steps import write_guidelines
from fairlead.steps.base import Context, Use
from fairlead.steps.write_guidelines import WriteGuidelines


class Writer:
    """Writes what no model of this package can: two guidelines for each request."""

    fingerprint = "writer"

    def __init__(self):
        self.seeds = []

    def generate(self, prompts, sampling):
        self.seeds += [sampling.seed] * len(prompts)
        return [[Completion(self._say(prompt[0]["content"]))] for prompt in prompts]

    def _say(self, text):
        word = text.split("<request>\n")[1].split()[0]
        return f"{word} rule: Be {word}.\nCare: Ask first." if "Title:" in text else "Fine.\nNo."


@pytest.fixture
def writer(monkeypatch):
    writer = Writer()
    monkeypatch.setattr(write_guidelines, "open_engine", lambda model, dtype: writer)
    return writer


def test_a_library_is_written_once(writer, tmp_path):
    data = tmp_path / "asked.jsonl"
    rows = [{"prompt": [{"role": "user", "content": text}]} for text in ("sink it", "name four ports", "sing")]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    step = WriteGuidelines("harbor:base-300k", str(data), limit=2, seed=3)
    context = Context(tmp_path, tmp_path / "answers.sqlite", quiet=True)
    outcome = step(context)
    library = read_library(str(tmp_path / outcome.outputs["records"]))
    assert [(item.line, item.sources) for item in library.items] == [
        ("Care: Ask first.", ("sink it", "name four ports")),
        ("sink rule: Be sink.", ("sink it",)),
        ("name rule: Be name.", ("name four ports",)),
    ]
    assert (outcome.metrics["requests"], outcome.metrics["kept"], outcome.metrics["unsafe"]) == (2, 3, 0)
    assert writer.seeds == [3] * 4
    assert step(context).metrics == outcome.metrics
    assert len(writer.seeds) == 4


def test_what_it_needs_and_says():
    step = WriteGuidelines("http://host/v1#m", ("a.jsonl", "b.jsonl"), Writing(sampling=Sampling(seed=1), attempts=2))
    assert step.uses() == (
        Use(("model",), "model", "http://host/v1#m"),
        Use(("data", 0), "data", "a.jsonl"),
        Use(("data", 1), "data", "b.jsonl"),
    )
    first, second = step.preview({}).sentences
    assert "http://host/v1#m writes guidelines for the requests of a.jsonl, b.jsonl" in first
    assert "at most 3 times" in second
    with pytest.raises(UsageError, match="limit is 0"):
        WriteGuidelines("m", "d", limit=0)
