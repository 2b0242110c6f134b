"""Quotas of groups: shares, scores and lots inside, what small groups lack, clusters, bad input."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from fairlead.errors import DataError, UsageError
from fairlead.records import PromptOnly
from fairlead.selection.balance import Balance

SIZES = {"fact": 64, "list": 16, "sum": 4}


def pool(sizes=SIZES, **extra):
    tags = [tag for tag, size in sizes.items() for _ in range(size)]
    return [PromptOnly(f"r{i}", "q", {"tag": tag, "score": float(i % 16), **extra}) for i, tag in enumerate(tags)]


def counts(records, selection):
    return Counter(str(records[i].extra["tag"]) for i in selection.indices)


@pytest.mark.parametrize(
    ("shares", "keep", "wanted"),
    [
        ("equal", 12, {"fact": 4, "list": 4, "sum": 4}),
        ("root", 14, {"fact": 8, "list": 4, "sum": 2}),
        ("pool", 21, {"fact": 16, "list": 4, "sum": 1}),
        ("pool", 0.25, {"fact": 16, "list": 4, "sum": 1}),
    ],
)
def test_shares(shares, keep, wanted):
    records = pool()
    found = Balance(keep=keep, by="tag", shares=shares)(records)
    assert counts(records, found) == wanted
    assert found.metrics["shortfall"] == 0
    assert not found.notes


def test_what_a_small_group_lacks_is_told_or_made_up_for():
    records = pool()
    found = Balance(keep=30, by="tag")(records)
    assert counts(records, found) == {"fact": 10, "list": 10, "sum": 4}
    assert found.metrics["shortfall"] == 6
    assert found.notes == ("1 of 3 groups are too small: sum has 4 of 10; 24 records are kept, not 30",)
    filled = Balance(keep=30, by="tag", fill=True)(records)
    assert counts(records, filled) == {"fact": 13, "list": 13, "sum": 4}
    assert "others make up for it" in filled.notes[0]
    assert filled.metrics["kept_evenness"] > filled.metrics["pool_evenness"]


def test_the_best_of_each_group_or_a_draw():
    records = pool()
    best = Balance(keep=6, by="tag", score="score")(records)
    assert sorted(records[i].extra["score"] for i in best.indices if records[i].extra["tag"] == "fact") == [15, 15]
    assert best.scores[best.indices].tolist() == sorted(best.scores[best.indices], reverse=True)
    assert best.left_out == {"its group is full": 78}
    draws = [frozenset(Balance(keep=6, by="tag", seed=seed)(records).indices.tolist()) for seed in range(3)]
    assert len(set(draws)) == 3


def test_records_without_a_group_are_one():
    records = [*pool(), PromptOnly("bare", "q"), PromptOnly("none", "q", {"tag": None})]
    assert Balance(keep=4, by="tag")(records).columns["group"][-2:] == ["none", "none"]
    with pytest.raises(DataError, match="no column 'kind'"):
        Balance(keep=4, by="kind")(records)


def test_clusters_are_groups():
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(center, 0.1, (size, 2)) for center, size in ((0.0, 60), (5.0, 30), (-5.0, 10))])
    records = [PromptOnly(f"r{i}", "q", {"vector": row.tolist()}) for i, row in enumerate(rows)]
    records.append(PromptOnly("blank", "", {"vector": [0.0, 0.0]}))
    found = Balance(keep=15, embedding="vector", clusters=3)(records)
    assert Counter(found.columns["group"][i] for i in found.indices) == {f"cluster {k}": 5 for k in (1, 2, 3)}
    assert found.columns["group"][0] == "cluster 1"
    assert found.left_out["blank text"] == 1
    assert found.metrics["groups"] == 3


@pytest.mark.parametrize(
    "bad", [{}, {"by": "a", "embedding": "b"}, {"by": "a", "keep": 0}, {"embedding": "b", "clusters": 0}]
)
def test_bad_fields_are_named(bad):
    with pytest.raises(UsageError, match="balance"):
        Balance(**{"keep": 3, **bad})


def test_the_typical_records_of_every_cluster():
    """The ten points of the published check, whose clusters are 0 0 1 1 0 1 2 2 0 1."""
    points = [(0, 0), (0.2, 0), (5, 5), (5, 5.4), (0, 0.3), (5.2, 5), (9, 0), (9.5, 0.1), (0.6, 0.6), (5.9, 5.9)]
    pool = [PromptOnly(f"r{k}", "q", {"v": [x + 1.0, y + 1.0]}) for k, (x, y) in enumerate(points)]
    found = Balance(keep=6, embedding="v", clusters=3, nearest=True)(pool)
    groups = {}
    for i in found.indices.tolist():
        groups.setdefault(found.columns["group"][i], []).append(i)
    assert [4, 1] in groups.values()
    assert [3, 5] in groups.values()
    assert {frozenset(own) for own in groups.values()} == {frozenset(own) for own in ((4, 1), (3, 5), (6, 7))}
    for how in ({"by": "v"}, {"embedding": "v", "score": "s"}):
        with pytest.raises(UsageError, match=r"balance\.nearest"):
            Balance(keep=6, nearest=True, **how)
