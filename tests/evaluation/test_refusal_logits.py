"""The refusal metric of the first token: known values, which tokens tell, and an engine whose chances are known."""

from __future__ import annotations

import math

import pytest
from known import Unigram

from fairlead.evaluation.refusal_logits import first_token_logits, refusal_logit, telling_tokens


def test_the_known_values():
    assert refusal_logit([0.82]) == pytest.approx(1.516347, abs=1e-6)
    assert refusal_logit([0.5, 0.2, 0.05]) == pytest.approx(1.098612, abs=1e-6)
    assert refusal_logit([0.5]) == 0
    assert (refusal_logit([0.0]), -refusal_logit([1.0])) == pytest.approx((math.log(1e-6),) * 2, abs=1e-5)


def test_tokens_that_tell_are_over_represented_among_refusals():
    first = [7, 7, 7, 3, 3, 1, 1, 1, 1, 3]
    refused = [True] * 5 + [False] * 5
    assert telling_tokens(first, refused, 5) == [7, 3]
    assert telling_tokens(first, refused, 1) == [7]
    assert telling_tokens(first, [True] * 10, 5) == []
    assert telling_tokens([], [], 5) == []


def test_the_metric_of_an_engine_whose_chances_are_known():
    engine = Unigram({"sorry": 5.0, "no": 2.0, "yes": 3.0})
    (one, two) = first_token_logits("m", engine, ["a", "b"], [0, 1])
    assert one == two == pytest.approx(refusal_logit([0.5, 0.2]), rel=1e-5)
