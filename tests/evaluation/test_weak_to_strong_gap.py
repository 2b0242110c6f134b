"""The recovered gap: exact values, whose errors a student copies, refusals, and generation under a reward."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import fairlead
from fairlead.engines.base import Completion
from fairlead.errors import DataError, UnknownNameError, UsageError
from fairlead.evaluation.recovery import Resamples, class_means, expected_max, pgr, refusal
from fairlead.evaluation.weak_to_strong_gap import copying
from fairlead.rewards.base import Rewards


@dataclass(frozen=True)
class Item:
    """A ranking record by its shape."""

    id: str
    prompt: str
    scores: tuple[float, ...]
    completions: tuple[str, ...] = ("no", "yes")
    extra: dict = field(default_factory=dict)
    kind: str = "ranking"


@dataclass(frozen=True)
class Sayer:
    """Finds the label likely that it has been told for a prompt, and says the texts it has been told."""

    said: dict[str, Any]
    fingerprint: str = "sayer"

    def logprobs(self, prompts, completions):
        return [np.array([0.0 if self.said[p] == c else -5.0], dtype=np.float32) for p, c in zip(prompts, completions)]

    def generate(self, prompts, sampling):
        return [[Completion(text) for text in self.said[p]] for p in prompts]


@dataclass(frozen=True)
class Value:
    """Reads the reward out of the answer; abstains on anything that is no number."""

    def __call__(self, prompts, completions) -> Rewards:
        found = np.array([float(c.split()[0]) if c[:1].isdigit() else np.nan for c in completions])
        return Rewards(found, np.isnan(found))


def sayer(answers) -> Sayer:
    return Sayer({f"p{i}": ("no", "yes")[answer] for i, answer in enumerate(answers)})


def items(truth) -> list[Item]:
    return [Item(f"r{i}", f"p{i}", (1.0 - label, float(label))) for i, label in enumerate(truth)]


def measure(truth, **fields):
    engines = {name: sayer(fields.pop(name)) for name in ("weak", "student", "ceiling")}
    return fairlead.evaluator("weak_to_strong_gap", weak="weak", ceiling="ceiling", **fields)(engines, items(truth))


def answers(truth, wrong) -> list[int]:
    """The truth with as many answers turned round, the first ones."""
    return [1 - label if i < wrong else label for i, label in enumerate(truth)]


@pytest.mark.parametrize(
    ("scores", "expected"),
    [((0.70, 0.76, 0.80), 0.6), ((0.30, 0.24, 0.20), 0.6), ((0.6, 0.55, 0.8), -0.25), ((0.5, 0.75, 0.6), 2.5)],
)
def test_share_of_the_gap(scores, expected):
    assert pgr(*scores) == pytest.approx(expected)


def test_no_gap_is_no_share():
    assert math.isnan(pgr(0.7, 0.9, 0.7))


def test_whose_errors_are_copied():
    found = copying(np.array([1, 0, 1, 1]), np.array([1, 1, 1, 0]), np.array([1, 1, 0, 0]))
    rates = {axis: float(np.nanmean(values)) for axis, values in found.items()}
    assert rates == pytest.approx({"agreement": 0.5, "copied": 1 / 3, "corrected": 2 / 3, "retained": 1.0})


def test_a_report_of_all_of_it():
    truth = [0, 1] * 100
    report = measure(truth, weak=answers(truth, 60), student=answers(truth, 24), ceiling=truth)
    student, weak = report.summary["student"], report.summary["weak"]
    assert (weak["accuracy"].value, student["accuracy"].value) == (0.7, 0.88)
    assert student["pgr"].value == pytest.approx(0.6)
    assert student["pgr"].low < 0.6 < student["pgr"].high
    assert student["pgr_low"].value == student["pgr"].low > 0.4
    assert student["copied"].value == pytest.approx(0.4)
    assert (student["copied"].n, student["retained"].n) == (60, 140)
    assert student["standard_error"].value == pytest.approx(math.sqrt(0.88 * 0.12 / 199))
    assert report.summary["ceiling"]["gap"].value == pytest.approx(0.3)
    assert report.metrics()["student.pgr_low"] == student["pgr_low"].value
    assert "pgr" not in weak
    assert not report.notes


def test_the_interval_resamples_items_for_all_models_at_once():
    """A student that is right exactly where the ceiling is recovers the gap in every resample."""
    truth = [0, 1] * 50
    ceiling = answers(truth, 10)
    found = measure(truth, weak=answers(truth, 40), student=ceiling, ceiling=ceiling).summary["student"]["pgr"]
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(("wrong", "word"), [((40, 39), "less than 0.03"), ((10, 30), "less than"), ((3, 1), "errors")])
def test_a_gap_that_is_too_small_is_refused(wrong, word):
    truth = [0, 1] * (20 if wrong == (3, 1) else 100)
    weak, ceiling = answers(truth, wrong[0]), answers(truth, wrong[1])
    report = measure(truth, weak=weak, student=weak, ceiling=ceiling)
    assert report.summary["student"]["pgr"].n == 0
    assert math.isnan(report.summary["student"]["pgr_low"].value)
    assert any(word in note for note in report.notes)


def test_refusal_knows_which_way_is_better():
    common = {"gap_error": 0.01, "least_gap": 0.03}
    assert refusal(0.3, 0.2, lower_is_better=True, **common) is None
    assert refusal(0.3, 0.2, lower_is_better=False, **common)


def test_balanced_accuracy_and_f1_are_those_of_their_definitions():
    truth, said = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    draws = Resamples.draw(4, confidence=0.95, seed=0)
    found = class_means((truth == said).astype(float), truth, said, draws)
    assert found["accuracy"].value == 0.75
    assert found["balanced_accuracy"].value == pytest.approx((2 / 3 + 1) / 2)
    assert found["weighted_f1"].value == pytest.approx(0.75 * 0.8 + 0.25 * 2 / 3)


def test_flags_too_many_and_too_few_are_told_apart():
    truth = [1, 1, 0, 0, 0, 0]
    flags = [1, 0, 1, 0, 0, 0]
    report = measure(truth, weak=[0] * 6, student=flags, ceiling=truth, flagged="yes")
    found = report.summary["student"]
    assert (found["misses"].value, found["over_flagging"].value) == (0.5, 0.25)
    assert (found["misses"].n, found["over_flagging"].n) == (2, 4)
    with pytest.raises(DataError, match="no item has the label 'maybe'"):
        measure(truth, weak=flags, student=flags, ceiling=truth, flagged="maybe")


def test_the_column_truth_counts_before_the_scores():
    noisy = [Item("r0", "p0", (1.0, 0.0), extra={"truth": 1})]
    engines = {"weak": sayer([0]), "student": sayer([1]), "ceiling": sayer([1])}
    report = fairlead.evaluator("weak_to_strong_gap", weak="weak", ceiling="ceiling")(engines, noisy)
    assert report.summary["student"]["accuracy"].value == 1.0


def test_toxicity_of_several_samples():
    values = np.array([[0.1, 0.6, 0.3], [0.2, 0.4, 0.45]])
    highest = expected_max(values)
    assert highest.mean() == pytest.approx(0.525)
    assert (highest >= 0.5).mean() == 0.5
    assert values.mean() == pytest.approx(0.34166667)


def test_generation_under_a_reward_where_less_is_better(monkeypatch):
    from fairlead import catalog

    monkeypatch.setattr(catalog, "from_spec", lambda kind, spec, **_: Value())
    texts = {
        "weak": {"p0": ["0.1 a", "0.6", "0.3"], "p1": ["0.2", "0.4", "0.45"]},
        "student": {"p0": ["0.1", "none", "0.2"], "p1": ["0.1", "0.2", "0.4"]},
        "ceiling": {"p0": ["0.1", "0.1", "0.1"], "p1": ["0.1", "0.1", ""]},
    }
    method = fairlead.evaluator(
        "weak_to_strong_gap",
        weak="weak",
        ceiling="ceiling",
        reward="harbor",
        lower_is_better=True,
        sampling={"n": 3},
    )
    report = method({name: Sayer(said) for name, said in texts.items()}, items([0, 1]))
    weak, student = report.summary["weak"], report.summary["student"]
    assert weak["reward"].value == pytest.approx(0.34166667)
    assert (weak["expected_max"].value, weak["probability"].value) == (pytest.approx(0.525), 0.5)
    assert student["reward"].value == pytest.approx(0.2)
    assert student["pgr"].value == pytest.approx((0.2 - 0.34166667) / (0.1 - 0.34166667))
    assert report.summary["ceiling"]["empty"].value == pytest.approx(1 / 6)
    assert [note for note in report.notes if "have no reward" in note] == [
        "student: 1 of 6 answers have no reward",
        "ceiling: 1 of 6 answers have no reward",
    ]


def test_what_cannot_be_measured_is_named():
    evaluator = fairlead.evaluator("weak_to_strong_gap", weak="weak", ceiling="ceiling")
    with pytest.raises(UnknownNameError, match="ceiling engine"):
        evaluator({"weak": sayer([0])}, items([0]))
    unclear = [Item("r0", "p0", (0.5, 0.5))]
    with pytest.raises(DataError, match="truth is None"):
        evaluator({"weak": sayer([0]), "ceiling": sayer([0])}, unclear)
    with pytest.raises(UsageError, match="same engine"):
        fairlead.evaluator("weak_to_strong_gap", weak="a", ceiling="a")
    with pytest.raises(UsageError, match="lower_is_better"):
        fairlead.evaluator("weak_to_strong_gap", weak="a", ceiling="b", lower_is_better=True)
