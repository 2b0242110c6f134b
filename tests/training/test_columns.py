"""Columns: a record's own numbers reach the objective, and what is missing or no number is refused by name."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fairlead import models
from fairlead.errors import DataError
from fairlead.records import read
from fairlead.render import Renderer
from fairlead.training.columns import FromRecord, Part, attach_columns
from fairlead.training.groups import build_groups
from fairlead.training.objectives.base import Needs


@pytest.fixture
def part(tiny_model, tmp_path):
    """Make a part of pairs, each with other columns."""

    def make(*extras):
        pair = {"prompt": "hi", "chosen": "red", "rejected": "blue"}
        rows = [{"id": f"row-{i}", **pair, **extra} for i, extra in enumerate(extras)]
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        records = read(tmp_path / "rows.jsonl")
        renderer = Renderer(models.load_tokenizer(tiny_model))
        groups, _ = build_groups(records, renderer, Needs(record="preference"), max_length=50)
        return Part(groups, records)

    return make


def column(part, *columns) -> list[list[float]]:
    groups = attach_columns(part, columns, None)
    return [g.fields[columns[0].name].tolist() for g in groups]


def test_one_number_a_list_or_two_columns(part):
    given = part({"score": 0.5}, {"score": [1, 2]}, {"score_chosen": 0.75, "score_rejected": 0.25})
    assert column(given, FromRecord("score")) == [[0.5, 0.5], [1, 2], [0.75, 0.25]]


def test_optional_ones_are_nan(part):
    given = part({"score": 1.0}, {}, {"score_chosen": 1.0}, {"score_rejected": 2.0})
    found = column(given, FromRecord("score", required=False))
    np.testing.assert_array_equal(found, [[1, 1], [np.nan, np.nan], [1, np.nan], [np.nan, 2]])


@pytest.mark.parametrize(
    ("extra", "complaint"),
    [({}, "has no 'score'"), ({"score": "high"}, "'high'"), ({"score": [1]}, r"\[1\]"), ({"score": True}, "True")],
)
def test_what_is_missing_or_no_number_is_named(part, extra, complaint):
    with pytest.raises(DataError, match=complaint) as error:
        column(part({"score": 1}, extra), FromRecord("score"))
    assert "rows.jsonl, line 2" in str(error.value)
