"""The evaluators on real engines: the smallest shipped models, base against aligned."""

from __future__ import annotations

import numpy as np
import pytest

import fairlead


@pytest.fixture(scope="module")
def engines():
    return {name: fairlead.engine(f"harbor:{name}-300k") for name in ("base", "aligned")}


@pytest.fixture(scope="module")
def questions():
    return fairlead.read("harbor:test?n=60")


def evaluate(engines, records, name: str, temperature: float = 0.0, **fields):
    sampling = {"temperature": temperature, "max_tokens": 48}
    return fairlead.evaluator(name, sampling=sampling, **fields)(engines, records)


def test_alignment_gains_reward(engines, questions):
    report = evaluate(engines, questions, "rewards", reward="harbor", axes=["total", "polite"], baseline="base")
    gain = report.summary["aligned"]["total_gain"]
    assert 0.2 < gain.low < gain.value < 1.5


def test_the_aligned_model_wins(engines, questions):
    rate = evaluate(engines, questions, "win_rate", reward="harbor", baseline="base").summary["aligned"]["rate"]
    assert rate.low > 0.5


def test_the_drift_is_that_of_the_engines_own_log_probs(engines, questions):
    pairs = fairlead.read("harbor:preferences?n=12")
    report = evaluate(engines, pairs, "drift", temperature=1.0, base="base")
    prompts, chosen = [p.prompt for p in pairs], [p.chosen[0]["content"] for p in pairs]
    ours, theirs = (engines[name].logprobs(prompts, chosen) for name in ("aligned", "base"))
    expected = sum(float((a - b).sum()) for a, b in zip(ours, theirs)) / sum(len(a) for a in ours)
    found = report.summary["aligned"]
    assert found["chosen_shift"].value == pytest.approx(expected, abs=1e-5)
    assert found["chosen_shift"].value > found["rejected_shift"].value
    assert 0 < found["kl_k3"].value < 30
    again = evaluate({"base": engines["base"], "double": engines["base"]}, questions, "drift", 1.0, base="base")
    assert again.summary["double"]["kl_k3"].value == pytest.approx(0, abs=1e-6)


def test_lengths_are_those_of_the_answers(engines, questions):
    report = evaluate(engines, questions, "length")
    drawn = engines["aligned"].generate([q.prompt for q in questions], fairlead.Sampling(temperature=0, max_tokens=48))
    assert report.summary["aligned"]["words"].value == np.mean([len(group[0].text.split()) for group in drawn])
    assert report.summary["aligned"]["tokens"].value == np.mean([len(group[0].token_ids) for group in drawn])
