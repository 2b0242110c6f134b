"""The synthesize step: rows, counts and notes, and that a killed step goes on to the same bytes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from echo_synthesizer import Echo, Parrot

from fairlead import read
from fairlead.engines.base import Sampling
from fairlead.errors import DataError, EngineError, UnknownNameError, UsageError
from fairlead.recipe.identity import identify
from fairlead.recipe.plan import PlannedStep
from fairlead.steps import drafting
from fairlead.steps.base import Context
from fairlead.steps.synthesize import Synthesize

MODELS = {"model": "harbor:base-300k"}
ECHO = Echo(Sampling(max_tokens=6, n=2))


def context(folder: Path) -> Context:
    folder.mkdir(parents=True, exist_ok=True)
    return Context(folder, folder / "answers.sqlite", quiet=True)


def test_a_real_step_makes_readable_records(tmp_path):
    outcome = Synthesize(ECHO, MODELS, "harbor:prompts?n=9", at_once=4)(context(tmp_path))
    found = read(tmp_path / outcome.outputs["records"])
    assert found.kind == ECHO.makes
    assert outcome.metrics["seeds"] == 9
    assert outcome.metrics["rows"] == len(found)
    assert len(found) + outcome.metrics.get("dropped_as_duplicates", 0) == 18
    parents = [record.id for record in read("harbor:prompts?n=9")]
    assert [record.extra["parent"] for record in found] == sorted(record.extra["parent"] for record in found)
    assert {record.extra["parent"] for record in found} <= set(parents)
    assert len(found[0].extra["models"]["model"]) == 64


def test_rows_do_not_depend_on_how_many_seeds_at_once(tmp_path):
    made = []
    for at_once in (2, 64):
        outcome = Synthesize(ECHO, MODELS, "harbor:prompts?n=7", at_once=at_once)(context(tmp_path / str(at_once)))
        made.append((tmp_path / str(at_once) / outcome.outputs["records"]).read_bytes())
    assert made[0] == made[1]


def test_methods_that_start_from_nothing_want_a_count(tmp_path):
    blank = Echo(ECHO.sampling, seedless=True)
    outcome = Synthesize(blank, MODELS, count=3)(context(tmp_path))
    assert outcome.metrics["seeds"] == 3
    with pytest.raises(UsageError, match="makes its own seeds"):
        Synthesize(blank, MODELS, "harbor:prompts?n=2")
    with pytest.raises(UsageError, match="needs them"):
        Synthesize(ECHO, MODELS, count=3)


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"at_once": 0}, "at_once is 0"),
        ({"limit": 0}, "limit is 0"),
        ({"count": 3}, "either data or count"),
        ({"data": None}, "either data or count"),
        ({"models": {}}, "no engine for 'model'"),
    ],
)
def test_what_makes_no_sense_is_refused(values, what):
    with pytest.raises(UsageError, match=what):
        Synthesize(**({"synthesizer": ECHO, "models": MODELS, "data": "harbor:prompts?n=2"} | values))
    with pytest.raises(UnknownNameError, match="judge"):
        Synthesize(ECHO, MODELS | {"judge": "harbor:base-1m"}, "harbor:prompts?n=2")


def test_failures_are_told(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"id": "a", "prompt": "bad one"}\n{"id": "b", "prompt": "tell"}\n')
    outcome = Synthesize(ECHO, MODELS, str(tmp_path / "p.jsonl"))(context(tmp_path / "one"))
    assert outcome.metrics["failed"] == 1
    assert outcome.notes[0] == "1 of 2 seeds failed: the prompt is bad"
    with pytest.raises(DataError, match="no row is left of 1 seeds"):
        Synthesize(ECHO, MODELS, str(tmp_path / "p.jsonl"), limit=1)(context(tmp_path / "two"))


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from echo_synthesizer import Echo, Parrot
from fairlead.engines.base import Sampling
from fairlead.steps import synthesize
from fairlead.steps.base import Context

folder, last = Path(sys.argv[1]), int(sys.argv[2])
write = synthesize.append_rows

def write_and_die(path, rows):
    global last
    write(path, rows)
    last -= 1
    if last == 0:
        with path.open("ab") as stream:
            stream.write(b'{"parent": "torn')
        os.kill(os.getpid(), signal.SIGKILL)

synthesize.append_rows = write_and_die
method = Echo(Sampling(max_tokens=6, n=2))
place = Context(folder, folder / "c", quiet=True)
synthesize.Synthesize(method, {"model": "harbor:base-300k"}, "harbor:prompts?n=12", at_once=2)(place)
"""


