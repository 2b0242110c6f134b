"""Drafting where engines fail: each seed by itself, the error in its row, asked again next time, and an end to it."""

from __future__ import annotations

import dataclasses

import pytest
from echo_synthesizer import Echo, Parrot

from fairlead.engines.meter import Spent
from fairlead.errors import EngineError, RequestError, UnsupportedError
from fairlead.records import PromptOnly
from fairlead.steps.drafting import Drafter, draft_of, drafts_done, read_spent, tell_spent, write_spent
from fairlead.steps.rows import append_rows, read_rows


class Moody(Parrot):
    """Fails at every prompt that holds one of some words."""

    def __init__(self, *words, error=EngineError):
        super().__init__()
        self.words, self.error = words, error

    def generate(self, prompts, sampling):
        if any(word in prompt for prompt in prompts for word in self.words):
            raise self.error("out of order", place="moody")
        return super().generate(prompts, sampling)


def seeds(*prompts):
    return [PromptOnly(f"s{k}", prompt) for k, prompt in enumerate(prompts)]


def test_a_seed_that_fails_costs_no_other(tmp_path):
    asked = seeds("one", "storm", "two")
    rows = list(Drafter(Echo(), {"model": Moody("storm")}).rows(asked))
    assert [row["error"] for row in rows] == [None, "an engine failed: out of order", None]
    assert [row["failed"] for row in rows] == [False, True, False]
    append_rows(tmp_path / "drafts.jsonl", rows)
    assert len(drafts_done(tmp_path / "drafts.jsonl")) == 2
    append_rows(tmp_path / "drafts.jsonl", Drafter(Echo(), {"model": Moody()}).rows(asked[1:2]))
    done = drafts_done(tmp_path / "drafts.jsonl")
    assert len(done) == 3
    assert draft_of(done[rows[1]["key"]]).found["answers"] == ["storm 0.0", "storm 0.1"]
    assert len(read_rows(tmp_path / "drafts.jsonl")) == 4


def test_a_prompt_that_no_engine_takes_is_not_asked_for_again(tmp_path):
    rows = list(Drafter(Echo(), {"model": Moody("long", error=RequestError)}).rows(seeds("long", "two")))
    assert rows[0]["error"] == "an engine cannot take it: out of order"
    append_rows(tmp_path / "drafts.jsonl", rows)
    assert len(drafts_done(tmp_path / "drafts.jsonl")) == 2


def test_an_engine_that_is_down_stops_the_step():
    drafter = Drafter(Echo(), {"model": Moody("storm")})
    assert len(list(drafter.rows(seeds(*["storm"] * 20)))) == 20
    with pytest.raises(EngineError, match="24 seeds in a row"):
        list(drafter.rows(seeds(*["storm"] * 20)))


def test_what_an_engine_can_never_do_stops_at_once():
    with pytest.raises(UnsupportedError):
        list(Drafter(Echo(), {"model": Moody("one", error=UnsupportedError)}).rows(seeds("one")))


def test_the_key_is_all_that_a_draft_depends_on():
    seed = seeds("one")[0]
    base = Drafter(Echo(), {"model": Parrot()}).key(seed)
    others = [
        Drafter(Echo(), {"model": Parrot("other")}).key(seed),
        Drafter(Echo(dataclasses.replace(Echo().sampling, seed=3)), {"model": Parrot()}).key(seed),
        Drafter(Echo(), {"model": Parrot()}).key(seeds("two")[0]),
        Drafter(Echo(), {"model": Parrot()}).key(dataclasses.replace(seed, extra={"tag": 1})),
    ]
    assert len({base, *others}) == 5
    assert Drafter(Echo(), {"model": Parrot()}).key(seed) == base


def test_what_was_spent_is_kept(tmp_path):
    spent = {"model": Spent(3, 40), "judge": Spent(0, 0, 7) + Spent(1, 2, 3)}
    write_spent(tmp_path, spent)
    assert read_spent(tmp_path) == {"model": Spent(3, 40), "judge": Spent(1, 2, 10)}
    assert tell_spent(spent) == "42 tokens"
    assert tell_spent({}) == ""
