"""AlpacaEval's published numbers, from its real verdicts; skipped where the data is absent."""

from __future__ import annotations

import csv
import gzip
import json
from collections import defaultdict
from dataclasses import astuple, replace

import numpy as np
import pytest

from fairlead.errors import DataError
from fairlead.evaluation.preferences import (
    LengthReference,
    length_controlled,
    paired_win_rate,
    points_of_preferences,
    prefers_lists,
    prefers_longer,
    win_rate,
)

RAW = {  # win rate, standard error, discrete win rate in percent; wins, losses, draws; mean length
    "alpaca-7b": (2.591451, 0.487086, 2.298137, 17, 785, 3, 396),
    "claude": (16.985344, 1.168796, 16.024845, 129, 676, 0, 1082),
    "text_davinci_001": (2.764005, 0.517767, 3.051059, 23, 777, 3, 297),
    "text_davinci_003": (1.962148, 0.434675, 1.987578, 14, 787, 4, 307),
    "vicuna-7b": (4.162611, 0.613511, 3.602484, 28, 775, 2, 1044),
}
CONTROLLED = {  # at c = 2.7826 and at c = 21.5443, in percent
    "alpaca-7b": (5.977, 5.875),
    "claude": (27.290, 27.244),
    "text_davinci_001": (6.577, 6.478),
    "text_davinci_003": (4.674, 4.579),
    "vicuna-7b": (6.347, 6.277),
}
PUBLISHED = {  # AlpacaEval's own leaderboard, and the c that its cross-validation took
    "alpaca-7b": (5.8755, 21.5443),
    "claude": (27.2895, 2.7826),
    "vicuna-7b": (6.2772, 21.5443),
}
WEIGHTS = {
    "alpaca-7b": (-2.207, 0.986, -3.691),
    "claude": (-1.865, 0.980, -1.240),
    "vicuna-7b": (-1.756, 0.996, -3.620),
}
LOOSE = {"alpaca-7b": 6.496, "claude": 26.158, "vicuna-7b": 5.274}
MINIMAL = {"claude": (-2.237785, -0.547873, 36.635801), "vicuna-7b": (-1.950429, -2.280443, 9.275568)}
LONGER = {"alpaca-7b": (765, 786), "claude": (661, 781), "vicuna-7b": (711, 775)}
LISTS = {"alpaca-7b": (417, 424), "claude": (103, 181), "vicuna-7b": (192, 212)}


class Model:
    def __init__(self, rows, places):
        self.points = points_of_preferences([row["preference"] for row in rows])
        self.answers = [row["output_2"] for row in rows]
        self.others = [row["output_1"] for row in rows]
        self.lengths = [len(text) for text in self.answers]
        self.baseline = [len(text) for text in self.others]
        self.items = np.array([places[row["instruction"]] for row in rows])

    def controlled(self, reference, **options):
        columns = (self.points, self.lengths, self.baseline)
        return length_controlled(*columns, **{"reference": reference, "items": self.items, "resamples": 0, **options})


class Unchecked(LengthReference):
    """A reference that is looked up by position, as AlpacaEval does, whatever the items are."""

    def check(self, items, baseline_lengths):
        pass


