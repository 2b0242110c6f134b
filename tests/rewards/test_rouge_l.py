"""ROUGE-L as a reward: the known answer, and the best of several references."""

from __future__ import annotations

import pytest

import fairlead

P, R1 = "The cat sat on the mat.", "The cat is on the mat."


def rouge(text, *references):
    return float(fairlead.reward("rouge_l", references={"q": references})(["q"], [text]).values[0])


def test_known_value():
    assert rouge(P, R1) == pytest.approx(5 / 6)
    assert rouge("THE CAT, is on (the) mat!", R1) == 1


def test_the_best_reference_counts():
    assert rouge(P, "dogs bark", R1, "no") == pytest.approx(5 / 6)


def test_nothing_is_like_nothing():
    assert rouge("", R1) == rouge("...", R1) == rouge(P, "...") == 0
