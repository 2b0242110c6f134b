"""N-grams: by hand, against sampling, against other BLEUs."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.evaluation.ngrams import (
    bleu,
    cosine_distances,
    distinct,
    expected_distinct,
    ngrams,
    self_bleu,
    word_vectors,
    words_of,
)

texts = st.lists(st.lists(st.sampled_from("abcde"), max_size=8), min_size=2, max_size=6)


def test_words_and_ngrams():
    assert words_of("The brig's cargo: 12 tons.") == ["the", "brig", "'", "s", "cargo", ":", "12", "tons", "."]
    assert ngrams(["a", "b", "a", "b"], 2) == {("a", "b"): 2, ("b", "a"): 1}
    assert not ngrams(["a"], 2)
    assert distinct(list(ngrams(list("abab"), 2).values())) == pytest.approx(2 / 3)
    assert math.isnan(distinct([]))


def test_expected_distinct_is_the_mean_over_all_draws():
    counts = [3, 2, 1, 1]
    urn = [i for i, count in enumerate(counts) for _ in range(count)]
    for size in range(1, 8):
        draws = [len(set(draw)) for draw in combinations(urn, size)]
        drawn = [len({urn[i] for i in places}) for places in combinations(range(7), size)]
        assert expected_distinct(counts, size) == pytest.approx(np.mean(drawn) / size)
        assert len(draws) == len(drawn)
    assert expected_distinct(counts, 7) == pytest.approx(distinct(counts))
    assert math.isnan(expected_distinct(counts, 8))
    assert expected_distinct([10**6], 1000) == pytest.approx(1 / 1000)


def test_expected_distinct_does_not_depend_on_the_amount_of_text():
    rng = np.random.default_rng(0)
    short, long = (np.bincount(rng.zipf(1.6, n).clip(max=5000)) for n in (2_000, 50_000))
    short, long = short[short > 0], long[long > 0]
    assert distinct(long) < 0.5 * distinct(short)
    assert expected_distinct(long, 1000) == pytest.approx(expected_distinct(short, 1000), rel=0.08)


def test_bleu_by_hand():
    # the first example of the paper that introduced it: "the" is clipped at the two of the reference
    assert bleu(["the"] * 7, [["the", "cat", "is", "on", "the", "mat"]], order=1) == pytest.approx(2 / 7)
    assert bleu(["a", "b", "c", "d"], [["a", "b", "c", "d"]]) == 1
    short = bleu(["a", "b"], [["a", "b", "c", "d"]])
    assert short == pytest.approx(math.exp(1 - 4 / 2))  # brevity; both orders of a text of two words match
    assert bleu(["x"], [["a", "b"]]) == pytest.approx(0.1 * math.exp(1 - 2))
    assert math.isnan(bleu([], [["a"]]))
    assert math.isnan(bleu(["a"], []))


@settings(deadline=None, max_examples=50)
@given(texts)
def test_bleu_is_that_of_nltk(lists):
    translate = pytest.importorskip("nltk.translate.bleu_score")
    own, *others = lists
    if len(own) < 4 or not any(others):
        return
    others = [o for o in others if o]
    theirs = translate.sentence_bleu(others, own, smoothing_function=translate.SmoothingFunction().method1)
    if set(own) & {word for other in others for word in other}:  # without any match it returns 0 before smoothing
        assert bleu(own, others) == pytest.approx(theirs)


@settings(deadline=None, max_examples=50)
@given(texts, st.randoms())
def test_self_bleu_is_bleu_against_the_others_in_any_order(lists, random):
    found = self_bleu(lists)
    for i, words in enumerate(lists):
        others = [other for j, other in enumerate(lists) if j != i and other]
        assert found[i] == pytest.approx(bleu(words, others), nan_ok=True)
    order = random.sample(range(len(lists)), len(lists))
    assert self_bleu([lists[i] for i in order]).tolist() == pytest.approx(found[order].tolist(), nan_ok=True)


def test_texts_that_are_the_same():
    assert self_bleu([["a", "b"]] * 3).tolist() == [1, 1, 1]
    assert np.isnan(self_bleu([["a"], []])).all()
    assert np.isnan(self_bleu([["a"]])).all()


@settings(deadline=None, max_examples=50)
@given(texts)
def test_distances_are_those_of_all_pairs(lists):
    table = word_vectors(lists).toarray()
    kept = table[table.any(1)]
    unit = kept / np.linalg.norm(kept, axis=1, keepdims=True)
    found = cosine_distances(word_vectors(lists))
    assert found.tolist() == pytest.approx(cosine_distances(table).tolist())
    if len(kept) < 2:
        assert len(found) == 0
        return
    pairs = 1 - unit @ unit.T
    expected = [np.delete(pairs[i], i).mean() for i in range(len(kept))]
    assert found.tolist() == pytest.approx(expected, abs=1e-12)
