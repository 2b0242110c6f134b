"""The branching factor of engines whose next tokens are known, and of Harbor's models."""

from __future__ import annotations

import math

import numpy as np
import pytest
from known import END, Row, Unigram, rows

import fairlead
from fairlead.engines.base import Sampling
from fairlead.engines.distributions import View
from fairlead.errors import UnknownNameError, UnsupportedError, UsageError
from fairlead.evaluation.branching_factor import BranchingFactor

PLAIN = Sampling(temperature=1.0, top_p=1.0, n=6, max_tokens=20)
EVEN = Unigram({**{f"w{i}": 1.0 for i in range(7)}, END: 1.0})
SURE = Unigram({"aye": 1.0, END: 1e-12})


def test_eight_equal_tokens_and_one_sure_token():
    report = BranchingFactor(base="even", sampling=PLAIN, window=2)({"even": EVEN, "sure": SURE}, rows(10))
    for axis in ("bf", "bf_entropy", "bf_nll", "bf_rate", "bf_first", "bf_window"):
        assert report.summary["even"][axis].value == pytest.approx(8, rel=1e-5), axis
        assert report.summary["sure"][axis].value == pytest.approx(1, rel=1e-5), axis
    for ratio in ("ratio", "ratio_first", "ratio_window"):
        assert report.summary["sure"][ratio].value == pytest.approx(8, rel=1e-5)
    assert "ratio" not in report.summary["even"]
    assert report.summary["even"]["log_gap"].value == pytest.approx(0, abs=1e-6)
    assert report.summary["even"]["kept"].value == 8


def test_the_nucleus_and_the_temperature_make_the_distribution():
    weights = dict(zip(("a", "b", "c", "d", END), (0.5, 0.25, 0.125, 0.0625, 0.0625)))
    found = BranchingFactor(sampling=Sampling(top_p=0.9, n=4, max_tokens=8))({"it": Unigram(weights)}, rows(5))
    assert found.summary["it"]["bf_entropy"].value == pytest.approx(3.117142, abs=1e-5)
    whole = BranchingFactor(sampling=Sampling(top_p=1.0, n=4, max_tokens=8))({"it": Unigram(weights)}, rows(5))
    assert whole.summary["it"]["bf_entropy"].value == pytest.approx(3.668016, abs=1e-5)
    hot = BranchingFactor(sampling=Sampling(temperature=1e4, n=4, max_tokens=8))({"it": Unigram(weights)}, rows(5))
    assert hot.summary["it"]["bf_entropy"].value == pytest.approx(5, abs=1e-3)


def test_a_task_is_the_mean_over_its_prompts():
    report = BranchingFactor(sampling=PLAIN)({"it": Unigram({"a": 3.0, "b": 1.0, END: 1.0})}, rows(12))
    for axis in ("bf", "bf_nll", "total_entropy", "tokens"):
        assert report.summary["it"][axis].value == pytest.approx(np.mean([row[axis] for row in report.rows]))
        assert report.summary["it"][axis].n == 12
    one = report.rows[0]
    assert one["total_entropy"] == pytest.approx(one["tokens"] * one["entropy_at"][0])
    assert one["reached"][0] == one["samples"] == 6
    assert len(one["entropy_at"]) == len(one["reached"])


def test_long_answers_are_told_by_their_likelihood():
    lasting = Unigram({"a": 3.0, "b": 1.0, END: 1e-9})
    for limit, axis in ((50, "bf_entropy"), (51, "bf_nll")):
        sampling = Sampling(temperature=1.0, n=2, max_tokens=limit)
        summary = BranchingFactor(sampling=sampling)({"it": lasting}, rows(6)).summary["it"]
        assert summary["bf"].value == summary[axis].value
        assert summary["bf_entropy"].value != summary["bf_nll"].value
        assert abs(summary["log_gap"].value) < 0.1


