"""Best-of-N foretold from draws of engines whose every probability is known, and held against ones that choose."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import pytest
from known import BASE, END, THIRD, TUNED, Count, Silent, Unigram, rows

from fairlead.engines.base import Sampling
from fairlead.errors import UnknownNameError, UnsupportedError, UsageError
from fairlead.evaluation.best_of_n_curve import BestOfNCurve
from fairlead.theory.best_of_n import best_of_n, kl_bound
from fairlead.theory.tilting import tilt

SAMPLING = Sampling(max_tokens=3, n=8)


@dataclass(frozen=True)
class Chooser(Unigram):
    """Keeps the best of n draws by a count of words, the first of equals."""

    n: int = 4
    word: str = "aye"

    def generate(self, prompts, sampling):
        drawn = super().generate(prompts, replace(sampling, n=sampling.n * self.n))
        groups = [[answers[i : i + self.n] for i in range(0, len(answers), self.n)] for answers in drawn]
        return [[max(group, key=lambda a: a.text.split().count(self.word)) for group in own] for own in groups]


def exact_counts(limit: int = 3) -> np.ndarray:
    """Return the chances of 0, 1, ... `limit` times "aye" in an answer of the base, by its three words' chances."""
    aye, nay = math.exp(BASE.log_p("aye")), math.exp(BASE.log_p("nay"))
    chances, going = np.zeros(limit + 1), {0: 1.0}
    for _ in range(limit):
        after: dict[int, float] = {}
        for count, mass in going.items():
            chances[count] += mass * (1 - aye - nay)
            after[count + 1] = after.get(count + 1, 0) + mass * aye
            after[count] = after.get(count, 0) + mass * nay
        going = after
    for count, mass in going.items():
        chances[count] += mass
    return chances


@cache
def measured():
    engines = {
        "base": BASE,
        "four": Chooser(BASE.weights, 4),
        "wrong": Chooser(BASE.weights, 4, "nay"),
        "tuned": TUNED,
    }
    evaluator = BestOfNCurve("base", Count("aye"), {"four": 4, "wrong": 4}, draws=96, sampling=SAMPLING)
    return evaluator(engines, rows(60))


def inside(estimate, truth, slack=1.0):
    """Tell whether a truth is within an interval, made wider by a share of itself: 95 % miss one in twenty."""
    reach = slack * (estimate.high - estimate.low) / 2 + 1e-12
    return estimate.low - reach <= truth <= estimate.high + reach


@pytest.mark.parametrize("n", [1, 2, 4, 8])
def test_what_is_foretold_is_the_truth(n):
    exact = best_of_n(exact_counts(), range(4), n)
    found = measured().summary["base"]
    assert inside(found[f"reward_{n}"], exact.reward)
    assert inside(found[f"kl_{n}"], exact.kl)
    assert inside(found[f"win_{n}"], exact.win_rate)
    assert found[f"bound_{n}"].value == pytest.approx(kl_bound(n))


def test_an_engine_that_keeps_the_best_of_four_meets_it():
    exact = best_of_n(exact_counts(), range(4), 4)
    found = measured().summary["four"]
    assert found["agrees"].value == 1
    assert inside(found["reward"], exact.reward)
    assert inside(found["kl"], exact.kl)
    assert found["reward_gap"].value == pytest.approx(found["reward"].value - found["predicted"].value)
    assert found["kl_gap"].value == pytest.approx(found["kl"].value - found["predicted_kl"].value)


def test_one_that_chooses_by_something_else_does_not():
    found = measured().summary["wrong"]
    assert found["agrees"].value == 0
    assert found["reward_gap"].high < 0


def test_a_policy_is_placed_by_its_tilt():
    found = measured().summary["tuned"]
    # Words' odds of 3 : 2 and 1 : 2 are log-ratios that differ by log 3 per "aye" in place of a "nay".
    assert 0 < found["alpha"].value < math.log(3)
    assert found["kl"].low - 0.05 < exact_kl() < found["kl"].high + 0.05
    assert found["distance"].value > 0
    assert found["distance"].low < found["distance"].value < found["distance"].high


def exact_kl(limit: int = 3) -> float:
    per_token = sum(math.exp(TUNED.log_p(w)) * (TUNED.log_p(w) - BASE.log_p(w)) for w in TUNED.weights)
    going_on = 1 - math.exp(TUNED.log_p(END))
    return per_token * sum(going_on**t for t in range(limit))


