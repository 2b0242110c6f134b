"""Length limits: what is counted, smooth and hard, limits in the prompt, and bounds that hold."""

from __future__ import annotations

import pytest

import fairlead
from fairlead.errors import UsageError


def value(text, prompt="", **fields):
    rewards = fairlead.reward("length_limit", **fields)([prompt], [text])
    return None if rewards.abstained[0] else pytest.approx(rewards.values[0])


def test_words():
    assert value("I don't know the well-known _one_.", at_most=6, hard=True) == 1
    assert value("I don't know the well-known _one_.", at_most=5, hard=True) == 0
    assert [value("w " * n, at_most=4) for n in (0, 4, 5, 6, 8, 20)] == [1, 1, 0.75, 0.5, 0, 0]
    assert [value("w " * n, at_least=4) for n in (0, 1, 4, 9)] == [0, 0.25, 1, 1]


def test_sentences_and_characters():
    assert value("One. Two! Three? Four", at_most=4, unit="sentences") == 1
    assert value("One. Two! Three? Four", at_most=3, unit="sentences", hard=True) == 0
    assert value("3.5 is one", at_most=1, unit="sentences", hard=True) == 1
    assert value("abcde", at_most=4, unit="characters") == 0.75


def test_the_limit_in_the_prompt():
    fields = {"find": r"at most (\d+) words"}
    assert value("a b c", "in at most 2 words: what?", **fields) == 0.5
    assert value("a b c", "what?", **fields) is None
    assert value("a b c", "what?", at_most=3, **fields) == 1
    with pytest.raises(UsageError, match="'0'"):
        value("a", "at most 0 words", **fields)


@pytest.mark.parametrize("unit", ["words", "sentences", "characters"])
@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("limits", [{"at_most": 3}, {"at_least": 3}, {"at_least": 2, "at_most": 4}, {"at_most": 9}])
def test_bounds_hold_for_every_beginning(unit, hard, limits):
    reward = fairlead.reward("length_limit", unit=unit, hard=hard, **limits)
    for text in ("One. Don't! A well-known 3.5? Four", "a b c d e f g h", "", " . . . "):
        final = reward([""], [text]).values[0]
        beginnings = [text[:k] for k in range(len(text) + 1)]
        low, high = reward.bounds([""] * len(beginnings), beginnings)
        assert (low <= final).all()
        assert (final <= high).all()


def test_a_text_that_is_already_too_long_has_a_bound_below_one():
    reward = fairlead.reward("length_limit", at_most=4)
    low, high = reward.bounds(["", ""], ["a b c d", "a b c d e f"])
    assert (low.tolist(), high.tolist()) == ([0, 0], [1, 0.75])


def test_a_limit_in_the_prompt_below_the_least():
    """The best of what cannot be met in full is where one of the limits lies."""
    reward = fairlead.reward("length_limit", at_least=4, find=r"(\d+)")
    _, high = reward.bounds(["2"], ["a"])
    best = max(reward(["2"], [" ".join("w" * n)]).values[0] for n in range(9))
    assert high[0] == best


@pytest.mark.parametrize("fields", [{}, {"at_most": 0}, {"at_least": 3, "at_most": 2}, {"find": "a"}, {"find": "("}])
def test_what_makes_no_sense(fields):
    with pytest.raises(UsageError):
        fairlead.reward("length_limit", **fields)