@pytest.fixture(scope="module")
def models(shared_data):
    found = defaultdict(list)
    with gzip.open(shared_data / "alpaca_eval" / "preferences.jsonl.gz", "rt", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            found[row["generator_2"]].append(row)
    places = {row["instruction"]: i for i, row in enumerate(found["claude"])}
    return {name: Model(rows, places) for name, rows in found.items()}


@pytest.fixture(scope="module")
def reference(shared_data):
    return LengthReference.read(shared_data / "alpaca_eval" / "lc_reference.csv")


@pytest.mark.parametrize("name", RAW)
def test_win_rates(models, name):
    rate, error, discrete, wins, losses, draws, length = RAW[name]
    found = win_rate(models[name].points)
    assert (found.wins, found.losses, found.draws, found.missing) == (wins, losses, draws, 0)
    assert 100 * found.rate.value == pytest.approx(rate, abs=5e-7)
    assert 100 * found.standard_error == pytest.approx(error, abs=5e-7)
    assert 100 * found.discrete.value == pytest.approx(discrete, abs=5e-7)
    assert int(np.mean(models[name].lengths)) == length


@pytest.mark.parametrize("name", CONTROLLED)
def test_win_rates_at_equal_lengths(models, reference, name):
    for c, expected in zip((2.7826, 21.5443), CONTROLLED[name]):
        assert 100 * models[name].controlled(reference, c=c).rate.value == pytest.approx(expected, abs=0.001)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_win_rates_at_equal_lengths(models, reference, name):
    published, c = PUBLISHED[name]
    found = models[name].controlled(reference, c=c)
    assert 100 * found.rate.value == pytest.approx(published, abs=0.01)


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights(models, reference, name):
    assert models[name].controlled(reference).weights == pytest.approx(WEIGHTS[name], abs=0.001)


def test_rows_that_are_missing_are_joined_by_instruction_not_by_position(models, reference):
    model = models["text_davinci_001"]
    assert len(model.items) == 803
    with pytest.raises(DataError, match=r"baseline answers are not as long as in the reference: item 247"):
        model.controlled(reference, items=np.arange(803))
    by_position = Unchecked(*astuple(reference))
    for c, official in ((2.7826, 9.011), (21.5443, 8.923)):
        found = model.controlled(by_position, items=np.arange(803), c=c)
        assert 100 * found.rate.value == pytest.approx(official, abs=0.001)


@pytest.mark.parametrize("name", LOOSE)
def test_without_the_twins(models, reference, name):
    found = models[name].controlled(reference, twins=False, c=1e4)
    assert 100 * found.rate.value == pytest.approx(LOOSE[name], abs=0.001)


@pytest.mark.parametrize("name", MINIMAL)
def test_length_and_model_alone(models, name):
    length, model, rate = MINIMAL[name]
    found = models[name].controlled(None, c=float("inf"))
    assert found.weights == pytest.approx((length, 0, model), abs=1e-6)
    assert 100 * found.rate.value == pytest.approx(rate, abs=1e-6)


def test_published_weights_give_the_published_win_rate(models, reference):
    published = replace(models["claude"].controlled(reference), weights=(0, 0.9762, -1.2349))
    assert 100 * published.at(0) == pytest.approx(27.290, abs=0.001)


def test_two_models_against_each_other(models, reference):
    fits = (models[name].controlled(reference) for name in ("claude", "vicuna-7b"))
    claude, vicuna = (
        replace(fit, weights=weights) for fit, weights in zip(fits, ((0, 0.9762, -1.2349), (0, 0.996, -3.620)))
    )
    there, back = (paired_win_rate(*pair, reference) for pair in ((claude, vicuna), (vicuna, claude)))
    assert 100 * there == pytest.approx(91.574, abs=0.001)
    assert there + back == pytest.approx(1, abs=1e-12)
    assert paired_win_rate(claude, claude, reference) == 0.5


@pytest.mark.parametrize("name", LONGER)
def test_a_taste_for_length_and_for_lists(models, name):
    model = models[name]
    longer = prefers_longer(model.points, model.lengths, model.baseline)
    lists = prefers_lists(model.points, model.answers, model.others)
    for found, (won, n) in ((longer, LONGER[name]), (lists, LISTS[name])):
        assert found.n == n
        assert found.value * n == pytest.approx(won)


def test_the_interval_of_a_win_rate_at_equal_lengths(models, reference):
    found = models["claude"].controlled(reference, resamples=300)
    again = models["claude"].controlled(reference, resamples=300)
    other = models["claude"].controlled(reference, resamples=300, seed=1)
    assert found.rate == again.rate != other.rate
    assert found.rate.low < found.rate.value < found.rate.high
    assert 0.04 < found.rate.high - found.rate.low < 0.10
    assert 100 * found.spread == pytest.approx(0.86, abs=0.01)


def test_the_bootstrap_agrees_with_the_standard_error(models):
    one_error = win_rate(models["alpaca-7b"].points, confidence=0.6827).rate
    assert 100 * (one_error.high - one_error.low) / 2 == pytest.approx(0.487, abs=0.02)


def test_a_reference_in_another_order(shared_data, reference, tmp_path):
    rows = list(csv.reader((shared_data / "alpaca_eval" / "lc_reference.csv").open(encoding="utf-8")))
    with (tmp_path / "reference.csv").open("w", newline="") as file:
        csv.writer(file).writerows([rows[0], rows[2], rows[1], *rows[3:]])
    with pytest.raises(DataError, match=r"item 0: the index does not count"):
        LengthReference.read(tmp_path / "reference.csv")
