"""ROUGE-L against values worked out by hand and against the plain table of subsequences."""

from __future__ import annotations

import random

import pytest

from fairlead.rewards.overlap import first_alike, lcs_f, rouge_l

SEA, COPPER = "Write a short poem about the sea.", "List three uses of copper."


@pytest.mark.parametrize(
    ("text", "sea", "copper"),
    [
        ("Write a short poem about the sky.", 0.8571, 0),
        ("Write a brief poem about a stormy sea.", 0.6667, 0),
        ("Give three uses of copper.", 0, 0.8),
        ("Explain how copper is refined.", 0, 0.2),
    ],
)
def test_known_values(text, sea, copper):
    assert rouge_l(text, SEA) == pytest.approx(sea, abs=1e-4)
    assert rouge_l(text, COPPER) == pytest.approx(copper, abs=1e-4)


def plain(one: str, other: str) -> float:
    rows = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, x in enumerate(one):
        for j, y in enumerate(other):
            rows[i + 1][j + 1] = rows[i][j] + 1 if x == y else max(rows[i][j + 1], rows[i + 1][j])
    return 2 * rows[-1][-1] / (len(one) + len(other))


def test_it_is_the_longest_common_subsequence():
    rng = random.Random(0)
    for _ in range(100):
        one, other = ("".join(rng.choices("abc", k=rng.randint(1, 12))) for _ in range(2))
        assert lcs_f(one, other) == pytest.approx(plain(one, other))


def test_capitals_and_marks_do_not_count_and_nothing_is_like_nothing():
    assert rouge_l("Name THREE ports!", "name three ports") == 1
    assert rouge_l("", "") == rouge_l("...", "a") == 0


def test_the_first_text_that_is_alike():
    rng = random.Random(1)
    texts = ["".join(rng.choices("abcd", k=rng.randint(1, 9))) for _ in range(60)]
    for above in (0.3, 0.7, 0.99):
        for text in texts[:20]:
            exact = [value for other in texts[20:] if (value := lcs_f(text, other)) > above]
            assert first_alike(text, texts[20:], above) == (exact[0] if exact else 0)
    assert first_alike("", ["", "a"], 0.1) == 0
