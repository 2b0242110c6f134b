"""Folded rows: what their products promise, how long they are, and rows that are kept in chunks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fairlead.selection import folding
from fairlead.selection.filtering import unit_rows
from fairlead.selection.folding import Shelf, folded, head_of


def test_the_product_of_folded_rows_is_never_below_the_cosine():
    draw = np.random.default_rng(0).standard_normal((300, 200)) * np.linspace(0.1, 2, 200)
    units = torch.from_numpy(unit_rows(draw + 0.2))
    short = folded(units, 63)
    assert short.shape == (300, 64)
    assert torch.allclose(short.norm(dim=1), torch.ones(300, dtype=torch.float64))
    assert bool((short @ short.T >= units @ units.T - 1e-12).all())


@pytest.mark.parametrize(
    ("size", "limit", "head"),
    [(384, 0.9, 95), (768, 0.9, 191), (384, 0.8, 191), (384, 0.5, 0), (64, 0.9, 0), (384, 1, 31)],
)
def test_how_many_numbers_a_folded_row_holds(size, limit, head):
    assert head_of(size, limit) == head


@pytest.mark.parametrize("head", [31, 0])
def test_rows_come_back_as_they_were_added(head, monkeypatch):
    monkeypatch.setattr(folding, "CHUNK", 10)
    units = torch.from_numpy(unit_rows(np.random.default_rng(0).standard_normal((25, 128)))).float()
    shelf = Shelf(128, head, torch.float32, "cpu")
    for start, stop in ((0, 3), (3, 22), (22, 25)):
        shelf.add(shelf.like(np.arange(start, stop), units[start:stop], head))
    chunks = list(shelf.chunks())
    assert [len(chunk.rows) for chunk in chunks] == [10, 10, 5]
    assert np.concatenate([chunk.rows for chunk in chunks]).tolist() == list(range(25))
    assert torch.equal(torch.cat([chunk.whole for chunk in chunks]), units)
    for chunk in chunks:
        assert chunk.short is None if head == 0 else torch.equal(chunk.short, folded(chunk.whole, head))


def test_rows_that_come_unfolded_end_the_folding():
    units = torch.eye(4, 128)
    shelf = Shelf(128, 31, torch.float32, "cpu")
    shelf.add(shelf.like(np.arange(2), units[:2], 31))
    shelf.add(shelf.like(np.arange(2, 4), units[2:], 0))
    (chunk,) = shelf.chunks()
    assert (chunk.short, torch.equal(chunk.whole, units)) == (None, True)
    block = shelf.like(np.arange(4), units, 31)
    assert block.taken(np.arange(4)) is block
    assert block.taken(np.array([3, 1])).rows.tolist() == [3, 1]
