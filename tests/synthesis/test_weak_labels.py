"""Weak labels: probabilities from log-probs, hard labels, what is left out, and that the truth is not looked at."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pytest

import fairlead
from fairlead.errors import DataError, UsageError
from fairlead.records.schema import Ranking
from fairlead.synthesis.base import drafts_of, rows_of
from fairlead.synthesis.weak_labels import label_probabilities

SEEDS = [
    Ranking("a", "one", ("no", "yes"), (1.0, 0.0)),
    Ranking("b", "two", ("no", "yes"), (0.0, 1.0), {"truth": 0}),
    Ranking("c", "three", ("no", "yes"), (0.5, 0.5)),
]


@dataclass(frozen=True)
class Weak:
    """Finds `yes` three times as likely as `no`, spread over two tokens; of prompt three, half and half."""

    fingerprint: str = "weak"

    def generate(self, prompts, sampling):
        raise AssertionError("labels are not generated")

    def logprobs(self, prompts, completions):
        chances = [0.5 if p == "three" else {"no": 0.25, "yes": 0.75}[c] for p, c in zip(prompts, completions)]
        return [np.log(np.array([chance, 1.0], dtype=np.float64)) for chance in chances]


def made(seeds=SEEDS, **fields):
    method, counts = fairlead.synthesizer("weak_labels", **fields), Counter()
    return list(rows_of(method, list(drafts_of(method, {"weak": Weak()}, seeds)), counts)), counts


def test_soft_labels_are_the_normalised_logprobs():
    rows, counts = made()
    assert [row["scores"] for row in rows] == [pytest.approx([0.25, 0.75])] * 2 + [pytest.approx([0.5, 0.5])]
    assert [(row["weak"], row["truth"]) for row in rows] == [(1, 0), (1, 0), (0, None)]
    assert counts == {"disagreeing": 2}
    assert rows[0]["completions"] == ["no", "yes"]


def test_hard_labels_and_a_cooler_supervisor():
    assert [row["scores"] for row in made(labels="hard")[0]] == [[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]
    warm = made(temperature=2.0)[0][0]["scores"]
    assert warm == pytest.approx([1 / (1 + 3**0.5), 3**0.5 / (1 + 3**0.5)])
    assert label_probabilities([-2000.0, -1000.0]).tolist() == [0.0, 1.0]


def test_uncertain_items_are_left_out_and_counted():
    rows, counts = made(least_certainty=0.6)
    assert [row["parent"] for row in rows] == ["a", "b"]
    assert counts["dropped_as_uncertain"] == 1


def test_labels_do_not_depend_on_the_truth():
    turned = [replace(seed, scores=seed.scores[::-1], extra={"truth": 1}) for seed in SEEDS]
    assert [row["scores"] for row in made(turned)[0]] == [row["scores"] for row in made()[0]]


@pytest.mark.parametrize("truth", [2, -1, True, "yes"])
def test_a_truth_that_is_no_label_is_named(truth):
    with pytest.raises(DataError, match=r"record a.*truth is"):
        made([replace(SEEDS[0], extra={"truth": truth})])


def test_a_label_of_several_turns_is_refused():
    turns = ({"role": "assistant", "content": "no"}, {"role": "user", "content": "sure?"})
    with pytest.raises(DataError, match="several turns"):
        made([replace(SEEDS[0], completions=(turns, "yes"))])


@pytest.mark.parametrize("fields", [{"temperature": 0.0}, {"least_certainty": 1.0}, {"labels": "warm"}])
def test_bad_fields_are_named(fields):
    with pytest.raises(UsageError, match=next(iter(fields))):
        fairlead.synthesizer("weak_labels", **fields)
