"""Pair accuracy, against figures worked out by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from known import END, Unigram

from fairlead.errors import DataError, UnknownNameError, UnsupportedError, UsageError
from fairlead.evaluation.pair_accuracy import PairAccuracy

LIKES_A = Unigram({"a": 6.0, "b": 1.0, END: 1.0})
FLAT = Unigram({"a": 1.0, "b": 1.0, END: 1.0})


@dataclass(frozen=True)
class Pair:
    id: str
    chosen: object
    rejected: object
    prompt: str = "q"
    kind: str = "preference"


class Silent:
    """An engine that cannot value a given text."""

    fingerprint = "silent"

    def logprobs(self, prompts, completions):
        raise UnsupportedError("no log-probs here")


PAIRS = [
    Pair("1", "a", "b"),  # LIKES_A right; FLAT equal
    Pair(
        "2", "a a a", "b"
    ),  # longer: right; LIKES_A by sum: 4 tokens, 3 ln(3/4) - ln(1/8) > 0, right; FLAT by sum: wrong
    Pair("3", "b", "a a"),  # wrong in length; LIKES_A wrong; FLAT right by sum
    Pair("4", "b", "a"),  # LIKES_A wrong; FLAT equal
]


def test_known_accuracies():
    summary = PairAccuracy(reference="flat")({"flat": FLAT, "fond": LIKES_A}, PAIRS).summary
    assert summary["fond"]["logprob"].value == 0.5
    assert summary["flat"]["logprob"].value == (0.5 + 0 + 1 + 0.5) / 4
    assert summary["flat"]["logprob_per_token"].value == 0.5  # every token alike
    assert summary["length"]["longer"].value == (0.5 + 1 + 0 + 0.5) / 4
    # relative to FLAT each "a" gains ln(9/4), each "b" loses ln(8/3), the end gains the same on both sides
    assert summary["fond"]["implicit_reward"].value == 0.5
    assert summary["fond"]["gain"].value == 0.0
    assert "implicit_reward" not in summary["flat"]


def test_margins_are_nats_and_characters():
    rows = PairAccuracy(reference="flat")({"flat": FLAT, "fond": LIKES_A}, PAIRS[:1]).rows
    fond = next(row for row in rows if row["engine"] == "fond")
    assert fond["logprob_margin"] == pytest.approx(math.log(6), abs=1e-6)
    assert fond["implicit_reward_margin"] == pytest.approx(math.log(6), abs=1e-6)
    assert next(row for row in rows if row["engine"] == "length")["longer_margin"] == 0.0


def test_answers_of_several_turns_are_counted():
    turns = [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]
    one = [{"role": "assistant", "content": "a"}]
    report = PairAccuracy()({"fond": LIKES_A}, [Pair("1", one, "b"), Pair("2", turns, "b")])
    assert report.summary["fond"]["logprob"].n == 1
    assert "1 of 2 pairs are left out" in report.notes[0]


def test_an_engine_without_logprobs_gets_nan_and_a_note():
    report = PairAccuracy(reference="silent")({"silent": Silent(), "fond": LIKES_A}, PAIRS)
    assert math.isnan(report.summary["silent"]["logprob"].value)
    assert "silent: it has no log-probs" in report.notes[0]
    assert "implicit_reward" not in report.summary["fond"]


def test_what_cannot_be_measured_is_an_error():
    with pytest.raises(DataError, match="prompt record holds no pair"):
        PairAccuracy()({"fond": LIKES_A}, [Pair("1", "a", "b", kind="prompt")])
    with pytest.raises(DataError, match="no pair of single answers"):
        PairAccuracy()({"fond": LIKES_A}, [])
    with pytest.raises(UnknownNameError, match="did you mean 'fond'"):
        PairAccuracy(reference="fondd")({"fond": LIKES_A}, PAIRS)
    with pytest.raises(UsageError, match="'length'"):
        PairAccuracy()({"length": LIKES_A}, PAIRS)
