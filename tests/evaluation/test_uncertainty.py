"""Uncertainty of ensembles: careful values of answers, the reference, guarantees over splits, what is refused."""

from __future__ import annotations

import math
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import pytest
from known import BASE, TUNED, Count, Silent, rows

from fairlead.engines.base import Sampling
from fairlead.errors import UnknownNameError, UsageError
from fairlead.evaluation.uncertainty import Uncertainty
from fairlead.rewards.base import Rewards

SAMPLED = Sampling(max_tokens=30)


@dataclass(frozen=True)
class Noisy:
    """Counts "aye" with an offset per prompt and with noise of its own."""

    seed: int
    noise: float = 0.5
    offset: float = 0.0

    def __call__(self, prompts, completions) -> Rewards:
        count = Count("aye")(prompts, completions).values
        place = [len(prompt[-1]["content"]) + self.seed for prompt in prompts]
        rngs = [np.random.default_rng([self.seed, crc32(f"{p} {c}".encode())]) for p, c in zip(prompts, completions)]
        noise = np.array([rng.normal() for rng in rngs])
        values = count + self.offset * np.array(place) + self.noise * noise
        return Rewards(values, np.zeros(len(count), dtype=bool))


NOISY = (Noisy(1), Noisy(2), Noisy(3))


def test_values_are_those_of_the_members():
    engines, records = {"base": BASE, "tuned": TUNED}, rows(30)
    members = (Count("aye"), Count("nay"))
    report = Uncertainty(members, sampling=SAMPLED)(engines, records)
    for row in report.rows:
        assert row["worst"] <= row["lcb"] + row["sd"] == pytest.approx(row["mean"])
        assert row["penalised"] == pytest.approx(
            row["mean"] - row["sd"] ** 2 / 4
        )  # two members: half of half of M - 1's
    assert "total" not in report.summary["base"]
    assert "coverage" not in report.summary["base"]


def test_a_reference_takes_the_offsets_of_prompts_away():
    engines, records = {"base": BASE, "tuned": TUNED}, rows(40)
    plain, offset = (
        Uncertainty(tuple(Noisy(i, 0.0, size) for i in (1, 2)), reference="base", sampling=SAMPLED)(engines, records)
        for size in (0.0, 7.0)
    )
    for one, two in zip(plain.rows, offset.rows, strict=True):
        assert one["mean"] == pytest.approx(two["mean"])
        assert two["sd"] == pytest.approx(0, abs=1e-9)
    assert plain.summary["base"]["mean"].value == 0
    assert plain.summary["tuned"]["epistemic"].value == pytest.approx(0, abs=1e-12)
    assert "total" not in plain.summary["base"]


def test_doubt_is_about_being_better_than_the_reference():
    report = Uncertainty(NOISY, reference="base", sampling=SAMPLED)({"base": BASE, "tuned": TUNED}, rows(40))
    found = report.summary["tuned"]
    assert found["total"].value == pytest.approx(found["aleatoric"].value + found["epistemic"].value)
    assert 0 < found["epistemic"].value < found["total"].value < math.log(2)


def test_guarantees_hold_over_200_splits():
    report = Uncertainty(NOISY, truth=Count("aye"), aligned_from=2.0, mistake_rate=0.2, sampling=SAMPLED)(
        {"tuned": TUNED}, rows(400)
    )
    found = report.summary["tuned"]
    assert 0.9 - 0.01 <= found["coverage"].value <= 0.9 + 1 / 201 + 0.01
    assert found["coverage"].low < found["coverage"].value < found["coverage"].high
    assert found["mistakes"].value <= 0.2 + 0.01
    assert found["power"].value > 0.5
    errors = [row["error"] for row in report.rows]
    assert found["half_width"].value == pytest.approx(np.quantile(errors, 0.9), rel=0.1)
    assert report.rows[0]["error"] == pytest.approx(abs(report.rows[0]["truth"] - report.rows[0]["mean"]))


def test_what_is_shown_does_no_more_harm_than_allowed():
    report = Uncertainty(NOISY, truth=Count("aye"), aligned_from=2.0, harm_rate=0.2, sampling=SAMPLED)(
        {"tuned": TUNED}, rows(400)
    )
    found = report.summary["tuned"]
    assert 0.2 - 2 / 201 - 0.02 <= found["harm"].value <= 0.2 + 0.01
    assert found["shown"].value > found["harm"].value + 0.2


