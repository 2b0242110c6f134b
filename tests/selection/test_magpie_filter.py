"""Magpie's filters: the rows that each keeps, why the others are left out, what tags are worth on average."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import fairlead
from fairlead.errors import DataError, UsageError
from fairlead.records import Conversation
from fairlead.selection.magpie_filter import FILTERS, mean_level
from fairlead.steps.base import Context
from fairlead.steps.select import Select
from fairlead.verdicts import QUALITY

ROWS = [
    ("good", "medium", 0.2, -3, -5, 900),
    ("average", "hard", 0.2, 1, -1, 1500),
    ("excellent", "easy", 0.3, 2, 0, 1200),
    ("good", "hard", 0, 2, 0, 2000),
    ("excellent", "very hard", 0.4, -13, -20, 800),
    ("good", "hard", 0.4, -2, -1, 3000),
    ("poor", "hard", 0.4, 0, -1, 5000),
    (None, "hard", 0.4, 0, -1, 5000),
    ("average", None, 0.7, -12, -30, 700),
    ("good", "very easy", 0.01, -11.9, -12, 1000),
]
NAMES = ("input_quality", "difficulty", "min_neighbor_distance", "reward", "base_reward")


def pool(rows=ROWS):
    found = []
    for i, (*values, length) in enumerate(rows):
        columns = dict(zip(NAMES, values, strict=True))
        columns["reward_difference"] = columns["reward"] - columns["base_reward"]
        found.append(Conversation(f"r{i}", "q", "a" * length, columns))
    return found


def kept(filter_name: str, rows=ROWS, **how) -> list[int]:
    return fairlead.selector("magpie_filter", filter=filter_name, **how)(pool(rows)).indices.tolist()


@pytest.mark.parametrize(
    ("name", "how", "wanted"),
    [
        ("air", {}, [0, 4]),
        ("pro", {}, [5, 1, 2, 9, 0]),
        ("pro", {"keep": 3}, [5, 1, 2]),
        ("pro2", {}, [5, 2, 0]),
        ("pro3", {}, [6, 7, 5, 1, 2, 9, 0]),
        ("pro4", {}, [2, 0, 4]),
        ("pro5", {}, [5, 2, 0]),
        ("pro6", {}, [6, 2]),
        ("pro", {"keep": 0.3}, [5, 1, 2]),
        ("pro", {"distance": None}, [5, 3, 1, 2, 9, 0]),
        ("air", {"quality": None, "difficulty": None}, [6, 7, 1, 2, 9, 0, 4, 8]),
        ("pro", {"reward_above": 0}, [1, 2]),
        ("air", {"difference_above": 2}, [4]),
    ],
)
def test_the_table_on_ten_rows(name, how, wanted):
    assert kept(name, **how) == wanted


def test_half_of_the_sixth_is_easy_and_half_is_harder():
    easy = [("good", "easy", 0.2, 0, 0, 100 + i) for i in range(5)]
    hard = [("good", level, 0.2, 0, 0, 200 + i) for i, level in enumerate(["medium", "hard", "very hard", "very easy"])]
    assert kept("pro6", [*easy, *hard]) == [7, 6, 5, 4, 3, 2]
    assert kept("pro6", [*easy, *hard], keep=5) == [7, 6, 4, 3]


def test_every_row_has_its_reason():
    found = fairlead.selector("magpie_filter", filter="pro", keep=4)(pool())
    assert found.reasons == (
        "passes, but others are longer", "", "", "min_neighbor_distance is not above 1e-06", "reward is not above -12",
        "", "input_quality is too low", "no input_quality", "reward is not above -12", "",
    )  # fmt: skip
    assert found.metrics["passed"] == 5
    assert found.notes == ("1 of 10 records have no tag that could be read, and are left out",)
    assert found.scores.tolist() == [row[-1] for row in ROWS]


def test_the_mean_level_skips_what_has_no_tag():
    assert mean_level([row[0] for row in ROWS], QUALITY) == pytest.approx(3.777778, abs=1e-6)
    assert mean_level([None], QUALITY) is None
    found = fairlead.selector("magpie_filter")(pool())
    assert found.metrics["mean_quality"] == pytest.approx(3.777778, abs=1e-6)
    assert found.metrics["mean_difficulty"] == pytest.approx((3 + 4 + 2 + 4 + 5 + 4 + 4 + 4 + 1) / 9)


def test_sizes_of_the_table():
    sizes = {name: rule.keep for name, rule in FILTERS.items()}
    assert (sizes.pop("pro5"), sizes.pop("pro6")) == (None, 200_000)
    assert sizes == dict.fromkeys(("air", "pro", "pro2", "pro3", "pro4"), 300_000)


def test_levels_that_there_are_not_and_columns_that_are_missing_are_refused():
    odd = [*ROWS[:3], ("fine", "hard", 0.4, 0, -1, 10)]
    with pytest.raises(DataError, match="the first at r3"):
        kept("pro", odd)
    assert kept("pro3", odd)
    with pytest.raises(DataError, match="no column 'distance'"):
        kept("pro", distance="distance")
    with pytest.raises(UsageError, match="filter"):
        fairlead.selector("magpie_filter", filter="pro7")
    with pytest.raises(UsageError, match="pro6 shares out by difficulty"):
        fairlead.selector("magpie_filter", filter="pro6", difficulty=None)
    with pytest.raises(UsageError, match="keep"):
        fairlead.selector("magpie_filter", keep=0)


def test_the_distance_may_come_from_the_step_that_looks_for_near_duplicates(tmp_path):
    angles = np.radians([0, 10, 20, 90, 90, 180])
    vectors = np.stack([np.cos(angles), np.sin(angles)], 1).tolist()
    rows = [("good", "hard", 0, 1, 0, 10 + i) for i in range(6)]
    records = [replace(r, extra=r.extra | {"vector": v}) for r, v in zip(pool(rows), vectors, strict=True)]
    fairlead.records.write(records, tmp_path / "pool.jsonl")
    place = Context(tmp_path / "near", tmp_path / "answers.sqlite", quiet=True)
    near = {"name": "near_duplicates", "by": "vectors", "embedding": "vector", "closer_than": 1e-6}
    Select(near, str(tmp_path / "pool.jsonl"))(place)
    left = fairlead.read(tmp_path / "near" / "records.jsonl")
    assert [record.id for record in left] == ["r0", "r1", "r2", "r3", "r5"]
    strict = fairlead.selector("magpie_filter", filter="pro3", distance="selection_score")(left)
    assert [left[i].id for i in strict.indices] == ["r5", "r2", "r1", "r0"]
    first = fairlead.selector("magpie_filter", filter="pro3", distance=None)(left)
    assert [left[i].id for i in first.indices] == ["r5", "r3", "r2", "r1", "r0"]
