"""Mixes of temperatures: how many instructions each way of drawing gets, and which draw is whose."""

from __future__ import annotations

import pytest

from fairlead.engines.base import Sampling
from fairlead.synthesis.magpie_draws import MIXES, Draws


@pytest.mark.parametrize(("name", "total"), [("air", 3_000_000), ("pro", 1_000_000)])
def test_the_papers_mixes_add_up(name, total):
    draws = Draws.of(name, Sampling(), 64)
    assert draws.counts(total) == tuple(weight for *_, weight in MIXES[name])
    assert sum(draws.counts(total)) == total
    assert len(MIXES[name]) == {"air": 12, "pro": 4}[name]


def test_counts_are_those_of_the_numbers():
    draws = Draws.of(((1.0, 1.0, 4), (1.2, 0.9, 2), (1.5, 0.8, 6)), Sampling(), 5)
    assert draws.cycle == (0, 0, 1, 2, 2, 2)
    for total in (0, 4, 17):
        ways = [draws.way_of(number) for number in range(total)]
        assert draws.counts(total) == tuple(ways.count(way) for way in range(3))


def test_every_number_has_a_draw_of_its_own():
    draws = Draws.of("pro", Sampling(), 16)
    places = [draws.place(number) for number in range(200)]
    assert len(set(places)) == 200
    for (block, way), members in draws.grouped(range(200)).items():
        assert [rank for _, rank in members] == list(range(len(members)))
        assert {(places[position].block, places[position].way) for position, _ in members} == {(block, way)}


def test_requests_have_seeds_of_their_own():
    draws = Draws.of("pro", Sampling(max_tokens=9), 16)
    asked = [draws.sampling_of(block, way, 3, turn) for block in range(50) for way in range(4) for turn in range(2)]
    other = [Draws.of("pro", Sampling(seed=1), 16).sampling_of(block, 0, 3) for block in range(50)]
    assert len({one.seed for one in [*asked, *other]}) == 450
    assert {(one.temperature, one.top_p) for one in asked} == {(t, p) for t, p, _ in MIXES["pro"]}
    assert {(one.n, one.max_tokens) for one in asked} == {(3, 9)}
    assert all(0 <= one.seed < 2**31 for one in asked)
