"""Win rates at equal style: counts by hand, planted tastes, mirrors, real verdicts, little and bad data."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from fairlead.errors import UsageError
from fairlead.evaluation.preferences import (
    length_controlled,
    read_verdicts,
    style_controlled,
    style_difference,
    style_of,
    summarise,
)

RICH = """# Title
Some **bold** words and __more of it__.

- one
* two
3. three
## Next
```
# no header
- no list
**no bold** either
```
last words"""


def made(taste=(0.0, 0.0, 0.0, 0.0), model=0.0, n=3000, seed=0, more=0.0):
    rng = np.random.default_rng(seed)
    gaps = np.clip(rng.normal(more, 0.3, size=(n, 4)), -1, 1)
    scaled = gaps / gaps.std(0, ddof=1)
    chance = 1 / (1 + np.exp(-(scaled @ np.array(taste) + model)))
    return (rng.random(n) < chance).astype(float), gaps


def test_the_style_of_a_text():
    words = 2 + 7 + 2 + 2 + 2 + 2 + 2
    assert style_of(RICH) == (words, 2, 3, 2)
    assert style_of("") == (0, 0, 0, 0)
    assert style_of("plain * not a list\n**Bold** line, 2 * 3 * 4") == (12, 0, 0, 1)
    assert style_of("open\n```\n- all of this\n- is code") == (1, 0, 0, 0)


def test_differences_of_style():
    found = style_difference("one two three\n- four", "one")
    assert found == pytest.approx([(5 - 1) / 6, 0, (1 / 6) / (1 / 6 + 1), 0])
    assert style_difference("one", "one two three\n- four") == pytest.approx(-found)
    assert style_difference("", "").tolist() == [0, 0, 0, 0]


def test_planted_tastes_are_found_and_taken_away():
    points, gaps = made((0.8, 0.0, 0.5, -0.4), model=-0.5, more=0.25)
    found = style_controlled(points, gaps, resamples=200)
    assert [found.weights[k] for k in ("length", "headers", "lists", "bold")] == pytest.approx(
        [0.8, 0.0, 0.5, -0.4], abs=0.12
    )
    truth = 1 / (1 + math.exp(0.5))
    assert points.mean() > truth + 0.1
    assert found.rate.value == pytest.approx(truth, abs=0.06)
    assert found.rate.low < truth < found.rate.high


def test_sides_mirror_and_equal_styles_change_nothing():
    points, gaps = made((0.5, 0.2, 0, 0), model=0.4, n=400)
    one, two = style_controlled(points, gaps, resamples=0), style_controlled(1 - points, -gaps, resamples=0)
    assert one.rate.value + two.rate.value == pytest.approx(1, abs=1e-6)
    flat = style_controlled(points, np.zeros_like(gaps), c=1e6, resamples=0)
    assert flat.rate.value == pytest.approx(points.mean(), abs=1e-4)
    assert set(flat.weights.values()) == {0.0}


def test_intervals_repeat_and_missing_rows_are_left_out():
    points, gaps = made((0.5, 0, 0, 0), n=200)
    found = style_controlled(points, gaps, resamples=100)
    assert found.rate == style_controlled(points, gaps, resamples=100).rate
    assert found.rate != style_controlled(points, gaps, resamples=100, seed=1).rate
    holes = np.concatenate([points, [math.nan, 1.0]]), np.vstack([gaps, gaps[:1], np.full((1, 4), np.nan)])
    assert style_controlled(*holes, resamples=0).rate.value == pytest.approx(found.rate.value)
    assert style_controlled([1.0], gaps[:1]).rate.n == 1
    assert math.isnan(style_controlled([1.0], gaps[:1]).rate.value)
    with pytest.raises(UsageError, match="styles"):
        style_controlled(points, gaps[:, :2])
    with pytest.raises(UsageError, match="c is 0"):
        style_controlled(points, gaps, c=0)


def test_reports_have_it_where_texts_are(tmp_path):
    rows = []
    for i in range(40):
        listed = "- a\n- b\n" * (1 + i % 3) if i % 2 else "a b"
        row = {"id": i, "generator_1": "base", "generator_2": "new", "output_1": "a b c", "output_2": listed}
        rows.append(row | {"preference": 2 if i % 2 or i % 5 == 0 else 1})
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(rows))
    verdicts = read_verdicts(str(path))
    assert verdicts.style.shape == (40, 4)
    found = summarise(verdicts, resamples=20).summary["new"]
    assert found["style_controlled"].value < found["rate"].value
    for row in rows:
        del row["output_1"]
    path.write_text(json.dumps(rows))
    bare = summarise(read_verdicts(str(path)), resamples=20).summary["new"]
    assert "style_controlled" not in bare


def test_real_verdicts(shared_data):
    """A model that writes less than the baseline gains at equal style, and more where the length is all that counts."""
    verdicts = read_verdicts(str(shared_data / "alpaca_eval" / "preferences.jsonl.gz"))
    part = verdicts.where(np.array(verdicts.model) == "claude")
    found = style_controlled(part.points, part.style, resamples=0)
    length = length_controlled(part.points, part.length, part.baseline_length, resamples=0)
    assert found.rate.value == pytest.approx(0.27198, abs=1e-4)
    assert np.nanmean(part.points) < found.rate.value < length.rate.value
    assert found.weights["length"] > 0
    assert length.weights[0] < 0