def test_what_is_counted_out_is_noted():
    report = BranchingFactor(sampling=Sampling(temperature=1.0, n=4, max_tokens=3, top_p=0.5))(
        {"it": Unigram({"a": 3.0, "b": 1.0, END: 1.0})}, rows(20)
    )
    assert any("answers were cut at the token limit" in note for note in report.notes)
    assert any("tokens lie outside the nucleus" in note for note in report.notes)
    assert report.summary["it"]["bf_entropy"].value == 1
    assert report.summary["it"]["bf_nll"].value > 1


def test_few_samples_have_no_curve():
    titles = {
        n: set(BranchingFactor(sampling=Sampling(temperature=1.0, n=n, max_tokens=9))({"it": EVEN}, rows(5)).figures)
        for n in (3, 4)
    }
    assert titles[4] - titles[3] == {"branching factor of the first tokens", "branching factor along the answer"}


class Mute:
    """Answers, and tells nothing of its distributions."""

    fingerprint = "mute"

    def generate(self, prompts, sampling):
        raise AssertionError("it is not asked before it is known to be of use")


def test_an_engine_without_distributions_is_named_before_any_answer_is_drawn():
    with pytest.raises(UnsupportedError, match="engine mute: is a Mute"):
        BranchingFactor(sampling=PLAIN)({"even": EVEN, "mute": Mute()}, rows(2))
    with pytest.raises(UnknownNameError, match="'bose'"):
        BranchingFactor(base="bose", sampling=PLAIN)({"base": EVEN}, rows(2))


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        ({"sampling": Sampling(temperature=0.0)}, "greedy"),
        ({"sampling": Sampling(min_p=0.1, top_k=5)}, "sets top_k, min_p"),
        ({"sampling": Sampling(repetition_penalty=1.1)}, "repetition_penalty"),
        ({"window": 0}, "window"),
        ({"asymptotic": -1}, "asymptotic"),
        ({"min_samples": 0}, "min_samples"),
        ({"length_quantile": 0.0}, "length_quantile"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, wrong):
    with pytest.raises(UsageError, match=wrong):
        BranchingFactor(**settings)


def test_harbor_models_as_drawn_and_as_read(tmp_path):
    from fairlead.engines.cache import Cache

    names = {"base": "harbor:base-300k", "aligned": "harbor:aligned-300k"}
    engines = {name: Cache(fairlead.engine(model), tmp_path / "answers") for name, model in names.items()}
    records = fairlead.read("harbor:test?n=12")
    sampling = Sampling(temperature=1.0, top_p=0.9, n=4, max_tokens=24)
    report = BranchingFactor(base="base", sampling=sampling)(engines, records)
    assert report.summary["aligned"]["ratio"].low > 1
    assert report.summary["aligned"]["ratio_first"].value > report.summary["aligned"]["ratio"].value
    assert not any("outside" in note for note in report.notes)
    answers = engines["base"].generate([records[0].prompt], sampling)[0]
    told = engines["base"].engine.token_stats([records[0].prompt] * 4, [a.token_ids for a in answers], View(top_p=0.9))
    expected = math.exp(np.mean([one.kept_entropy.mean() for one in told]))
    assert report.rows[0]["bf_entropy"] == pytest.approx(expected, rel=1e-5)


def test_raw_texts_are_read_too():
    engine = fairlead.engine("harbor:base-300k")
    text = Row("t", "question: what is the color of the lutobin? answer:")
    sampling = Sampling(temperature=1.0, n=2, max_tokens=8)
    assert BranchingFactor(sampling=sampling)({"base": engine}, [text]).summary["base"]["bf"].value >= 1


def test_a_thousand_answers_are_read_once():
    counted = []

    class Counting(Unigram):
        def token_stats(self, prompts, answers, view):
            counted.append(len(answers))
            return super().token_stats(prompts, answers, view)

    sampling = Sampling(temperature=1.0, n=4, max_tokens=3)
    BranchingFactor(sampling=sampling)({"it": Counting(EVEN.weights)}, rows(250))
    assert sum(counted) == 1000
    assert len(counted) <= 4
