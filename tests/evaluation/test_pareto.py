"""Fronts and hypervolumes of engines whose answers, and so whose points, are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from known import rows

import fairlead
from fairlead.engines.base import Completion, FinishReason
from fairlead.errors import DataError, UnknownNameError, UsageError
from fairlead.rewards.base import Rewards
from fairlead.theory.pareto import hypervolume


@dataclass(frozen=True)
class Says:
    """Answers with its point, as text."""

    point: tuple[float, ...]
    spread: float = 0.0

    @property
    def fingerprint(self) -> str:
        return repr(self)

    def generate(self, prompts, sampling):
        shift = [self.spread * (-1) ** k for k in range(len(prompts))]
        texts = [" ".join(str(x + move) for x in self.point) for move in shift]
        return [[Completion(text, None, None, FinishReason.STOP)] * sampling.n for text in texts]


@dataclass(frozen=True)
class Number:
    """The answer's number at a place; abstains where it is not there."""

    place: int

    def __call__(self, prompts, completions):
        found = [text.split()[self.place : self.place + 1] for text in completions]
        values = np.array([float(one[0]) if one else np.nan for one in found])
        return Rewards(values, np.isnan(values))


AXES = {"a": Number(0), "b": Number(1)}


def pareto(**fields):
    return fairlead.evaluator("pareto", **{"axes": AXES, "reference": {"a": 0.0, "b": 0.0}, **fields})


def test_front_and_volumes():
    engines = {"left": Says((1, 3)), "middle": Says((2, 2)), "right": Says((3, 1)), "inside": Says((1, 1))}
    report = pareto(sets={"all": tuple(engines), "ends": ("left", "right")})(engines, rows(4))
    assert [report.summary[name]["front"].value for name in engines] == [1, 1, 1, 0]
    assert [report.summary[name]["hypervolume"].value for name in engines] == [3, 4, 3, 1]
    assert report.summary["all"]["hypervolume"].value == pytest.approx(6)
    assert report.summary["ends"]["hypervolume"].value == pytest.approx(5)
    assert report.summary["all"]["mean_hypervolume"].value == pytest.approx(11 / 4)
    assert report.summary["left"]["b"].value == 3
    assert list(report.figures) == ["b against a"]
    assert [row["mean_hypervolume"] for row in report.rows[16:]] == [11 / 4, 3]


def test_three_axes():
    engines = {"one": Says((1, 2, 3)), "two": Says((3, 1, 2))}
    axes = {**AXES, "c": Number(2)}
    fields = {"axes": axes, "reference": {"a": 0.0, "b": 0.0, "c": 0.0}, "sets": {"both": ("one", "two")}}
    report = pareto(**fields)(engines, rows(3))
    assert report.summary["both"]["hypervolume"].value == pytest.approx(10)
    assert len(report.figures) == 3


def test_an_engine_as_the_reference_is_no_point():
    engines = {"start": Says((1, 1)), "better": Says((2, 3)), "mixed": Says((5, 0.5))}
    report = pareto(reference="start")(engines, rows(4))
    assert report.summary["better"]["hypervolume"].value == pytest.approx(2)
    assert report.summary["mixed"]["hypervolume"].value == 0
    assert set(report.summary["start"]) == {"a", "b"}
    assert "start" in report.figures["b against a"]


def test_intervals_cover_what_other_prompts_would_give():
    engines = {"noisy": Says((2, 2), spread=1.0), "sure": Says((2, 2))}
    report = pareto()(engines, rows(30))
    noisy, sure = (report.summary[name]["hypervolume"] for name in engines)
    assert (sure.low, sure.high) == (4, 4)
    error = 1 / np.sqrt(30)
    assert noisy.low == pytest.approx((2 - 1.96 * error) ** 2, abs=0.35)
    assert noisy.high == pytest.approx((2 + 1.96 * error) ** 2, abs=0.35)
    again = pareto()(engines, rows(30)).summary["noisy"]["hypervolume"]
    assert (again.low, again.high) == (noisy.low, noisy.high)


def test_what_a_reward_abstains_on_is_left_out():
    engines = {"one": Says((2, 2)), "short": Says((3,))}
    with pytest.raises(DataError, match="b values none of short"):
        pareto()(engines, rows(3))


def test_the_same_volume_as_the_theory():
    points = np.random.default_rng(0).random((5, 2))
    engines = {f"e{k}": Says(tuple(point)) for k, point in enumerate(points)}
    found = pareto(sets={"all": tuple(engines)})(engines, rows(2)).summary["all"]["hypervolume"].value
    assert found == pytest.approx(hypervolume(points, (0, 0)))


@pytest.mark.parametrize(
    "fields",
    [
        {"axes": {"a": Number(0)}, "reference": {"a": 0.0}},
        {"reference": {"a": 0.0}},
        {"reference": {"a": 0.0, "b": float("inf")}},
        {"sets": {"none": ()}},
        {"sets": {"some": ("start", "other")}, "reference": "start"},
        {"axes": {"a": Number(0), "front": Number(1)}},
    ],
)
def test_settings_that_cannot_be(fields):
    with pytest.raises(UsageError):
        pareto(**fields)


def test_names_must_be_of_engines():
    engines = {"one": Says((2, 2))}
    with pytest.raises(UnknownNameError):
        pareto(reference="start")(engines, rows(2))
    with pytest.raises(UnknownNameError):
        pareto(sets={"some": ("two",)})(engines, rows(2))
    with pytest.raises(UsageError, match="an engine too"):
        pareto(sets={"one": ("one",)})(engines, rows(2))
    with pytest.raises(UsageError, match="only engine"):
        pareto(reference="one")(engines, rows(2))
