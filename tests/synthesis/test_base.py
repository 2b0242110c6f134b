"""The contract of synthesizers: drafts in turn, rows with their provenance, and what is refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest
from echo_synthesizer import Echo, Parrot

from fairlead.errors import DataError, UnknownNameError, UsageError
from fairlead.records import PromptOnly
from fairlead.synthesis.base import PROVENANCE, Draft, Synthesizer, blank_seeds, drafts_of, rows_of

SEEDS = [PromptOnly("a", "one"), PromptOnly("b", "bad"), PromptOnly("c", "two"), PromptOnly("d", "one")]


def test_rows_name_where_they_come_from():
    rows = list(Echo()({"model": Parrot()}, SEEDS))
    assert [(row["id"], row["completion"]) for row in rows] == [
        ("a-0", "one 0.0"), ("a-1", "one 0.1"), ("c-0", "two 0.0"), ("c-1", "two 0.1"),
    ]  # fmt: skip
    origin = {"parent": "a", "method": "Echo", "models": {"model": "parrot"}, "templates": {}, "seed": 0}
    assert {column: rows[0][column] for column in PROVENANCE} == origin
    assert isinstance(Echo(), Synthesizer)


def test_failed_seeds_and_dropped_rows_are_counted():
    counts: Counter[str] = Counter()
    drafts = list(drafts_of(Echo(), {"model": Parrot()}, SEEDS))
    assert [draft.error for draft in drafts] == [None, "the prompt is bad", None, None]
    assert len(list(rows_of(Echo(), drafts, counts))) == 4
    assert counts == {"failed": 1, "dropped_as_duplicates": 2}


def test_a_method_may_start_from_nothing():
    rows = list(Echo(seedless=True)({"model": Parrot()}, blank_seeds(2)))
    assert [row["completion"] for row in rows] == [
        "begin 000000 0.0", "begin 000000 0.1", "begin 000001 0.0", "begin 000001 0.1",
    ]  # fmt: skip


def test_every_role_wants_its_engine():
    with pytest.raises(UsageError, match="no engine for 'model'"):
        list(Echo()({}, SEEDS))
    with pytest.raises(UnknownNameError, match="did you mean 'model'"):
        list(Echo()({"modle": Parrot()}, SEEDS))


@dataclass(frozen=True)
class Lazy(Echo):
    """Forgets the first seed, or all but the first."""

    forgets: str = "first"
    """Which seeds give no draft."""

    def draft(self, engines, seeds):
        kept = seeds[1:] if self.forgets == "first" else seeds[:1]
        return (Draft(record.id) for record in kept)


@pytest.mark.parametrize(("forgets", "what"), [("first", "'b' out of turn"), ("rest", "1 drafts for 4 seeds")])
def test_a_seed_without_a_draft_is_an_error(forgets, what):
    with pytest.raises(DataError, match=what):
        list(drafts_of(Lazy(forgets=forgets), {"model": Parrot()}, SEEDS))
