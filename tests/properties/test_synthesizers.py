"""What every catalogued synthesizer keeps; a new one joins with its catalog line and its `example`."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import pytest

import fairlead
from fairlead import catalog, fields
from fairlead.errors import UnknownFieldError, UnknownNameError, UsageError
from fairlead.records.schema import CLASSES
from fairlead.steps.base import Context
from fairlead.steps.rows import append_rows, read_rows
from fairlead.steps.synthesize import Synthesize
from fairlead.synthesis.base import PROVENANCE, Draft, Synthesizer, blank_seeds, drafts_of, name_of, rows_of

SETS = {
    "prompt": "harbor:prompts",
    "conversation": "harbor:demonstrations",
    "preference": "harbor:preferences",
    "feedback": "harbor:feedback",
    "ranking": "harbor:rankings",
    "text": "harbor:documents",
}
OWN = {"wildfeedback": "harbor:chats"}
"""Seeds of methods that need more than the first set of their kind."""
MODEL = "harbor:base-300k"
COUNT = 12


def build(name: str, **changes) -> Synthesizer:
    return catalog.build("synthesizer", name, **{**catalog.find("synthesizer", name).load().example, **changes})


def seeds_of(method: Synthesizer):
    return blank_seeds(COUNT) if method.reads is None else list(fairlead.read(f"{set_of(method)}?n={COUNT}"))


def set_of(method: Synthesizer) -> str:
    return OWN.get(name_of(method)) or SETS[method.reads]


@pytest.fixture(scope="module")
def engine():
    return fairlead.engine(MODEL)


@pytest.fixture(scope="module")
def made(engine):
    """Name -> (method, seeds, drafts, rows), made once."""
    found = {}

    def get(name: str):
        if name not in found:
            method = build(name)
            seeds = seeds_of(method)
            drafts = list(drafts_of(method, dict.fromkeys(method.engines, engine), seeds))
            found[name] = (method, seeds, drafts, list(rows_of(method, drafts, Counter())))
        return found[name]

    return get


@pytest.fixture(params=[entry.name for entry in catalog.entries("synthesizer")])
def name(request) -> str:
    return request.param


def test_fields_come_back_from_plain_values(name):
    method = build(name)
    assert catalog.build("synthesizer", name, **fields.to_plain(method)) == method
    assert isinstance(method, Synthesizer)
    assert method.makes in CLASSES
    assert method.reads is None or method.reads in CLASSES
    assert method.rows_per_seed >= 1
    assert method.sampling.seed == 0
    with pytest.raises(UnknownFieldError, match="no field 'sead'"):
        build(name, sead=1)


def test_every_field_is_documented(name):
    assert all(field.doc for field in fields.describe(catalog.find("synthesizer", name).load()))


def test_every_row_is_a_record_with_its_origin(name, made, tmp_path):
    method, seeds, _, rows = made(name)
    assert rows, "the example makes no row"
    append_rows(tmp_path / "records.jsonl", rows)
    found = fairlead.read(tmp_path / "records.jsonl")
    assert found.kind == method.makes
    assert len({record.id for record in found}) == len(rows)
    for record in found:
        assert set(PROVENANCE) <= set(record.extra)
        assert record.extra["method"] == name
        assert set(record.extra["models"]) == set(method.engines)
        assert set(record.extra["templates"]) == set(method.engines)
        assert record.extra["seed"] == method.sampling.seed
    of_parent = Counter(record.extra["parent"] for record in found)
    assert set(of_parent) <= {seed.id for seed in seeds}
    assert max(of_parent.values()) <= method.rows_per_seed


def test_equal_calls_give_equal_rows(name, made, engine):
    method, seeds, _, rows = made(name)
    assert list(method(dict.fromkeys(method.engines, engine), seeds)) == rows


def test_drafts_depend_on_their_seed_alone(name, made, engine):
    method, seeds, drafts, _ = made(name)
    engines = dict.fromkeys(method.engines, engine)
    apart = [draft for seed in reversed(seeds) for draft in drafts_of(method, engines, [seed])]
    assert apart[::-1] == drafts


def test_drafts_survive_the_disk(name, made, tmp_path):
    method, _, drafts, rows = made(name)
    append_rows(tmp_path / "drafts.jsonl", map(asdict, drafts))
    back = [Draft(**row) for row in read_rows(tmp_path / "drafts.jsonl")]
    assert back == drafts
    assert list(rows_of(method, back, Counter())) == rows


def test_the_step_goes_on_to_the_same_rows(name, made, tmp_path):
    method, seeds, _, rows = made(name)
    models = dict.fromkeys(method.engines, MODEL)
    source = {"count": COUNT} if method.reads is None else {"data": f"{set_of(method)}?n={COUNT}"}
    place = Context(tmp_path, tmp_path / "answers.sqlite", quiet=True)
    Synthesize(method, models, **source, limit=COUNT // 2, at_once=5)(place)
    assert len(read_rows(tmp_path / "drafts.jsonl")) == COUNT // 2
    outcome = Synthesize(method, models, **source)(place)
    assert [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()] == rows
    assert outcome.metrics["rows"] == len(rows)
    assert len(read_rows(Path(tmp_path / "drafts.jsonl"))) == len(seeds)


def test_another_seed_is_told(name, engine):
    method = build(name)
    other = replace(method, sampling=replace(method.sampling, seed=7))
    rows = list(other(dict.fromkeys(method.engines, engine), seeds_of(method)))
    assert {row["seed"] for row in rows} <= {7}


def test_engines_are_the_roles(name, engine):
    method = build(name)
    if method.engines:
        with pytest.raises(UsageError, match="no engine for"):
            list(method({}, seeds_of(method)))
    with pytest.raises(UnknownNameError, match="stowaway"):
        list(method(dict.fromkeys([*method.engines, "stowaway"], engine), seeds_of(method)))
