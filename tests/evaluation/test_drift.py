"""KL estimates against exact values, log-prob shifts against arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from known import BASE, END, TUNED, Unigram, rows

from fairlead.engines.base import Sampling
from fairlead.errors import EngineError, UnsupportedError, UsageError
from fairlead.evaluation.drift import Drift


def exact(policy: Unigram, base: Unigram, limit: int) -> tuple[float, float]:
    """KL per answer (answers end by END or at `limit` tokens) and per token, by arithmetic."""
    token = sum(math.exp(policy.log_p(w)) * (policy.log_p(w) - base.log_p(w)) for w in policy.weights)
    going_on = 1 - math.exp(policy.log_p(END))
    return token * sum(going_on**t for t in range(limit)), token


@pytest.mark.parametrize("limit", [3, 40])
def test_estimates_meet_the_exact_kl(limit):
    report = Drift("base", Sampling(max_tokens=limit, n=2))({"base": BASE, "tuned": TUNED}, rows(1500))
    answer, token = exact(TUNED, BASE, limit)
    found = report.summary["tuned"]
    assert found["kl"].value == pytest.approx(answer, rel=0.12)
    assert found["kl_k3"].value == pytest.approx(answer, rel=0.06)
    assert found["kl_token"].value == pytest.approx(token, rel=0.12)
    assert found["kl_token_k3"].value == pytest.approx(token, rel=0.04)
    for axis, truth in (("kl", answer), ("kl_k3", answer), ("kl_token", token), ("kl_token_k3", token)):
        width = found[axis].high - found[axis].low
        assert found[axis].low - width < truth < found[axis].high + width
    assert all(row["kl_k3"] >= 0 for row in report.rows)


def test_a_cut_answer_counts_without_the_end():
    endless = Unigram({"aye": 1.0, "nay": 1e-12, END: 1e-12})
    report = Drift("base", Sampling(max_tokens=4))({"base": BASE, "endless": endless}, rows(3))
    assert [row["tokens"] for row in report.rows] == [4, 4, 4]
    assert report.summary["endless"]["kl"].value == pytest.approx(4 * -BASE.log_p("aye"), rel=1e-5)


def test_no_drift_from_its_double():
    found = Drift("base")({"base": BASE, "double": BASE}, rows(10)).summary["double"]
    assert all(e.value == e.low == e.high == 0 for e in found.values())


def test_given_completions_shift_by_their_log_ratio():
    records = rows(6, kind="preference", chosen="aye aye", rejected=[{"role": "assistant", "content": "nay"}])
    report = Drift("base")({"base": BASE, "tuned": TUNED}, records)
    gap = {word: TUNED.log_p(word) - BASE.log_p(word) for word in ("aye", "nay", END)}
    found = report.summary["tuned"]
    assert found["chosen_shift"].value == pytest.approx((2 * gap["aye"] + gap[END]) / 3, abs=1e-6)
    assert found["rejected_shift"].value == pytest.approx((gap["nay"] + gap[END]) / 2, abs=1e-6)
    assert {row["part"] for row in report.rows} == {"sample", "chosen", "rejected"}


@dataclass(frozen=True)
class Mute(Unigram):
    def logprobs(self, prompts, completions):
        raise UnsupportedError("this server gives no log-probs")


def test_an_engine_without_log_probs_is_unknown_and_a_base_without_them_an_error():
    mute = Mute(TUNED.weights)
    report = Drift("base")({"base": BASE, "mute": mute, "tuned": TUNED}, rows(4))
    assert math.isnan(report.summary["mute"]["kl"].value)
    assert "mute" in report.notes[0]
    assert np.isfinite(report.summary["tuned"]["kl"].value)
    with pytest.raises(UnsupportedError, match="base engine mute"):
        Drift("mute")({"base": BASE, "mute": mute}, rows(4))


@dataclass(frozen=True)
class Doubled(Unigram):
    def logprobs(self, prompts, completions):
        return [np.repeat(row, 2) for row in super().logprobs(prompts, completions)]


def test_other_tokens_are_an_error():
    with pytest.raises(EngineError, match="share tokenizer"):
        Drift("base")({"base": BASE, "other": Doubled(TUNED.weights)}, rows(2))


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0},
        {"top_p": 0.9},
        {"top_k": 5},
        {"stop": ("x",)},
        {"min_p": 0.1},
        {"repetition_penalty": 1.1},
        {"logit_bias": {5: 1.0}},
        {"min_tokens": 2},
    ],
)
def test_only_plain_sampling_estimates_kl(fields):
    (name,) = fields
    with pytest.raises(UsageError, match=f"policy itself, and sets {name}"):
        Drift("base", Sampling(**fields))
    assert Drift("base", Sampling(max_tokens=5, n=2, seed=3, logprobs=True)).sampling.n == 2
