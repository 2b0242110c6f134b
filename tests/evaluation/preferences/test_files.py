"""Files of judged pairs: forms, both orders, every way in which a row can be wrong."""

from __future__ import annotations

import gzip
import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairlead.errors import DataError
from fairlead.evaluation.preferences import read_verdicts


def row(**changes):
    usual = {
        "instruction": "Name a ship.",
        "generator_1": "old",
        "generator_2": "new",
        "output_1": "the brig",
        "output_2": "- the brig\n- the sloop",
        "preference": 2,
    }
    return {**usual, **changes}


def write(path, rows):
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return str(path)


def test_annotations(tmp_path):
    rows = [
        row(),
        row(instruction="Another.", preference=None),
        row(instruction="Third.", preference=1.5, output_1=None),
    ]
    found = read_verdicts(write(tmp_path / "v.jsonl", rows))
    assert len(found) == 3
    assert (found.model, found.baseline, found.judge) == (["new"] * 3, ["old"] * 3, [""] * 3)
    assert found.points.tolist() == pytest.approx([1, math.nan, 0.5], nan_ok=True)
    assert found.length.tolist() == pytest.approx([22, 22, math.nan], nan_ok=True)
    assert found.baseline_length.tolist() == pytest.approx([8, 8, math.nan], nan_ok=True)
    assert found.lists.tolist() == pytest.approx([1, 1, math.nan], nan_ok=True)
    assert np.isnan(found.straight).all()
    assert len(set(found.item)) == 3


def test_every_format_says_the_same(tmp_path):
    rows = [row(id=str(i), preference=1 + i % 2) for i in range(4)]
    paths = [write(tmp_path / "v.jsonl", rows)]
    (tmp_path / "v.json").write_text(json.dumps(rows))
    with gzip.open(tmp_path / "v.jsonl.gz", "wt") as file:
        file.write("\n".join(map(json.dumps, rows)))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "v.parquet")
    paths += [str(tmp_path / name) for name in ("v.json", "v.jsonl.gz", "v.parquet")]
    tables = [read_verdicts(path) for path in paths]
    assert all(t.points.tolist() == [0, 1, 0, 1] and t.item == list("0123") for t in tables)
    (tmp_path / "v.csv").write_text("id,generator_1,generator_2,preference\n0,old,new,1\n1,old,new,2\n2,old,new,\n")
    assert read_verdicts(str(tmp_path / "v.csv")).points.tolist() == pytest.approx([0, 1, math.nan], nan_ok=True)


def test_both_orders_become_one_row(tmp_path):
    rows = [row(id="a", order="12", preference=2), row(id="a", order="21", preference=1)]
    rows += [row(id="b", order="21", preference=2), row(id="b", order="12", preference=2)]
    rows += [row(id="c", order="12", preference=2), row(id="c", order="21", preference=None)]
    rows += [row(id="d", order="12", preference=2)]
    found = read_verdicts(write(tmp_path / "v.jsonl", rows))
    assert found.item == ["a", "b", "c", "d"]
    assert found.points.tolist() == pytest.approx([0.5, 1, math.nan, 1], nan_ok=True)
    assert found.straight.tolist() == [1, 1, 1, 1]
    assert found.swapped.tolist() == pytest.approx([0, 1, math.nan, math.nan], nan_ok=True)
    assert found.notes == ("1 pairs were judged in one order only, others in both; they count as they are",)


def test_rows_of_reports(tmp_path):
    rows = [
        {"id": "a", "engine": "x", "sample": 0, "rate": 0.5, "points": 1.0, "points_swapped": 0.0,
         "answer": "ab", "baseline_answer": "abc"},
        {"id": "a", "engine": "x", "sample": 1, "rate": None},
    ]  # fmt: skip
    found = read_verdicts(write(tmp_path / "v.jsonl", rows))
    assert found.item == ["a", "a, sample 1"]
    assert found.baseline == ["baseline"] * 2
    assert (found.straight[0], found.swapped[0], found.length[0], found.baseline_length[0]) == (1, 0, 2, 3)
    assert math.isnan(found.points[1])


def test_several_files_and_judges(tmp_path):
    one = write(tmp_path / "one.jsonl", [row(annotator="gpt"), row(annotator="person", preference=1)])
    two = write(tmp_path / "two.jsonl", [row(judge="third")])
    found = read_verdicts([one, two])
    assert found.judge == ["gpt", "person", "third"]
    assert found.where(np.array([False, True, False])).points.tolist() == [0]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(preference=2.5)], r"v\.jsonl, line 1: a preference of 2\.5"),
        ([row(), row(instruction="b", preference="good")], r"line 2: a value is not what its column holds"),
        ([row(preference=True)], "True is no verdict"),
        ([row(), row()], r"line 1 and .*line 2: new against old on \w+ is judged 2 times"),
        ([row(order="12"), row(order="12")], "is judged 2 times"),
        ([row(order="12"), row(order="21"), row(order="21")], "is judged 3 times"),
        ([row(order="first")], "order 'first'"),
        ([row(instruction="")], "nothing says which item this is"),
        ([{"instruction": "a", "preference": 1, "generator_1": "x"}], "no column generator_2"),
        ([{"id": "a", "engine": "x"}], "no column rate"),
        ([{"id": "a", "engine": "x", "rate": 3}], r"3 points are no verdict"),
        ([], "there is no verdict"),
    ],
)
def test_wrong_rows_are_named(tmp_path, rows, message):
    with pytest.raises(DataError, match=message):
        read_verdicts(write(tmp_path / "v.jsonl", rows))


def test_a_row_that_is_no_json(tmp_path):
    path = tmp_path / "v.jsonl"
    path.write_text(json.dumps(row()) + '\n{"instruction": \n')
    with pytest.raises(DataError, match=r"v\.jsonl, line 2: .*JSON"):
        read_verdicts(str(path))
    with pytest.raises(DataError, match="no such file"):
        read_verdicts(str(tmp_path / "absent.jsonl"))
