"""Heuristics: weighted sums, bounds that hold under negative weights, standard scores, the order of what is known."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

import fairlead
from fairlead.decoding.heuristics import Heuristic, Scorer, standardised
from fairlead.decoding.hypotheses import likeliest, rank
from fairlead.engines import Sampling
from fairlead.errors import DataError, UsageError

WORDS = {"name": "keywords", "words": ["salt", "tea"]}
SHORT = {"name": "length_limit", "at_most": 4}
TEXT = "Salt and more salt, then tea, then so much more of it all."


def test_a_weighted_sum():
    scorer = Scorer([Heuristic(WORDS, 2.0), Heuristic(SHORT, -1.0, mean=0.5, scale=0.25), Heuristic("harbor", 0.0)])
    values = scorer.values(["", ""], ["salt", "one two three four five"])
    assert values == pytest.approx([2 * 0.5 - (1 - 0.5) / 0.25, 0 - (0.75 - 0.5) / 0.25])
    assert scorer.serve([("", "salt")]) == pytest.approx([1 - 2])
    assert scorer.bounded


def test_bounds_hold_whatever_the_signs():
    for weights in [(1, 1), (1, -1), (-2, 0.5), (-1, -1)]:
        scorer = Scorer([Heuristic(WORDS, weights[0], 0.1, 0.3), Heuristic(SHORT, weights[1], -2, 7)])
        (final,) = scorer.values([""], [TEXT])
        for low, high in scorer.bounds("", [TEXT[:count] for count in range(len(TEXT) + 1)]):
            assert low <= final <= high


def test_a_reward_without_bounds_has_none():
    scorer = Scorer([Heuristic(WORDS), Heuristic("harbor_proxy", -1.0)])
    assert not scorer.bounded
    assert scorer.bounds("", ["salt and "]) == [(-np.inf, np.inf)]


def test_standard_scores():
    engine = fairlead.engine("harbor:base-300k")
    prompts = [[{"role": "user", "content": f"what is {a} plus 3?"}] for a in range(1, 7)]
    sampling = Sampling(max_tokens=16, n=3)
    given = [Heuristic({"name": "harbor_proxy", "proxy": "length"}, 2.0), Heuristic(SHORT)]
    found = standardised(given, engine, prompts, sampling)
    said = [c.text for row in engine.generate(prompts, sampling) for c in row]
    for heuristic, weight in zip(found, (2.0, 1.0)):
        values = Scorer([heuristic]).values(prompts * 3, said) / weight
        assert (values.mean(), values.std()) == pytest.approx((0, 1))
    with pytest.raises(DataError, match="apart"):
        standardised([Heuristic({"name": "keywords", "words": ["zzz"]})], engine, prompts, sampling)


def test_what_makes_no_sense():
    for fields in ({"scale": 0.0}, {"weight": float("nan")}, {"mean": float("inf")}):
        with pytest.raises(UsageError, match="finite"):
            Heuristic("harbor", **fields)
    with pytest.raises(DataError, match="what is love"):
        Scorer([Heuristic("harbor")]).values(["what is love?"], ["baby"])


def test_the_order_of_what_is_partly_known():
    assert rank([(0, 0), (1, 1), (1, 1)], 1) == ([1], [])
    assert rank([(0, 0), (1, 1), (1, 1)], 2) == ([1, 2], [])
    assert rank([(0, 2), (1, 1)], 1)[1] == [0, 1]
    assert rank([(1, 2), (1, 1)], 1) == ([0], [])  # even at its worst it is an equal that comes first
    assert rank([(1, 1), (1, 2)], 1)[1] == [0, 1]
    assert rank([(0, 1), (3, 5), (4, 6)], 2) == ([2, 1], [1, 2])


def test_no_certainty_is_ever_wrong():
    rng = random.Random(0)
    for _ in range(300):
        values = [rng.randint(0, 4) for _ in range(rng.randint(1, 6))]
        bounds = [(v - rng.randint(0, 2), v + rng.randint(0, 2)) for v in values]
        keep = rng.randint(1, 3)
        best = sorted(range(len(values)), key=lambda i: (-values[i], i))[:keep]
        alive, unsure = rank(bounds, keep)
        assert set(best) <= set(alive)
        if not unsure:
            assert alive == best
        assert rank([(v, v) for v in values], keep) == (best, [])


def test_the_likeliest_tokens_are_in_order_even_among_equals():
    logits = torch.tensor([[0.0, 3.0, 1.0, 3.0, 3.0], [5.0, 4.0, 3.0, 2.0, 1.0], [1.0] * 5])
    tops = likeliest(logits, 2)
    assert [[token for token, _ in top] for top in tops] == [[1, 3], [0, 1], [0, 1]]
    wanted = torch.log_softmax(logits, -1)
    for row, top in enumerate(tops):
        assert [logprob for _, logprob in top] == pytest.approx([float(wanted[row, token]) for token, _ in top])
    assert [token for token, _ in likeliest(logits, 9)[0]] == [1, 3, 4, 2, 0]
