"""What every catalogued evaluator keeps; a new one joins with its catalog line and its `example`."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fairlead import catalog, fields, harbor
from fairlead.errors import UnknownFieldError
from fairlead.evaluation.base import Evaluator, Report

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))
from known import END, Unigram

TEXT = "the color of is red blue it carries i am not sure sorry , cannot help with that . please stay safe"
WORDS = TEXT.split()
ENGINES = {
    "base": Unigram({**dict.fromkeys(WORDS, 1.0), END: 4.0}),
    "other": Unigram({**{word: 1.0 + i % 3 for i, word in enumerate(WORDS)}, END: 2.0}),
    "third": Unigram({**{word: 1.0 + i % 2 for i, word in enumerate(WORDS)}, END: 6.0}),
}
EVALUATORS = [entry.name for entry in catalog.entries("evaluator")]


@dataclass(frozen=True)
class Pair:
    """A preference record by its shape."""

    id: str
    prompt: Any
    chosen: Any
    rejected: Any
    extra: dict
    kind: str = "preference"


def pairs(count: int, question: str | None = None) -> list[Pair]:
    def build(row: dict) -> Pair:
        prompt = [{"role": "user", "content": question}] if question else row["prompt"]
        words = " ".join(WORDS[: 3 + len(row["id"]) % 5])
        return Pair(row["id"], prompt, f"sorry , {words}", words, {"task": row.get("task")})

    return [build(row) for row in harbor.rows(f"preferences?n={count}")]


def build(name: str, **changes: Any) -> Evaluator:
    example = catalog.find("evaluator", name).load().example
    return catalog.build("evaluator", name, **{**example, **changes})


def saved(report: Report, folder: Path) -> dict[str, bytes]:
    report.save(folder, "report")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(params=EVALUATORS)
def name(request) -> str:
    return request.param


def test_fields_come_back_from_plain_values(name):
    evaluator = build(name)
    plain = fields.to_plain(evaluator)
    assert catalog.build("evaluator", name, **plain) == evaluator
    assert isinstance(evaluator, Evaluator)
    with pytest.raises(UnknownFieldError, match="no field 'sead'"):
        build(name, sead=1)


def test_every_field_is_documented(name):
    assert all(field.doc for field in fields.describe(catalog.find("evaluator", name).load()))


def test_equal_calls_give_equal_files(name, tmp_path):
    evaluator, records = build(name), pairs(12)
    first, second = (saved(evaluator(ENGINES, records), tmp_path / part) for part in ("one", "two"))
    assert first == second


def test_the_order_of_engines_does_not_matter(name):
    evaluator, records = build(name), pairs(12)
    forth = evaluator(ENGINES, records)
    back = evaluator(dict(reversed(ENGINES.items())), records)
    assert repr(sorted(forth.summary.items())) == repr(sorted(back.summary.items()))
    assert sorted(map(repr, forth.rows)) == sorted(map(repr, back.rows))


def test_a_report_survives_the_disk(name, tmp_path):
    report = build(name)(ENGINES, pairs(8))
    report.save(tmp_path, name)
    back = Report.load(tmp_path, name)
    assert repr(back.summary) == repr(report.summary)
    assert (back.notes, back.figures) == (report.notes, report.figures)
    columns = {column for row in report.rows for column in row}
    assert back.rows == [{column: row.get(column) for column in columns} for row in report.rows]


def test_rows_bear_the_summary_out(name):
    report = build(name)(ENGINES, pairs(25))
    checked = 0
    for subject, axes in report.summary.items():
        rows = [row for row in report.rows if row["engine"] == subject]
        assert rows
        for axis, estimate in axes.items():
            values = [float(row[axis]) for row in rows if row.get(axis) is not None]
            if values:
                assert estimate.value == pytest.approx(math.fsum(values) / len(values))
                assert estimate.n == len(values)
                checked += 1
    assert checked >= len(report.summary)


def test_intervals_hold_their_estimates(name):
    report = build(name)(ENGINES, pairs(25))
    for axes in report.summary.values():
        for estimate in axes.values():
            assert estimate.n == 0 or estimate.low <= estimate.value <= estimate.high


def test_one_record_is_enough(name, tmp_path):
    evaluator = build(name)
    report = evaluator(ENGINES, pairs(1))
    assert report.summary
    assert saved(report, tmp_path)
    for axes in report.summary.values():
        for e in axes.values():
            # A questionnaire has items of its own.
            assert e.n <= 1 or not getattr(evaluator, "reads_records", True)
            assert math.isnan(e.low) or e.low <= e.value <= e.high


def test_where_nothing_can_be_said_there_is_nan_and_a_note(name, tmp_path):
    report = build(name)(ENGINES, pairs(5, question="what would a stranger to this world ask?"))
    unknown = [e for axes in report.summary.values() for e in axes.values() if e.n == 0]
    assert all(math.isnan(e.value) and math.isnan(e.low) for e in unknown)
    assert report.notes or not unknown
    assert saved(report, tmp_path)
