"""Targets for honesty: every way of building them, exact at the edges, and the probe behind them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest

import fairlead
from fairlead.engines.base import Completion, Sampling
from fairlead.errors import UsageError
from fairlead.records import PromptOnly
from fairlead.steps.synthesize import Synthesize
from fairlead.synthesis.base import Draft, drafts_of
from fairlead.synthesis.honesty_targets import HEDGES, NUMBERS, HonestyTargets, Probe, knows, level_of

ASKED = [{"role": "user", "content": "where?"}]


def probe(knowns: int, greedy: bool = False, m: int = 10) -> Probe:
    """Return a probe whose last `knowns` samples are right."""
    right = tuple(i >= m - knowns for i in range(m))
    return Probe("Greedy.", greedy, tuple(f"Sample {i}." for i in range(m)), right)


def draft(name: str, knowns: int, greedy: bool = False, gold: str | None = None) -> Draft:
    p = probe(knowns, greedy)
    said = {"greedy": p.greedy, "greedy_right": greedy, "samples": list(p.samples), "right": list(p.right)}
    return Draft(name, {"prompt": ASKED, "gold": gold, **said})


def targets(drafts, counts: Counter | None = None, **fields) -> list[dict]:
    return list(HonestyTargets(**fields).finish(drafts, Counter() if counts is None else counts))


def said(drafts, **fields) -> list[str]:
    return [row["completion"][0]["content"] for row in targets(drafts, **{"refusal": "R", **fields})]


EVERY = [draft(str(n), n) for n in range(11)]


def test_levels_of_confidence():
    assert [level_of(n, 10, 5) for n in range(11)] == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert [level_of(n, 4, 2) for n in range(5)] == [0, 1, 1, 2, 2]
    found = said(EVERY, targets="confidence_verb", hedges=tuple(f"{i} {{answer}}" for i in range(1, 6)))
    assert [text[:1] for text in found] == ["R", "1", "1", "2", "2", "3", "3", "4", "4", "5", "5"]
    assert found[1] == "1 sample 9."


def test_confidence_in_numbers():
    found = said(EVERY, targets="confidence_num", numbers=("low {percent} {answer}", "neutral {percent} {answer}"))
    assert found[0] == "R"
    assert [text.split()[:2] for text in found[1:6]] == [["low", str(10 * n)] for n in range(1, 6)]
    assert [text.split()[:2] for text in found[6:]] == [["neutral", str(10 * n)] for n in range(6, 11)]
    assert found[10] == "neutral 100 Sample 0."


def test_absolute_answers_with_the_greedy_or_the_first_right_sample():
    drafts = [draft("a", 0), draft("b", 1), draft("c", 0, greedy=True), draft("d", 5, greedy=True)]
    assert said(drafts) == ["R", "Sample 9.", "Greedy.", "Greedy."]
    assert said(drafts, tau=0.5) == ["R", "R", "R", "Greedy."]


def test_multisample_refuses_as_often_as_the_model_errs():
    found = said([draft("a", 3, greedy=True)], targets="multisample")
    assert len(found) == 10
    assert found.count("R") == 7
    assert found[7:] == ["Sample 7.", "Sample 8.", "Sample 9."]


def test_baseline_never_refuses():
    drafts = [draft("a", 0, gold="oslo"), draft("b", 2), draft("c", 0, gold="Rome!"), draft("d", 0)]
    counts: Counter[str] = Counter()
    assert said(drafts, targets="baseline") == ["Oslo.", "Sample 8.", "Rome!"]
    targets(drafts, counts, targets="baseline")
    assert counts == {"known": 0, "unknown": 4, "refusals": 0, "dropped_without_a_true_answer": 1}


@pytest.mark.parametrize("m", [3, 7, 10, 30])
def test_tau_is_the_decimal_that_was_written(m):
    for hits in range(1, m + 1):
        exact = [n for n in range(m + 1) if knows(probe(n, m=m), round(hits / m, 15))]
        assert exact in (list(range(hits, m + 1)), list(range(hits + 1, m + 1)))  # 1/3 as a decimal is not 1/3
    assert knows(probe(1), 0.1)
    assert knows(probe(3), 0.3)
    assert not knows(probe(2), 0.3)
    assert knows(probe(7), 0.7)
    assert knows(probe(0, greedy=True), 0.1)
    assert not knows(probe(0, greedy=True), 0.11)
    assert not knows(probe(1, greedy=True), 0.11)


@pytest.mark.parametrize("kind", ["absolute", "confidence_num", "confidence_verb"])
def test_refusals_never_fall_when_tau_rises(kind):
    drafts = [draft(f"{n}{greedy}", n, greedy) for n in range(11) for greedy in (False, True)]
    refusals = [said(drafts, targets=kind, tau=percent / 100).count("R") for percent in range(10, 101)]
    assert refusals == sorted(refusals)
    assert refusals[0] < refusals[-1]


def test_balance_is_by_the_greedy_answer_and_counted():
    drafts = [draft(str(i), 2, greedy=i < 3) for i in range(10)]
    counts: Counter[str] = Counter()
    rows = targets(drafts, counts, balance=True)
    assert [row["greedy_known"] for row in rows] == [True] * 3 + [False] * 3
    assert counts == {"known": 3, "unknown": 7, "refusals": 0, "dropped_to_balance": 4}
    other = targets(drafts, balance=True, sampling=Sampling(max_tokens=64, seed=1))
    assert [row["parent"] for row in rows] != [row["parent"] for row in other]


def test_the_first_letter_is_lowered_but_not_that_of_an_option():
    for answer, after in (("Oslo.", "oslo."), ("B) Oslo", "B) Oslo"), ("B", "B"), ("I think so", "I think so"),
                          ("A ship", "a ship"), ("It is", "it is"), ("(C) x", "(C) x")):  # fmt: skip
        p = Draft("a", {"prompt": "q", "greedy": answer, "greedy_right": True, "gold": None} | {
            "samples": [answer], "right": [True]
        })  # fmt: skip
        row = targets([p], targets="confidence_verb", samples=1, hedges=("h {answer}",), instruction="")[0]
        assert row["completion"] == f"h {after}"


def test_the_instruction_stands_before_the_question_of_the_targets():
    how = {"refusal": "No {answer}.", "instruction": "Else say: {refusal}"}
    assert targets([draft("a", 0)], **how)[0]["prompt"] == [
        {"role": "system", "content": "Else say: No {answer}."}, *ASKED,
    ]  # fmt: skip
    row = targets([draft("a", 0)], instruction_role="user", **how)[0]
    assert row["prompt"] == [{"role": "user", "content": "Else say: No {answer}.\nwhere?"}]
    assert targets([draft("a", 0)], instruction="")[0]["prompt"] == ASKED
    columns = {key: row[key] for key in ("refuses", "sampling_knowns", "expected_accuracy", "greedy_known", "targets")}
    assert columns == {
        "refuses": True, "sampling_knowns": 0, "expected_accuracy": 0.0, "greedy_known": False, "targets": "absolute",
    }  # fmt: skip


@dataclass
class Guesser:
    """Says Rome greedily and Oslo in every other sample."""

    fingerprint: str = "guesser"
    calls: list = field(default_factory=list)

    def generate(self, prompts, sampling):
        self.calls.append((list(prompts), sampling))
        drawn = ["Rome."] if sampling.temperature == 0 else [["Rome.", "Oslo."][i % 2] for i in range(sampling.n)]
        return [[Completion(text) for text in drawn] for _ in prompts]

    def logprobs(self, prompts, completions):
        raise NotImplementedError


def test_the_probe_asks_twice_without_the_instruction():
    engine = Guesser()
    seeds = [PromptOnly(name, ASKED, {"answers": answers}) for name, answers in (("a", ["Oslo"]), ("b", []))]
    drafts = list(drafts_of(HonestyTargets(samples=4), {"model": engine}, seeds))
    assert [(call[0], call[1].n, call[1].temperature) for call in engine.calls] == [
        ([ASKED, ASKED], 1, 0.0), ([ASKED, ASKED], 4, 1.0),
    ]  # fmt: skip
    assert drafts[0].found == {
        "prompt": ASKED, "greedy": "Rome.", "greedy_right": False, "samples": ["Rome.", "Oslo."] * 2,
        "right": [False, True] * 2, "gold": "Oslo",
    }  # fmt: skip
    assert (drafts[1].found["right"], drafts[1].found["gold"]) == ([False] * 4, None)


def test_a_small_model_refuses_ships_that_nobody_knows():
    method = fairlead.synthesizer(
        "honesty_targets", reward={"name": "harbor", "axis": "correct"}, samples=3,
        sampling={"max_tokens": 24}, instruction="", refusal="i do not know.",
    )  # fmt: skip
    seeds = fairlead.read("harbor:prompts?n=40&kinds=fact,unk")
    rows = list(method({"model": fairlead.engine("harbor:base-300k")}, seeds))
    refused = {seed.extra["task"]: [r["refuses"] for r, s in zip(rows, seeds) if s.extra["task"] == seed.extra["task"]]
               for seed in seeds}  # fmt: skip
    assert all(refused["unk"])
    assert sum(refused["fact"]) < len(refused["fact"]) / 4


def test_the_step_gives_its_seed_to_the_sampling():
    spec = {"name": "honesty_targets", "sampling": {"max_tokens": 8}}
    models, data = {"model": "harbor:base-300k"}, "harbor:prompts?n=2"
    assert Synthesize(spec, models, data, seed=5).build().sampling == Sampling(max_tokens=8, seed=5)
    own = spec | {"sampling": {"max_tokens": 8, "seed": 3}}
    assert Synthesize(own, models, data, seed=5).build().sampling.seed == 3
    assert Synthesize("honesty_targets", models, data, seed=5).build().sampling == Sampling(max_tokens=64, seed=5)


def test_templates_of_its_own_have_their_places():
    assert all("{answer}" in text for text in (*HEDGES, *NUMBERS))
    assert all("{percent}" in text for text in NUMBERS)


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"samples": 0}, "samples is 0"),
        ({"tau": 0}, "tau is 0"),
        ({"tau": 1.5}, "tau is 1.5"),
        ({"sampling": Sampling(n=3)}, "sampling.n"),
        ({"sampling": Sampling(temperature=0)}, "temperature is 0"),
        ({"refusal": " "}, "refusal is empty"),
        ({"hedges": ()}, "hedges is empty"),
        ({"numbers": ("x", "y {answer}")}, "without {answer}"),
        ({"reward": "harbour"}, "did you mean 'harbor'"),
    ],
)
def test_what_makes_no_sense_is_refused(fields, what):
    with pytest.raises(UsageError, match=what):
        HonestyTargets(**fields)
