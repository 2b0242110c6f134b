"""Drafting on Ray: the records of this process, through a worker's death, a resume, and engines that fail for good."""

from __future__ import annotations

import json
import os
import pickle
import signal
import threading
import time
from pathlib import Path

import pytest

from fairlead.errors import EngineError, MissingExtraError, ModelError, UnknownNameError, UsageError
from fairlead.steps.base import Context
from fairlead.steps.ray_drafting import address_of
from fairlead.steps.synthesize import Synthesize

METHOD = {"name": "honesty_targets", "reward": {"name": "harbor", "axis": "correct"}, "samples": 4}
STEP = {"synthesizer": METHOD, "models": {"model": "harbor:base-300k"}, "data": "harbor:prompts?n=40&kinds=fact"}


def context(folder: Path) -> Context:
    folder.mkdir(parents=True, exist_ok=True)
    return Context(folder, folder / "answers.sqlite", quiet=True)


def drafts(folder: Path) -> dict[str, dict]:
    rows = [json.loads(line) for line in (folder / "drafts.jsonl").read_text().splitlines()]
    return {row["key"]: row for row in rows}


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    folder = tmp_path_factory.mktemp("local")
    return folder, Synthesize(**STEP)(context(folder))


@pytest.fixture(scope="module")
def cluster():
    """One cluster for the module: starting takes seconds."""
    ray = pytest.importorskip("ray", reason="the extra ray is not installed")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray
    ray.shutdown()


@pytest.mark.parametrize(
    ("on", "address"),
    [("ray", None), ("ray:10.0.0.1:6379", "10.0.0.1:6379"), ("ray:auto", "auto"), ("ray://h:1", "ray://h:1")],
)
def test_where_ray_is(on, address):
    assert address_of(on) == address


@pytest.mark.parametrize("on", ["", "spark", "ray:", "rays:x"])
def test_other_places_are_refused(on):
    with pytest.raises(UsageError, match=r"synthesize\.on is"):
        Synthesize(**STEP, on=on)


def test_the_place_of_the_work_does_not_change_the_step():
    assert set(Synthesize.immaterial) == {"on", "workers"}


@pytest.mark.parametrize("error", [EngineError("a", place="b", fix="c"), UnknownNameError("kind", "x", ["y"])])
def test_errors_travel_between_processes(error):
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert vars(back) == vars(error)


def test_without_ray_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"fairlead\[ray\]"):
        Synthesize(**STEP, on="ray")(context(tmp_path))


def test_the_same_records_though_a_worker_dies(cluster, local, tmp_path):
    import psutil

    killed = []

    def kill_one():
        """Kill the first worker that has begun to draft, once some drafts are kept."""
        while not (tmp_path / "drafts.jsonl").exists():
            time.sleep(0.02)
        for process in psutil.Process().children(recursive=True) + list(psutil.process_iter(["cmdline"])):
            if "ray::MapWorker" in " ".join(process.cmdline() or []):
                os.kill(process.pid, signal.SIGKILL)
                killed.append(process.pid)
                return

    thread = threading.Thread(target=kill_one)
    thread.start()
    outcome = Synthesize(**STEP, on="ray", workers=1, at_once=4)(context(tmp_path))
    thread.join()
    folder, wanted = local
    assert killed
    own = drafts(tmp_path)
    assert own == drafts(folder)
    assert len((tmp_path / "drafts.jsonl").read_text().splitlines()) == 40
    assert (tmp_path / "records.jsonl").read_bytes() == (folder / "records.jsonl").read_bytes()
    assert outcome.metrics["rows"] == wanted.metrics["rows"]
    assert outcome.metrics["tokens_model"] > 0


@pytest.mark.slow
def test_what_was_drafted_before_is_not_drafted_again(cluster, local, tmp_path):
    folder, _ = local
    place = context(tmp_path)
    lines = (folder / "drafts.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "drafts.jsonl").write_text("".join(lines[:39]))
    Synthesize(**STEP, on="ray", at_once=8)(place)
    assert len((tmp_path / "drafts.jsonl").read_text().splitlines()) == 40
    assert drafts(tmp_path) == drafts(folder)


@pytest.mark.slow
def test_what_stops_a_worker_stops_the_step_in_its_own_words(cluster, tmp_path):
    step = STEP | {"models": {"model": "./nowhere"}}
    with pytest.raises(ModelError, match="no such model folder"):
        Synthesize(**step, on="ray", at_once=40)(context(tmp_path))
