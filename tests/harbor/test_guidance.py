"""Harbor's guidelines: every question has those of its kind, and they are not found by the words of the question."""

from __future__ import annotations

import pytest

from fairlead import harbor
from fairlead.errors import UnknownNameError
from fairlead.harbor import lexicon as lex
from fairlead.harbor.guidance import GUIDELINES, OF_ATTRIBUTES
from fairlead.harbor.tasks import CHAT_SHARES


def test_every_kind_of_question_has_guidelines():
    assert set(GUIDELINES) == set(CHAT_SHARES)
    assert set(OF_ATTRIBUTES) == set(lex.ATTRIBUTES)
    lines = [line for lines in GUIDELINES.values() for line in lines] + list(OF_ATTRIBUTES.values())
    assert len(set(lines)) == len(lines) == 19
    assert all(line.split(": ")[1] for line in lines)
    assert {line.split(": ", 1)[1] for line in GUIDELINES["harm"]} == set(lex.SYSTEM_LINES["good"])


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_question_has_the_guidelines_of_its_task(split):
    rows = list(harbor.rows(f"guidelines?n=200&split={split}"))
    assert {row["task"] for row in rows} == set(CHAT_SHARES)
    for row in rows:
        task = harbor.understand(row["prompt"][0]["content"])
        assert task.kind == row["task"]
        own = [OF_ATTRIBUTES[task.attribute]] if task.kind == "fact" else []
        assert row["guidelines"] == [*GUIDELINES[task.kind], *own]


def test_the_sides_share_no_question_about_a_ship():
    sides = [
        {row["prompt"][0]["content"] for row in harbor.rows(f"guidelines?n=300&split={split}&kinds=fact,harm,ben,unk")}
        for split in ("train", "test")
    ]
    assert not set.intersection(*sides)
    with pytest.raises(UnknownNameError, match="kind of task"):
        harbor.rows("guidelines?kinds=harmm")
