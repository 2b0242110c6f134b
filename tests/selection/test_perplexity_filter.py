"""Perplexity, density, and both: the published rows, limits in several columns, clusters from vectors."""

from __future__ import annotations

import numpy as np
import pytest

from fairlead.errors import DataError, UsageError
from fairlead.records import PromptOnly
from fairlead.selection.perplexity_filter import PerplexityFilter

ROWS = [("a", 0, 12.0), ("b", 0, 8.0), ("c", 1, 60.0), ("d", 1, 55.0), ("e", 2, 20.0)]
POOL = [PromptOnly(name, "q", {"topic": topic, "pair_perplexity": value}) for name, topic, value in ROWS]


def kept(pool=POOL, **how):
    how = {"columns": ("pair_perplexity",), **how}
    return [pool[i].id for i in PerplexityFilter(**how)(pool).indices]


def test_the_three_filters_on_the_published_rows():
    assert sorted(kept()) == ["a", "b", "e"]
    assert sorted(kept(below=None, by="topic", one_per_cluster="lowest")) == ["b", "d", "e"]
    (first, second, third) = sorted(kept(below=None, by="topic", one_per_cluster="any"))
    assert (first in "ab", second in "cd", third) == (True, True, "e")
    assert sorted(kept(by="topic", one_per_cluster="lowest")) == ["b", "e"]


def test_the_least_surprising_stands_first_and_reasons_are_told():
    assert kept() == ["b", "a", "e"]
    found = PerplexityFilter(columns=("pair_perplexity",), by="topic", one_per_cluster="lowest")(POOL)
    high = "pair_perplexity is 50 or more"
    assert found.reasons == ("another record stands for its cluster", "", high, high, "")
    assert found.metrics == {"below": 0.6, "clusters": 3.0}
    assert found.columns["cluster"] == ["0", "0", "1", "1", "2"]
    assert "perplexity" in found.figures


def test_every_column_counts_and_the_limit_itself_is_too_much():
    pool = [
        PromptOnly(str(k), "q", {"answer_perplexity": a, "pair_perplexity": b})
        for k, (a, b) in enumerate([(49.9, 49.9), (50, 1), (1, 50), (60, 60)])
    ]
    found = PerplexityFilter()(pool)
    assert found.indices.tolist() == [0]
    assert found.reasons[1:] == (
        "answer_perplexity is 50 or more", "pair_perplexity is 50 or more", "answer_perplexity is 50 or more"
    )  # fmt: skip


def test_clusters_of_vectors_and_blank_texts():
    draw = np.random.default_rng(0)
    centres = np.repeat(np.eye(3), 5, axis=0) * 10
    vectors = [*(centres + draw.normal(size=centres.shape) * 0.1), np.zeros(3)]
    pool = [PromptOnly(f"r{k}", "q", {"v": v.tolist(), "p": float(k % 5 + 1)}) for k, v in enumerate(vectors)]
    how = {"below": None, "embedding": "v", "clusters": 3}
    found = PerplexityFilter(one_per_cluster="lowest", lowest="p", **how)(pool)
    assert sorted(found.indices.tolist()) == [0, 5, 10]
    assert (found.reasons[15], found.metrics) == ("blank text", {"clusters": 3.0})
    drawn = [sorted(PerplexityFilter(one_per_cluster="any", seed=s, **how)(pool).indices.tolist()) for s in range(8)]
    assert all([i // 5 for i in places] == [0, 1, 2] for places in drawn)
    assert len(set(map(tuple, drawn))) > 1


@pytest.mark.parametrize(
    "how", [{"below": None}, {"below": 0}, {"below": float("nan")}, {"columns": ()}, {"clusters": 0}]
)
def test_settings_that_make_no_sense(how):
    with pytest.raises(UsageError, match="perplexity_filter"):
        PerplexityFilter(**how)


def test_records_without_a_perplexity_are_refused_by_name():
    with pytest.raises(DataError, match="x"):
        PerplexityFilter(columns=("pair_perplexity",))([*POOL, PromptOnly("x", "q", {"pair_perplexity": None})])
    with pytest.raises(DataError, match="have no column"):
        PerplexityFilter()(POOL)
