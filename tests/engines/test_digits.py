"""Expected scores of digits, and labels as a model and a server tell them."""

from __future__ import annotations

import numpy as np
import pytest

import fairlead
from fairlead.engines.base import Completion, Sampling
from fairlead.engines.digits import expected_score, label_logprobs, told_logprob
from fairlead.errors import UnsupportedError, UsageError

DIGITS = list("123456")
HOW = Sampling(max_tokens=1, top_logprobs=20)
ASKED = [{"role": "user", "content": "how good is it?"}]


@pytest.mark.parametrize(
    ("logits", "score"),
    [
        ([0.3] * 6, 3.5),
        ([0, 1, 2, 3, 4, 5], 5.432932763),
        ([10, 11, 12, 13, 14, 15], 5.432932763),
        ([3, 4, 1, 0, -1, -2], 1.826091582),
    ],
)
def test_expectations_over_six_digits(logits, score):
    assert expected_score(np.array([logits], float))[0] == pytest.approx(score, abs=1e-9)


def test_a_digit_that_is_not_told_has_no_chance():
    assert expected_score(np.array([[-np.inf, 0.0, -np.inf, 0.0, -np.inf, -np.inf]]))[0] == 3.0
    assert np.isnan(expected_score(np.full((1, 6), -np.inf))[0])


def test_a_models_chances_are_those_of_its_next_token():
    engine = fairlead.engine("harbor:base-300k")
    found = label_logprobs(engine, [ASKED, "how good is it? "], DIGITS, HOW)
    assert found.shape == (2, 6)
    assert found[0].tolist() == pytest.approx([float(engine.logprobs([ASKED], [d])[0][0]) for d in DIGITS], abs=1e-5)
    assert np.exp(found).sum(1).max() < 1
    assert label_logprobs(engine, [], DIGITS, HOW).shape == (0, 6)


def test_a_label_of_several_tokens_is_refused():
    with pytest.raises(UsageError, match=r"the label '3 4' is 2 tokens"):
        label_logprobs(fairlead.engine("harbor:base-300k"), [ASKED], ["3 4"], HOW)


class Told:
    """A server that tells its likeliest tokens."""

    remote = True
    fingerprint = "told"

    def logprobs(self, prompts, completions):
        raise UnsupportedError("no log-probs of given texts")

    def generate(self, prompts, sampling):
        assert sampling == HOW
        places = [[{" 4": -0.5, "4": -2.0, "5": -1.5, "the": -1.0}], [{"the": -0.1}], None]
        return [[Completion("4", extra={} if told is None else {"top_logprobs": told})] for told in places]


def test_a_server_tells_its_likeliest_tokens():
    found = label_logprobs(Told(), [ASKED] * 3, DIGITS, HOW)
    assert found[0, 3] == pytest.approx(np.log(np.exp(-0.5) + np.exp(-2)))
    assert found[0, 4] == -1.5
    assert np.isneginf(found[0, :3]).all()
    assert np.isneginf(found[1:]).all()
    assert told_logprob("6", {}) == -np.inf


def test_an_engine_of_this_process_without_log_probs_is_refused():
    engine = Told()
    engine.remote = False
    with pytest.raises(UnsupportedError):
        label_logprobs(engine, [ASKED], DIGITS, HOW)
