"""Normalising and containment: word boundaries, marks, articles, and true answers of which nothing is left."""

from __future__ import annotations

import pytest

from fairlead.rewards.matching import contains, normalise


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The  Eiffel_Tower!", "eiffel tower"),
        ("Don't", "dont"),
        ("Don\u2019t", "dont"),
        ("An\tapple,a pear", "apple pear"),
        ("STRASSE", normalise("straße")),
        ("\uff17", "7"),
        ("The", ""),
        ("?!", ""),
    ],
)
def test_normalise(text, words):
    assert normalise(text) == words


@pytest.mark.parametrize(
    ("answer", "truths", "held"),
    [
        ("It was the Eiffel Tower, in Paris.", ["Eiffel_Tower"], True),
        ("It was the Eiffel, a tower.", ["the Eiffel tower"], True),
        ("It was a tower by Eiffel.", ["Eiffel tower"], False),
        ("In 1970.", ["7", "19"], False),
        ("There are 7.", ["9", "7"], True),
        ("We discuss it because.", ["US"], False),
        ("anything at all", ["The", "", "!"], False),
        ("", ["The"], False),
        ("", ["Oslo"], False),
        ("anything", [], False),
    ],
)
def test_contains(answer, truths, held):
    assert contains(answer, truths) is held
