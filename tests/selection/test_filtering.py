"""Score first, then variety: the published checks, and the same rows for every block, precision and way of reading."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.errors import DataError, UsageError
from fairlead.selection import filtering, folding
from fairlead.selection.filtering import diverse, nearest, unit_rows


def plane(*degrees):
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], 1)


def one_by_one(vectors, order, limit, keep=None):
    """The definition, in float64."""
    wide, kept = unit_rows(vectors), []
    for i in order:
        if len(kept) == (len(order) if keep is None else keep):
            break
        if all(float(wide[i] @ wide[j]) <= limit + 1e-12 for j in kept):
            kept.append(int(i))
    return kept


@pytest.fixture(scope="module")
def cloud():
    draw = np.random.default_rng(0)
    vectors = draw.standard_normal((2000, 8))
    return vectors, np.argsort(-draw.permutation(2000), kind="stable")


def test_six_directions_in_the_plane():
    assert diverse(plane(0, 20, 40, 10, 70, 95), range(6), 0.9).kept.tolist() == [0, 2, 4]


@pytest.mark.parametrize("block", [1, 2, 3, 4, 100])
def test_what_was_rejected_rejects_nobody(block):
    assert diverse(plane(0, 20, 40, 80), range(4), 0.9, block=block).kept.tolist() == [0, 2, 3]


@pytest.mark.parametrize(("limit", "count"), [(0.5, 37), (0.7, 164), (0.8, 415), (0.9, 1389), (0.95, 1912)])
@pytest.mark.parametrize("first_pass", ["float32", "bfloat16"])
def test_a_cloud_whose_counts_are_known(cloud, limit, count, first_pass):
    found = diverse(*cloud, limit, first_pass=first_pass)
    assert len(found.kept) == count
    assert found.visited == 2000
    if limit == 0.9:
        assert found.kept[:8].tolist() == [1993, 226, 1793, 1967, 2, 570, 637, 1400]
        assert found.kept[-3:].tolist() == [1665, 792, 466]


@pytest.mark.parametrize("block", [1, 7, 300, 5000])
@pytest.mark.parametrize("first_pass", ["float32", "bfloat16"])
def test_every_block_and_precision_keeps_the_same(cloud, block, first_pass, monkeypatch):
    monkeypatch.setattr(folding, "CHUNK", 128)
    monkeypatch.setattr(filtering, "_FEWEST", 1)
    vectors, order = cloud[0][:700], cloud[1][cloud[1] < 700]
    found = diverse(vectors, order, 0.9, 300, block=block, first_pass=first_pass)
    assert found.kept.tolist() == one_by_one(vectors, order, 0.9, 300)
    assert order[found.visited - 1] == found.kept[-1]


def test_what_is_kept_is_no_more_similar_than_allowed(cloud):
    kept = unit_rows(cloud[0][diverse(*cloud, 0.9).kept])
    products = kept @ kept.T - np.eye(len(kept))
    assert products.max() <= 0.9


def test_a_smaller_choice_begins_a_larger_one(cloud):
    whole = diverse(*cloud, 0.9).kept.tolist()
    for keep in (0, 1, 2, 127, 128, 129, 1000):
        assert diverse(*cloud, 0.9, keep).kept.tolist() == whole[:keep]


def test_lengths_change_nothing(cloud):
    vectors, order = cloud
    scaled = vectors * np.random.default_rng(1).uniform(1e-3, 1e3, (2000, 1))
    scaled[:50] *= 1e200
    scaled[50:100] *= 1e-200
    assert diverse(scaled, order, 0.9).kept.tolist() == diverse(vectors, order, 0.9).kept.tolist()


def test_without_the_rejected_the_same_are_kept(cloud):
    vectors, order = cloud
    kept = diverse(vectors, order, 0.9).kept
    assert diverse(vectors, kept, 0.9).kept.tolist() == kept.tolist()
    left = np.isin(order, kept)
    assert diverse(vectors, order[left], 0.9).kept.tolist() == kept.tolist()


def test_an_equal_similarity_keeps_and_one_above_rejects():
    at, above = [0.6, 0.8], [0.6 + 1e-9, 0.8]
    for first_pass in ("float32", "bfloat16"):
        assert diverse(np.array([[1.0, 0.0], at]), range(2), 0.6, first_pass=first_pass).kept.tolist() == [0, 1]
        assert diverse(np.array([[1.0, 0.0], above]), range(2), 0.6, first_pass=first_pass).kept.tolist() == [0]


def test_the_limits_of_similarity():
    vectors = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -3.0]])
    assert diverse(vectors, range(5), 1.0).kept.tolist() == [0, 1, 2, 3, 4]
    assert diverse(vectors, range(5), 0.0).kept.tolist() == [0, 2, 3, 4]
    assert diverse(vectors, range(5), -0.5).kept.tolist() == [0, 3]
    assert diverse(vectors, range(5), -1.0).kept.tolist() == [0, 3]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.3, 0.7, 0.9, 0.99]), st.integers(1, 40), st.integers(2, 6))
def test_the_definition_holds_for_any_cloud(seed, limit, block, size):
    draw = np.random.default_rng(seed)
    vectors = draw.standard_normal((60, size)).astype(np.float32)
    order = draw.permutation(60)
    assert diverse(vectors, order, limit, block=block).kept.tolist() == one_by_one(vectors, order, limit)


def test_rows_near_the_limit_are_looked_at_again():
    """Cosines that differ from the limit by less than float32 can tell are told apart by float64."""
    angles = np.arccos(0.9) + np.array([-1, 1]) * 1e-9
    vectors = np.array([[1, 0], *[[np.cos(a), np.sin(a)] for a in angles]])
    found = diverse(vectors[[0, 1]], range(2), 0.9)
    assert (found.kept.tolist(), found.rechecked) == ([0], 1)
    found = diverse(vectors[[0, 2]], range(2), 0.9)
    assert (found.kept.tolist(), found.rechecked) == ([0, 1], 1)


def long_rows(kind, rows=600, size=256, seed=0):
    """Clusters of long rows; of which most numbers, or the first ones, or the direction that all share, tell little."""
    draw = np.random.default_rng(seed)
    centres = draw.standard_normal((rows // 3, size))
    spread = draw.uniform(0.05, 0.5, (rows // 3, 1))
    which = draw.integers(rows // 3, size=rows)
    vectors = centres[which] + spread[which] * draw.standard_normal((rows, size))
    offset = {"shared": 3.0, "half shared": 1.0}.get(kind, 0.0)
    vectors[:, : size // 2] *= {"empty heads": 0.0, "small heads": 0.1, "empty tails": 100.0}.get(kind, 1.0)
    return (vectors + offset).astype(np.float32), draw.permutation(rows)


KINDS = ("even", "empty heads", "small heads", "empty tails", "shared", "half shared")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("limit", "block"), [(0.9, 64), (0.9, 1024), (0.99, 100), (0.8, 100), (0.5, 100)])
def test_folded_rows_keep_the_same(kind, limit, block, monkeypatch):
    monkeypatch.setattr(folding, "CHUNK", 128)
    monkeypatch.setattr(filtering, "_FEWEST", 32)
    vectors, order = long_rows(kind)
    wanted = one_by_one(vectors, order, limit)
    for first_pass in ("float32", "bfloat16"):
        assert diverse(vectors, order, limit, block=block, first_pass=first_pass).kept.tolist() == wanted


def test_folding_looks_at_few_pairs_and_is_given_up_where_it_does_not_clear(monkeypatch):
    cleared, folded = [], []
    asked, shorter = filtering._Run._unclear, folding.folded

    def unclear(self, products):
        pairs = asked(self, products)
        cleared.append(pairs is not None)
        return pairs

    monkeypatch.setattr(filtering._Run, "_unclear", unclear)
    monkeypatch.setattr(folding, "folded", lambda *args: folded.append(1) or shorter(*args))
    found = diverse(*long_rows("even", 3000), block=300)
    assert (all(cleared), found.rechecked < 2000, len(folded)) == (True, True, 10)
    cleared.clear()
    folded.clear()
    diverse(*long_rows("empty heads", 3000), block=300)
    assert (any(cleared), 0 < len(folded) < 10) == (False, True)


def test_as_many_pairs_as_rows_are_held_together_rightly():
    draw = np.random.default_rng(0).standard_normal((512, 256)).astype(np.float32)
    found = diverse(np.concatenate([draw, draw[::-1] + 0.01]), range(1024), block=512)
    assert found.kept.tolist() == list(range(512))


def test_products_of_less_precision_change_nothing(cloud):
    before = torch.get_float32_matmul_precision()
    wanted = diverse(*cloud, 0.9, first_pass="float32").kept.tolist()
    try:
        torch.set_float32_matmul_precision("medium")
        assert diverse(*cloud, 0.9, first_pass="float32").kept.tolist() == wanted
    finally:
        torch.set_float32_matmul_precision(before)


def test_rows_without_a_direction_are_told(cloud):
    vectors, order = cloud[0].copy(), cloud[1]
    vectors[order[[3, 900]]] = 0
    found = diverse(vectors, order, 0.9)
    assert found.blank.tolist() == order[[3, 900]].tolist()
    assert not set(found.blank.tolist()) & set(found.kept.tolist())
    assert diverse(vectors, order, 0.9, 10).blank.tolist() == [order[3]]
    assert diverse(np.zeros((3, 2)), range(3)).kept.tolist() == []


@pytest.mark.parametrize("block", [1, 64, 4096])
def test_a_row_that_is_not_finite_is_refused_where_it_is_reached(cloud, block):
    vectors, order = cloud[0].copy(), cloud[1]
    vectors[order[200], 3] = np.nan
    assert len(diverse(vectors, order, 0.9, 100, block=block).kept) == 100
    with pytest.raises(DataError, match=f"row {order[200]}: a vector is not finite"):
        diverse(vectors, order, 0.9, block=block)


@pytest.mark.filterwarnings("error")
def test_a_memory_map_is_read_where_it_is_visited(cloud, tmp_path):
    vectors = cloud[0].astype(np.float32)
    vectors.tofile(tmp_path / "vectors.f32")
    mapped = np.memmap(tmp_path / "vectors.f32", np.float32, "r").reshape(2000, 8)
    kept = diverse(vectors, cloud[1], 0.9).kept
    assert diverse(mapped, cloud[1], 0.9).kept.tolist() == kept.tolist()
    assert nearest(mapped, kept).place.tolist() == nearest(vectors, kept).place.tolist()


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int32])
def test_numbers_of_any_kind(dtype):
    assert diverse(np.array([[1, 0], [2, 0], [0, 3]], dtype), range(3)).kept.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"max_similarity": 1.5}, "max_similarity is 1.5"),
        ({"max_similarity": float("nan")}, "max_similarity is nan"),
        ({"keep": -1}, "keep is -1"),
        ({"block": 0}, "block is 0"),
        ({"first_pass": "int8"}, "first_pass is 'int8'"),
        ({"vectors": np.zeros(3)}, "shape"),
        ({"vectors": np.array([["a"]])}, "vectors are"),
    ],
)
def test_settings_out_of_range(change, said):
    with pytest.raises(UsageError, match=said):
        diverse(**{"vectors": np.eye(2), "order": range(2), **change})


def test_the_nearest_of_some(cloud, monkeypatch):
    monkeypatch.setattr(filtering, "CHUNK", 100)
    vectors = cloud[0].copy()
    vectors[17] = 0
    chosen = diverse(vectors, cloud[1], 0.9).kept
    found = nearest(vectors, chosen, block=333)
    products = unit_rows(vectors) @ unit_rows(vectors[chosen]).T
    rest = np.setdiff1d(np.arange(2000), [17])
    assert np.allclose(found.similarity[rest], products[rest].max(1), atol=1e-6)
    assert np.allclose(products[rest, found.place[rest]], products[rest].max(1), atol=1e-6)
    assert found.place[chosen].tolist() == list(range(len(chosen)))
    assert (found.place[17], np.isnan(found.similarity[17])) == (-1, True)
    others = nearest(vectors, chosen, itself=False)
    among = products[chosen]
    np.fill_diagonal(among, -1)
    assert np.allclose(others.similarity[chosen], among.max(1), atol=1e-6)
    apart = np.setdiff1d(rest, chosen)
    assert others.place[apart].tolist() == found.place[apart].tolist()
    assert nearest(vectors, []).place.tolist() == [-1] * 2000
    assert nearest(vectors, [5], itself=False).place[5] == -1


def test_rows_are_brought_to_length_one():
    rows = np.array([[3.0, 4.0], [0.0, 0.0], [1e-300, 0.0], [1e300, 1e300]])
    assert np.allclose(unit_rows(rows), [[0.6, 0.8], [0, 0], [1, 0], [0.5**0.5, 0.5**0.5]])