def test_a_tilted_policy_is_at_no_distance():
    """One token per answer: weights times exp(alpha) for "aye" is the tilt itself."""
    odds = {word: weight * (3.0 if word == "aye" else 1.0) for word, weight in BASE.weights.items()}
    evaluator = BestOfNCurve("base", Count("aye"), draws=100, sampling=Sampling(max_tokens=1, n=16))
    found = evaluator({"base": BASE, "tilted": Unigram(odds)}, rows(60)).summary["tilted"]
    truth = tilt((0.4, 0.6), (1, 0), math.log(3))
    assert found["alpha"].value == pytest.approx(math.log(3), abs=1e-5)
    assert inside(found["kl"], truth.kl)
    assert inside(found["distance"], 0.0)


def test_the_frontier_is_drawn():
    (figure,) = measured().figures.values()
    assert figure.startswith("<svg")
    assert all(name in figure for name in ("tilt", "best of N", "four", "tuned"))


def test_rows_and_default_numbers():
    assert BestOfNCurve("base", draws=64).ns == (1, 2, 4, 8, 16)
    assert BestOfNCurve("base", draws=64, at=(3,), best_of={"x": 5}).ns == (3, 5)
    mine = [row for row in measured().rows if row["engine"] == "four"]
    assert len(mine) == 60
    assert set(mine[0]) == {"id", "engine", "reward", "kl", "predicted", "predicted_kl", "reward_gap", "kl_gap"}


@dataclass(frozen=True)
class Listening(Unigram):
    """Writes down what it is asked for."""

    asked: list = field(default_factory=list)

    def generate(self, prompts, sampling):
        self.asked.append((sampling.seed, sampling.n))
        return super().generate(prompts, sampling)


def test_the_draws_are_not_those_that_are_chosen_from():
    """With the draws of one seed, what is foretold would be what is chosen from, and agree too well."""
    base, four = Listening(BASE.weights), Listening(BASE.weights)
    evaluator = BestOfNCurve("base", Count("aye"), {"four": 4}, draws=50, sampling=SAMPLING)
    evaluator({"base": base, "four": four}, rows(2))
    ((own_seed, own_n),), ((other_seed, other_n),) = base.asked, four.asked
    assert own_seed != other_seed
    assert (own_n, other_n) == (50, 8)


def test_abstentions_are_left_out_and_told():
    reward = Count("aye", silent="nay")
    report = BestOfNCurve("base", reward, draws=50, sampling=Sampling(max_tokens=1, n=2))({"base": BASE}, rows(6))
    assert report.summary["base"]["reward_2"].n == 0
    assert "6 prompts are left out" in report.notes[0]
    assert report.figures == {}
    nothing = BestOfNCurve("base", Silent(), draws=50, sampling=SAMPLING)({"base": BASE, "tuned": THIRD}, rows(3))
    assert math.isnan(nothing.summary["tuned"]["kl"].value)
    assert any("no prompt to place it by" in note for note in nothing.notes)


@dataclass(frozen=True)
class Mute(Unigram):
    def logprobs(self, prompts, completions):
        raise UnsupportedError("this server gives no log-probs")


def test_without_log_probs_a_policy_has_a_reward_and_no_distance():
    mute = Mute(TUNED.weights)
    report = BestOfNCurve("base", Count("aye"), draws=50, sampling=SAMPLING)({"base": BASE, "mute": mute}, rows(4))
    assert report.summary["mute"]["reward"].value > 0
    assert math.isnan(report.summary["mute"]["kl"].value)
    assert any("mute: its distance is unknown" in note for note in report.notes)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"draws": 49}, "draws is 49"),
        ({"at": (0,)}, "best of 0"),
        ({"best_of": {"x": 33}}, "best of 33 from 128 draws"),
        ({"best_of": {"base": 4}}, "the base and a best of N"),
        ({"sampling": Sampling(temperature=0)}, "sets temperature"),
    ],
)
def test_settings_that_make_no_sense(fields, said):
    with pytest.raises(UsageError, match=said):
        BestOfNCurve(**{"base": "base", **fields})


def test_engines_that_are_not_there():
    with pytest.raises(UnknownNameError, match="'bse'"):
        BestOfNCurve("bse")({"base": BASE}, rows(1))
    with pytest.raises(UnknownNameError, match="'foru'"):
        BestOfNCurve("base", best_of={"foru": 4})({"base": BASE, "four": BASE}, rows(1))
