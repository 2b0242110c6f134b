"""Near pairs against all pairs one by one, the three rules, and what is told of every record."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

from fairlead.errors import DataError, UsageError
from fairlead.records import PromptOnly
from fairlead.selection import neighbours
from fairlead.selection.near_duplicates import NearDuplicates
from fairlead.selection.neighbours import hashed_text_pairs, text_pairs, vector_pairs


def plane(*degrees):
    return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], 1)


def pool(vectors, **columns):
    rows = [{"vector": [float(x) for x in row]} for row in vectors]
    return [PromptOnly(f"row-{k}", "q", row | {n: v[k] for n, v in columns.items()}) for k, row in enumerate(rows)]


CIRCLE = pool(plane(0, 10, 20, 90, 90, 180))


def test_what_is_told_of_every_record():
    found = NearDuplicates(embedding="vector")(CIRCLE)
    wanted = [0.030384, 0.030384, 0.030384, 0, 0, 2.0]
    assert np.allclose(found.columns["min_neighbor_distance"], wanted, atol=1e-6)
    assert found.columns["repeat_count"] == [1, 2, 1, 1, 1, 0]
    assert found.columns["representative"] == ["row-0", "row-0", "row-1", "row-3", "row-3", None]
    assert found.left_out == {"near to an earlier record": 3}
    assert found.metrics == {"near_pairs": 3.0, "near_duplicates": 3.0, "without_text": 0.0}


@pytest.mark.parametrize(
    ("rule", "kept", "third"),
    [("lowest", [0, 3, 5], "row-1"), ("greedy", [0, 2, 3, 5], "row-2"), ("components", [0, 3, 5], "row-0")],
)
def test_three_rules(rule, kept, third):
    found = NearDuplicates(embedding="vector", rule=rule)(CIRCLE)
    assert found.indices.tolist() == kept
    assert found.columns["representative"][2] == third


def test_the_best_one_is_kept():
    records = pool(plane(0, 10, 20, 90, 90, 180), worth=[1, 9, 2, 3, 4, 0])
    found = NearDuplicates(embedding="vector", best="worth", rule="greedy")(records)
    assert found.indices.tolist() == [1, 4, 5]
    assert found.columns["representative"] == ["row-1", "row-1", "row-1", "row-4", "row-4", None]


@pytest.mark.parametrize("limit", [0.05, 0.5, 3.5])
def test_blocks_find_what_all_pairs_are(limit, monkeypatch):
    monkeypatch.setattr(neighbours, "_ROWS", 16)
    monkeypatch.setattr(neighbours, "_COLUMNS", 48)
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(130, 3)) * draw.uniform(0.1, 9, (130, 1))
    vectors[77] = 2 * vectors[5]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    distance = ((unit[:, None] - unit[None]) ** 2).sum(-1)
    found = vector_pairs(vectors, limit)
    i, j = np.nonzero(np.triu(distance < limit, 1))
    assert (found.first.tolist(), found.second.tolist()) == (i.tolist(), j.tolist())
    np.fill_diagonal(distance, np.inf)
    assert np.allclose(found.least, distance.min(1), atol=1e-6)


TEXTS = [
    "the red ship sails to bergen today",
    "the red ship sails to bergen today!",
    "the red ship sails to bergen now",
    "a blue ship",
    "who owns the green ship in the port",
    "ship",
]


def jaccard(a, b, words):
    one, other = (neighbours._grams(text, words) for text in (a, b))
    return 1 - len(one & other) / len(one | other)


@pytest.mark.parametrize("words", [1, 2, 3])
def test_texts_by_what_they_share(words):
    found = text_pairs(TEXTS, words, 0.5)
    wanted = [[jaccard(a, b, words) for b in TEXTS] for a in TEXTS]
    pairs = [(i, j) for i in range(6) for j in range(i + 1, 6) if wanted[i][j] < 0.5]
    assert list(zip(found.first.tolist(), found.second.tolist())) == pairs
    least = [min(wanted[i][j] for j in range(6) if j != i) for i in range(6)]
    assert np.allclose(found.least, least)


def test_hashing_finds_what_is_alike():
    pytest.importorskip("datasketch")
    texts = [*TEXTS, *(f"{text} {k} and {k + 1} more of {k}" for k in range(40) for text in TEXTS[3:5])]
    exact, hashed = text_pairs(texts, 1, 0.3), hashed_text_pairs(texts, 1, 0.3, 256)
    found = set(zip(hashed.first.tolist(), hashed.second.tolist()))
    wanted = set(zip(exact.first.tolist(), exact.second.tolist()))
    assert found <= wanted
    assert len(found) >= 0.95 * len(wanted) > 10
    near = set(exact.first) | set(exact.second)
    assert all(hashed.least[i] >= exact.least[i] for i in near if not np.isnan(hashed.least[i]))


@pytest.mark.parametrize("by", ["ngrams", "minhash"])
def test_texts_of_records(by):
    if by == "minhash":
        pytest.importorskip("datasketch")
    records = [PromptOnly(str(k), text) for k, text in enumerate([*TEXTS[:2], " ", TEXTS[3]])]
    found = NearDuplicates(by=by, closer_than=0.2, words=2)(records)
    assert found.indices.tolist() == [0, 3]
    assert found.left_out == {"near to an earlier record": 1, "no text to compare": 1}
    assert found.columns["representative"] == ["0", "0", None, None]


def test_records_without_a_direction_are_left_out():
    found = NearDuplicates(embedding="vector")(pool([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]]))
    assert found.indices.tolist() == [1]
    assert found.left_out == {"no text to compare": 2}
    assert found.columns["min_neighbor_distance"] == [None] * 3


def test_a_best_column_that_is_missing_names_its_record():
    with pytest.raises(DataError, match="row-1"):
        NearDuplicates(embedding="vector", best="worth")(pool(plane(0, 1), worth=[1.0, None]))


@pytest.mark.parametrize(
    "change",
    [{"closer_than": 0}, {"closer_than": 4.5}, {"closer_than": 1.5, "by": "ngrams"}, {"words": 0}, {"hashes": 1},
     {"by": "sound"}, {"rule": "any"}],
)  # fmt: skip
def test_settings_that_make_no_sense(change):
    with pytest.raises(UsageError, match="near_duplicates"):
        NearDuplicates(**change)


def test_real_answers_that_are_nearly_the_same(shared_data):
    """Answers of twelve models to AlpacaEval's first prompts: short ones are often word for word the same."""
    with gzip.open(shared_data / "alpaca_eval" / "outputs.jsonl.gz", "rt", encoding="utf-8") as stream:
        outputs = [json.loads(line)["outputs"] for line, _ in zip(stream, range(60))]
    texts = [text for row in outputs for text in row.values() if text.strip()]
    exact = text_pairs(texts, 3, 0.2)
    equal = {(i, j) for i in range(len(texts)) for j in range(i + 1, len(texts)) if texts[i] == texts[j]}
    found = set(zip(exact.first.tolist(), exact.second.tolist()))
    assert equal <= found
    assert len(found) > len(equal) > 0
    assert all(jaccard(texts[i], texts[j], 3) < 0.2 for i, j in found)
