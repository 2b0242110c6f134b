"""Word counts, lengths read from prompts, and the length score: known answers and properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.rewards.lengths import (
    Request,
    count_words,
    extended_request,
    length_score,
    strict_request,
)


@pytest.mark.parametrize(
    ("required", "actual", "score"),
    [
        (1000, 1000, 100),
        (1000, 2000, 66.666667),
        (1000, 4000, 0),
        (1000, 500, 50),
        (1000, 334, 0.299401),
        (1000, 1600, 80),
        (1000, 1601, 79.966667),
        (1000, 714, 79.971989),
        (2000, 1500, 83.333333),
        (20000, 7739, 20.784339),
        (1000, 0, 0),
    ],
)
def test_known_scores(required, actual, score):
    assert length_score(required, actual) == pytest.approx(score, abs=1e-6)


def test_a_score_of_80_is_five_sevenths_to_eight_fifths():
    for ratio in (5 / 7 + 1e-9, 1.6 - 1e-9):
        assert length_score(1000, 1000 * ratio) > 80
    for ratio in (5 / 7 - 1e-9, 1.6 + 1e-9):
        assert length_score(1000, 1000 * ratio) < 80


@given(st.integers(1, 10**6), st.integers(0, 10**7))
def test_scores_are_within_0_and_100_and_peak_at_the_length(required, actual):
    score = length_score(required, actual)
    assert 0 <= score <= 100
    assert (score == 100) == (actual == required)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello world, it's 2024!", 4),
        ("写一篇1200字的游记", 7),
        ("GPT-4o模型 works", 4),
        ("你好 hello世界world", 4),
        ("state-of-the-art", 4),
        ("don't", 2),
        ("", 0),
    ],
)
def test_known_counts(text, words):
    assert count_words(text) == words


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        ("Write a 2000 words story", Request(2000)),
        ("Write a 2,000 words story", Request(None, "zero")),
        ("Write a 2000-word story", Request(None, "none")),
        ("写五千字", Request(5000)),
        ("写一万字的小说，每章1000字", Request(None, "several")),
        ("请写两千字 about 2000 words", Request(None, "several")),
        ("写3000字以上, 3000字", Request(3000)),
        ("500 words, I said 0500 words", Request(None, "several")),
        ("写二十万字", Request(None, "none")),
        ("几百字即可", Request(None, "none")),
    ],
)
def test_known_strict_requests(text, request_):
    assert strict_request(text) == request_


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("Write a 2000 words story", 2000),
        ("Write a 2,000 words story", 2000),
        ("Write a 2000-word story", 2000),
        ("Write a 12,500 Words story, of 12500 words", 12500),
        ("about 2k words", 2000),
        ("about 2.5k words", 2500),
        ("in one word, or 1 word", 1),
        ("请写两千字 about 2000 words", 2000),
        ("写3千字", 3000),
        ("写二十万字", 200000),
        ("写一万五千字", 15000),
        ("写一千二百字", 1200),
        ("写1200字的游记", 1200),
    ],
)
def test_extended_requests(text, length):
    assert extended_request(text).length == length


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("500 to 600 words", "several"),
        ("500-600 words", "several"),
        ("2-3k words", "several"),
        ("写一万字的小说，每章1000字", "several"),
        ("几百字即可", "none"),
        ("Is it 2000 wordsmiths, or v2.500 words?", "none"),
        ("0 words", "zero"),
        ("", "none"),
    ],
)
def test_what_is_not_one_length_has_a_reason(text, reason):
    assert extended_request(text) == Request(None, reason)