def test_chances_of_being_better_are_scored_against_the_truth():
    engines, records = {"base": BASE, "tuned": TUNED}, rows(300)
    members = tuple(Noisy(i, 0.1) for i in (1, 2, 3))
    report = Uncertainty(members, truth=Count("aye"), reference="base", sampling=SAMPLED)(engines, records)
    found = report.summary["tuned"]
    told = [row for row in report.rows if row["engine"] == "tuned"]
    known = [row for row in told if row["better"] is not None]
    assert 0 < len(known) < len(told) == 300
    for row in known:
        assert row["brier"] == pytest.approx((row["chance"] - row["better"]) ** 2)
        assert row["nll"] == pytest.approx(-math.log(row["chance"] if row["better"] else 1 - row["chance"]))
        assert row["better"] == (row["truth"] > 0)
    assert (found["brier"].n, found["nll"].n, found["ece"].n) == (len(known),) * 3
    assert found["brier"].value < 0.1 < 0.25
    assert any(f"{300 - len(known)} answers are as good as the reference's" in note for note in report.notes)
    assert "calibration" in report.figures
    assert not {"brier", "ece"} & report.summary["base"].keys()


def test_members_on_other_scales_agree_once_standardised():
    @dataclass(frozen=True)
    class Times:
        factor: float

        def __call__(self, prompts, completions) -> Rewards:
            found = Noisy(1)(prompts, completions)
            return Rewards(self.factor * found.values, found.abstained)

    def found(**changes):
        sampling = Sampling(max_tokens=30, n=3)
        evaluator = Uncertainty((Times(1.0), Times(100.0)), reference="base", sampling=sampling, **changes)
        return evaluator({"base": BASE, "tuned": TUNED}, rows(20)).summary["tuned"]

    assert found()["sd"].value > 10
    assert found(standardise=True)["sd"].value == pytest.approx(0, abs=1e-9)
    assert found(standardise=True)["epistemic"].value == pytest.approx(0, abs=1e-9)


def test_too_few_prompts_are_said():
    report = Uncertainty(NOISY, truth=Count("aye"), sampling=SAMPLED)({"tuned": TUNED}, rows(8))
    assert report.summary["tuned"]["coverage"].value == 1.0
    assert math.isnan(report.summary["tuned"]["half_width"].value)
    assert "infinite" in report.notes[0]
    report = Uncertainty(NOISY, truth=Silent(), sampling=SAMPLED)({"tuned": TUNED}, rows(8))
    assert report.summary["tuned"]["coverage"].n == 0
    assert "too few" in report.notes[0]


def test_answers_without_a_value_are_left_out_and_counted():
    members = (Count("aye"), Count("aye", silent="nay"))
    report = Uncertainty(members, sampling=SAMPLED)({"tuned": TUNED}, rows(40))
    absent = sum(row["mean"] is None for row in report.rows)
    assert 0 < absent < 40
    assert report.summary["tuned"]["lcb"].n == 40 - absent
    assert report.notes[0].startswith(f"tuned: {absent} answers have no value")


def test_what_cannot_be_measured_is_an_error():
    with pytest.raises(UsageError, match="two"):
        Uncertainty((Silent(),))
    with pytest.raises(UsageError, match="truth"):
        Uncertainty(NOISY, aligned_from=1.0)
    with pytest.raises(UnknownNameError, match="base"):
        Uncertainty(NOISY, reference="bass")({"base": BASE}, rows(2))
    with pytest.raises(UsageError, match="standardise needs a reference"):
        Uncertainty(NOISY, standardise=True)
    with pytest.raises(UsageError, match="two answers or more"):
        Uncertainty(NOISY, reference="base", standardise=True)({"base": BASE}, rows(2))
    for bad in ({"alpha": 0.0}, {"harm_rate": 1.0}, {"mistake_rate": 1.0}, {"calibration_share": 1.0}, {"splits": 0}):
        with pytest.raises(UsageError, match=next(iter(bad))):
            Uncertainty(NOISY, **bad)
