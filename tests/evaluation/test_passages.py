"""Passages: scores worked out by hand, order, and files."""

from __future__ import annotations

import math

import pytest

from fairlead.errors import DataError
from fairlead.evaluation.passages import Passages, read_passages


def test_scores_by_hand():
    """Lengths 3, 1, 2, of mean 2; `ship` is in two of three passages."""
    found = Passages(("The ship, the", "ship", "a harbour")).scores("Ship ship!")
    weight = math.log(1 + 1.5 / 2.5)
    assert found[0] == pytest.approx(weight * 2.5 / (1 + 1.5 * (0.25 + 0.75 * 1.5)))
    assert found[1] == pytest.approx(weight * 2.5 / (1 + 1.5 * (0.25 + 0.75 * 0.5)))
    assert found[2] == 0


def test_the_best_come_first_and_strangers_not_at_all():
    passages = Passages(("oil from genoa", "a red ship from crete", "the ship is red and red"))
    assert passages.find("red ship", 3) == ["the ship is red and red", "a red ship from crete"]
    assert passages.find("red ship", 1) == ["the ship is red and red"]
    assert passages.find("nobody", 3) == []


def test_files(tmp_path):
    plain, lines = tmp_path / "a.txt", tmp_path / "b.jsonl"
    plain.write_text("one\ntwo\n\n \nthree\n", encoding="utf-8")
    lines.write_text('{"text": "one"}\n\n{"text": "two"}\n', encoding="utf-8")
    assert read_passages(str(plain)).texts == ("one\ntwo", "three")
    assert read_passages(str(lines)).texts == ("one", "two")
    lines.write_text('{"txt": "one"}', encoding="utf-8")
    with pytest.raises(DataError, match="cannot be read"):
        read_passages(str(lines))
    with pytest.raises(DataError, match="cannot be read"):
        read_passages(str(tmp_path / "none.txt"))
    with pytest.raises(DataError, match="no passage"):
        read_passages([" "])
