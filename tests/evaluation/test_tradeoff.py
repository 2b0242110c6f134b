"""The trade-off chart: known laws are found in engines that follow them, and what cannot be said is left open."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pytest

from fairlead.errors import UnknownNameError, UnsupportedError, UsageError
from fairlead.evaluation.tradeoff import Tradeoff

COEFFICIENTS = {f"r{k}": float(r) for k, r in enumerate((-3, -2, -1, 0, 1, 2, 3))}
RIGHT, WRONG = "right", ("wrong up", "wrong down")


@dataclass(frozen=True)
class Ranking:
    """A record by its shape."""

    id: str
    completions: tuple[str, ...]
    extra: dict
    prompt: str = "?"
    scores: tuple[float, ...] = field(default=())
    kind: str = "ranking"


RECORDS = [
    *(Ranking(f"harm{k}", ("refuse", "comply"), {"task": "harm", "truth": 0}) for k in range(4)),
    *(Ranking(f"fact{k}", (WRONG[0], RIGHT, WRONG[1]), {"task": "fact", "truth": 1}) for k in range(5)),
]


@dataclass(frozen=True)
class Steered:
    """An engine that follows both laws: slope 0.6 from -0.3, and 0.6 / (0.6 + 0.4 cosh(0.5 r))."""

    r: float
    length: int = 3
    fingerprint: str = "steered"

    def logprobs(self, prompts, completions):
        logits = {
            "refuse": 0.6 * self.r - 0.3,
            "comply": -0.6 * self.r + 0.3,
            RIGHT: math.log(0.6),
            WRONG[0]: math.log(0.2) + 0.5 * self.r,
            WRONG[1]: math.log(0.2) - 0.5 * self.r,
        }
        return [np.full(self.length, (logits[text] - 9) / self.length, dtype=np.float32) for text in completions]


def chart(engines=None, records=RECORDS, **settings):
    engines = engines or {name: Steered(r) for name, r in COEFFICIENTS.items()}
    return Tradeoff(**{"coefficients": COEFFICIENTS, "behaviour": ("harm",), **settings})(engines, records)


def test_engines_that_follow_the_laws():
    report = chart()
    for name, r in COEFFICIENTS.items():
        axes = report.summary[name]
        assert axes["alignment"].value == pytest.approx(math.tanh(0.6 * r - 0.3), abs=1e-5)
        right = 0.6 / (0.6 + 0.4 * math.cosh(0.5 * r))
        assert axes["helpfulness"].value == pytest.approx(right, abs=1e-5)
        assert axes["accuracy"].value == (1.0 if abs(r) < 3 else 0.0)
        assert (axes["alignment"].n, axes["helpfulness"].n) == (4, 5)
    fit = {axis: estimate.value for axis, estimate in report.summary["fit"].items()}
    assert fit["slope"] == pytest.approx(0.6, abs=1e-4)
    assert fit["offset"] == pytest.approx(-0.3, abs=1e-4)
    assert fit["start"] == pytest.approx(0.6, abs=0.01)
    assert fit["rate"] == pytest.approx(0.5, abs=0.05)
    assert fit["alignment_r2"] > 0.9999
    assert fit["helpfulness_r2"] > 0.99
    assert fit["reach"] == pytest.approx(1.3, abs=0.1)
    assert 2 < fit["best"] < 3.01
    assert report.notes == []
    (figure,) = report.figures.values()
    assert "helpfulness, fitted" in figure


def test_ranges_choose_what_is_fitted():
    broken = {name: Steered(r if r <= 1 else -r) for name, r in COEFFICIENTS.items()}
    whole, inner = chart(broken), chart(broken, alignment_range=(-3, 1))
    assert whole.summary["fit"]["alignment_r2"].value < 0.9
    assert inner.summary["fit"]["alignment_r2"].value > 0.9999
    assert inner.summary["fit"]["slope"].value == pytest.approx(0.6, abs=1e-4)


def test_engines_without_a_coefficient_are_measured_but_not_fitted():
    engines = {name: Steered(r) for name, r in COEFFICIENTS.items()}
    report = chart({**engines, "other": Steered(50.0)})
    assert report.summary["other"]["alignment"].value == pytest.approx(1)
    assert report.summary["fit"] == chart(engines).summary["fit"]


def test_intervals_widen_with_the_spread_of_the_records():
    @dataclass(frozen=True)
    class Uneven(Steered):
        def logprobs(self, prompts, completions):
            found = super().logprobs(prompts, completions)
            return [one + (len(prompt) % 3 if text == "refuse" else 0) for one, prompt, text
                    in zip(found, prompts, completions)]  # fmt: skip

    records = [Ranking(r.id, r.completions, r.extra, prompt="?" * k) for k, r in enumerate(RECORDS)]
    report = chart({name: Uneven(r) for name, r in COEFFICIENTS.items()}, records)
    slope, even = report.summary["fit"]["slope"], chart().summary["fit"]["slope"]
    assert slope.high - slope.low > 0.01 > even.high - even.low
    assert slope.low <= slope.value <= slope.high


@pytest.mark.parametrize(("kept", "missing", "known"), [("harm", "start", "slope"), ("fact", "slope", "start")])
def test_records_of_one_sort_give_one_curve(kept, missing, known):
    report = chart(records=[record for record in RECORDS if record.extra["task"] == kept])
    assert report.summary["fit"][missing].n == report.summary["fit"]["best"].n == 0
    assert report.summary["fit"][known].n == 1
    assert any("no record measures" in note for note in report.notes)


def test_two_coefficients_are_no_curve():
    report = chart(coefficients={"r0": -3.0, "r6": 3.0})
    assert all(estimate.n == 0 for estimate in report.summary["fit"].values())
    assert any("no curve: 2 different coefficients" in note for note in report.notes)


def test_what_cannot_be():
    with pytest.raises(UnknownNameError, match="'r9'"):
        chart(coefficients={"r9": 1.0})
    with pytest.raises(UsageError, match="may be called 'fit'"):
        chart({**{name: Steered(r) for name, r in COEFFICIENTS.items()}, "fit": Steered(0)})
    with pytest.raises(UsageError, match="needs coefficients and a behaviour"):
        chart(behaviour=())
    with pytest.raises(UsageError, match="alignment_range"):
        chart(alignment_range=(1, -1))
    with pytest.raises(UsageError, match=r"tradeoff\.loss"):
        chart(loss=0.0)

    class Silent:
        fingerprint = "silent"

        def logprobs(self, prompts, completions):
            raise UnsupportedError("no log-probs", fix="none")

    with pytest.raises(UnsupportedError):
        chart({name: Silent() for name in COEFFICIENTS})
