"""Wishes: the system line of a style for every question, alone or with the question behind it."""

from __future__ import annotations

import pytest

from fairlead import harbor
from fairlead.errors import UnknownNameError
from fairlead.harbor import lexicon as lex


@pytest.mark.parametrize("style", list(lex.STYLES))
def test_the_wish_is_a_line_of_its_style(style):
    rows = list(harbor.rows(f"wishes?n=40&style={style}"))
    wishes = [row["completion"][0]["content"] for row in rows]
    assert set(wishes) == set(lex.SYSTEM_LINES[style])
    whole = [row["completion"][0]["content"] for row in harbor.rows(f"wishes?n=40&style={style}&form=whole")]
    assert whole == [f"{wish} {row['prompt'][0]['content']}" for wish, row in zip(wishes, rows)]
    assert all(harbor.understand(row["prompt"][0]["content"]).kind == row["task"] for row in rows)


def test_wrong_values_name_the_right_ones():
    with pytest.raises(UnknownNameError, match="good"):
        harbor.rows("wishes?style=goood")
    with pytest.raises(UnknownNameError, match="whole"):
        harbor.rows("wishes?form=hole")