def test_killed_at_any_moment_it_ends_with_the_same_bytes(tmp_path):
    step = Synthesize(ECHO, MODELS, "harbor:prompts?n=12", at_once=2)
    step(context(tmp_path / "whole"))
    killed = context(tmp_path / "killed").folder
    tests = str(Path(__file__).parents[1])
    for writes, lines in ((1, 2), (3, 8)):
        command = [sys.executable, "-c", KILLED, str(killed), str(writes), tests]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
        assert (killed / "drafts.jsonl").read_bytes().count(b"\n") == lines
    assert not (killed / "records.jsonl").exists()
    marked = (killed / "drafts.jsonl").read_bytes().replace(b'"answers": ["', b'"answers": ["kept ', 1)
    (killed / "drafts.jsonl").write_bytes(marked)
    step(context(killed))
    assert json.loads((killed / "records.jsonl").read_text().splitlines()[0])["completion"].startswith("kept ")
    for name in ("drafts.jsonl", "records.jsonl"):
        assert (killed / name).read_bytes().replace(b"kept ", b"") == (tmp_path / "whole" / name).read_bytes()


def test_shards_make_all_rows_between_them(tmp_path):
    step = {"synthesizer": ECHO, "models": MODELS, "data": "harbor:prompts?n=7"}
    whole = Synthesize(**step)(context(tmp_path / "whole"))
    parts = [Synthesize(**step, shard=f"{i}/3")(context(tmp_path / str(i))) for i in (1, 2, 3)]
    drafts = [json.loads(line) for i in (1, 2, 3) for line in (tmp_path / str(i) / "drafts.jsonl").open()]
    assert {row["key"] for row in drafts} == {
        json.loads(line)["key"] for line in (tmp_path / "whole" / "drafts.jsonl").open()
    }
    assert [part.metrics["seeds"] for part in parts] == [3, 2, 2]
    assert whole.metrics["seeds"] == 7
    with pytest.raises(UsageError, match=r"shard is '4/3'"):
        Synthesize(**step, shard="4/3")
    with pytest.raises(DataError, match="shard 8/9 of 7 seeds is empty"):
        Synthesize(**step, shard="8/9")(context(tmp_path / "none"))


def test_a_changed_seed_is_drafted_again(tmp_path):
    data = tmp_path / "p.jsonl"
    data.write_text('{"id": "a", "prompt": "one"}\n{"id": "b", "prompt": "two"}\n')
    first = Synthesize(ECHO, MODELS, str(data))(context(tmp_path / "step"))
    data.write_text('{"id": "a", "prompt": "one"}\n{"id": "b", "prompt": "three"}\n')
    Synthesize(ECHO, MODELS, str(data))(context(tmp_path / "step"))
    drafts = (tmp_path / "step" / "drafts.jsonl").read_text().splitlines()
    assert [json.loads(line)["parent"] for line in drafts] == ["a", "b", "b"]
    assert [r.prompt for r in read(tmp_path / "step" / first.outputs["records"])][-1] == "three"


def test_what_was_written_is_counted_and_the_cache_costs_nothing(tmp_path):
    step = Synthesize(ECHO, MODELS, "harbor:prompts?n=5", at_once=2)
    outcome = step(context(tmp_path))
    assert 10 <= outcome.metrics["tokens_model"] <= 60
    assert step(context(tmp_path)).metrics == outcome.metrics


def test_files_that_a_method_reads_are_inputs(tmp_path):
    (tmp_path / "p.yaml").write_text("- {title: kind, texts: ['be kind. {{ prompt }}']}\n")
    spec = {"name": "p_aligner", "reward": "harbor", "template": "{{ prompt }}", "principles": str(tmp_path / "p.yaml")}
    step = Synthesize(spec, {"generator": "harbor:base-300k"}, "harbor:prompts?n=2")
    own = [(use.keys, use.role) for use in step.uses() if use.keys[0] == "synthesizer"]
    assert own == [(("synthesizer",), "synthesizer"), (("synthesizer", "principles"), "data")]
    before = identify([PlannedStep("a", "synthesize", step, "here")])["a"].fingerprint
    (tmp_path / "p.yaml").write_text("- {title: kind, texts: ['be good. {{ prompt }}']}\n")
    assert identify([PlannedStep("a", "synthesize", step, "here")])["a"].fingerprint != before


def test_seeds_at_which_an_engine_failed_are_asked_for_again_alone(tmp_path, monkeypatch):
    class Moody(Parrot):
        words = ("storm",)

        def generate(self, prompts, sampling):
            if any(word in prompt for prompt in prompts for word in self.words):
                raise EngineError("out of order")
            return super().generate(prompts, sampling)

    engine = Moody()
    monkeypatch.setattr(drafting, "open_engine", lambda model, dtype: engine)
    (tmp_path / "p.jsonl").write_text("".join(f'{{"id": "{p}", "prompt": "{p}"}}\n' for p in ("one", "storm", "two")))
    step, place = Synthesize(ECHO, MODELS, str(tmp_path / "p.jsonl")), context(tmp_path / "step")
    first = step(place)
    assert first.metrics["failed"] == 1
    assert first.notes[0] == "1 of 3 seeds failed: an engine failed: out of order"
    assert "delete step.json" in first.notes[1]
    engine.words, engine.asked = (), 0
    again = step(place)
    assert engine.asked == 1
    assert again.metrics["rows"] == 6
    assert "failed" not in again.metrics
