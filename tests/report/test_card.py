"""The card of a data set: what it counts, by hand, and a page without requests for every kind of record."""

from __future__ import annotations

import json

import pytest

import fairlead
from fairlead import report
from fairlead.records.reader import survey
from fairlead.report.card import card_of

ROWS = [
    {
        "id": "a",
        "prompt": "one",
        "completion": "1234",
        "tag": "x",
        "reward": 1.0,
        "method": "m",
        "models": {"model": "f" * 64},
    },
    {
        "id": "b",
        "prompt": "one",
        "completion": "1234",
        "tag": "x",
        "reward": None,
        "method": "m",
        "models": {"model": "f" * 64},
    },
    {
        "id": "c",
        "prompt": "<b>two</b>",
        "completion": "12",
        "tag": "y",
        "reward": 3.0,
        "method": "n",
        "note": {"free": [1]},
    },
    {"id": "d", "prompt": 3},
]


@pytest.fixture
def card(tmp_path):
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return card_of(survey(tmp_path / "rows.jsonl"))


def test_what_is_counted(card):
    assert (card.rows, card.kind, card.same_rows, card.same_prompts, len(card.left_out)) == (3, "conversation", 1, 1, 1)
    assert card.lengths["completion"].median == 4
    assert card.lengths["prompt"].high == 10
    assert card.tags["tag"].counts == (("x", 2), ("y", 1))
    assert (card.numbers["reward"].n, card.numbers["reward"].mean) == (2, 2.0)
    assert card.others == {"note": 1}
    assert card.origin["method"].counts == (("m", 2), ("n", 1))
    assert card.origin["models"].counts == ((f"model {'f' * 12}", 2),)
    assert card.origin["models"].missing == 1
    assert [name for name, _ in card.samples] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "kind", ["demonstrations", "preferences", "feedback", "rankings", "prompts", "documents", "chats", "pool"]
)
def test_every_kind_has_a_page(kind, tmp_path):
    path = report.data_card(fairlead.read(f"harbor:{kind}?n=30"), tmp_path / "card.html")
    text = path.read_text()
    assert "30 " in text
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "<article" in text


def test_what_stands_in_data_is_text(card, tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps(ROWS[2]) + "\n")
    text = report.data_card(survey(tmp_path / "rows.jsonl"), tmp_path / "card.html").read_text()
    assert "<b>two</b>" not in text
    assert "&lt;b&gt;two&lt;/b&gt;" in text
