"""What every catalogued selector keeps; a new one joins with its catalog line and its `example`."""

from __future__ import annotations

import json
import math
from dataclasses import fields as dataclass_fields
from dataclasses import replace

import numpy as np
import pytest

import fairlead
from fairlead import catalog, fields
from fairlead.errors import DataError, UnknownFieldError
from fairlead.selection.base import Selector
from fairlead.selection.pool import Pool
from fairlead.steps.base import Context
from fairlead.steps.select import Select

COUNT = 40


@pytest.fixture(scope="module")
def records():
    """Harbor's pool with the columns that selectors go by, all different from row to row."""
    found = list(fairlead.read(f"harbor:pool?n={COUNT}"))
    draw = np.random.default_rng(0)
    quality, complexity = draw.permutation(COUNT) / 7.0, draw.permutation(COUNT) / 11.0
    return [
        replace(r, extra=r.extra | {"quality": float(q), "complexity": float(c), "reward": float(q + c)})
        for r, q, c in zip(found, quality, complexity)
    ]


@pytest.fixture(params=[entry.name for entry in catalog.entries("selector")])
def name(request) -> str:
    return request.param


def build(name: str, **changes) -> Selector:
    return catalog.build("selector", name, **{**catalog.find("selector", name).load().example, **changes})


@pytest.fixture(scope="module")
def chosen(records):
    """Name -> (method, selection), made once."""
    found = {}

    def get(name: str):
        if name not in found:
            method = build(name)
            found[name] = (method, method(records))
        return found[name]

    return get


def test_fields_come_back_from_plain_values(name):
    method = build(name)
    assert catalog.build("selector", name, **fields.to_plain(method)) == method
    assert isinstance(method, Selector)
    assert all(field.doc for field in fields.describe(type(method)))
    with pytest.raises(UnknownFieldError, match="no field 'sead'"):
        build(name, sead=1)


def test_a_subset_with_a_reason_for_every_other(name, chosen):
    _, selection = chosen(name)
    kept = selection.indices.tolist()
    assert 0 < len(kept) <= COUNT
    assert len(set(kept)) == len(kept)
    assert all(0 <= i < COUNT for i in kept)
    assert selection.scores.shape == (COUNT,)
    assert selection.scores.dtype == np.float64
    assert [i for i, reason in enumerate(selection.reasons) if not reason] == sorted(kept)
    assert sum(selection.left_out.values()) == COUNT - len(kept)
    assert all(len(column) == COUNT for column in selection.columns.values())
    assert all(math.isfinite(value) for value in selection.metrics.values())


def test_equal_calls_choose_equally(name, chosen, records):
    method, selection = chosen(name)
    again = method(records)
    assert again.indices.tolist() == selection.indices.tolist()
    assert np.array_equal(again.scores, selection.scores, equal_nan=True)
    assert again.reasons == selection.reasons


def test_the_order_of_the_records_does_not_matter(name, chosen, records):
    method, selection = chosen(name)
    if not getattr(method, "keeps_by_place", False):
        order = np.random.default_rng(1).permutation(COUNT)
        shuffled = method([records[i] for i in order])
        assert {order[i] for i in shuffled.indices} == set(selection.indices.tolist())


def test_a_smaller_choice_is_the_beginning_of_a_larger_one(name, chosen, records):
    method, _ = chosen(name)
    if "keep" not in {field.name for field in dataclass_fields(method)} or getattr(method, "keeps_by_quota", False):
        pytest.skip("this selector has no size, or shares it out")
    few, many = (build(name, keep=number)(records).indices.tolist() for number in (3, 8))
    assert few == many[: len(few)]
    assert len(few) <= 3
    assert len(many) <= 8


def test_one_record_is_enough(name, records):
    selection = build(name)(records[:1])
    assert selection.scores.shape == (1,)
    assert len(selection.indices) + len(selection.left_out) == 1


def test_no_record_is_refused(name):
    with pytest.raises(DataError, match="no records"):
        build(name)([])


def test_equal_records_are_no_trouble(name, records):
    same = [replace(records[0], id=f"twin-{k}") for k in range(6)]
    selection = build(name)(same)
    assert len(selection.reasons) == 6


@pytest.mark.parametrize("value", [math.nan, None, "high"])
def test_scores_that_are_missing_are_refused(name, records, value):
    columns = [
        column for column in ("quality", "complexity", "reward") if column in fields.to_plain(build(name)).values()
    ]
    if not columns:
        pytest.skip("this selector reads no column")
    broken = [*records[:5], replace(records[5], extra=records[5].extra | dict.fromkeys(columns, value)), *records[6:]]
    if getattr(build(name), "leaves_out_missing", False) and value != "high":
        assert build(name)(broken).reasons[5]
        return
    with pytest.raises(DataError, match=records[5].id):
        build(name)(broken)


def test_vectors_that_are_not_finite_are_refused(name, records):
    method = build(name)
    if not hasattr(method, "embedding"):
        pytest.skip("this selector embeds nothing")
    vectors = np.random.default_rng(0).normal(size=(COUNT, 4))
    vectors[7, 2] = math.nan
    pool = [replace(r, extra=r.extra | {"vector": row.tolist()}) for r, row in zip(records, vectors)]
    with pytest.raises(DataError, match=records[7].id):
        replace(method, embedding="vector")(Pool(pool))


def test_the_step_keeps_what_the_method_chooses(name, chosen, records, tmp_path):
    method, selection = chosen(name)
    pool = tmp_path / "pool.jsonl"
    fairlead.records.write(records, pool)
    outcome = Select({"name": name, **fields.to_plain(method)}, str(pool))(
        Context(tmp_path / "step", tmp_path / "answers.sqlite", quiet=True)
    )
    rows = [json.loads(line) for line in (tmp_path / "step" / "records.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == [records[i].id for i in selection.indices]
    assert [row["selection_rank"] for row in rows] == list(range(len(rows)))
    assert outcome.metrics["rows"] == len(rows)
    table = fairlead.Report.load(tmp_path / "step", "selection").rows
    assert [row["reason"] for row in table] == list(selection.reasons)
