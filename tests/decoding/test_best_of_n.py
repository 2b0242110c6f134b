"""Best-of-n: the right draw wins, ties go to the first, and every draw is told."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import fairlead
from fairlead.engines import Completion, Sampling
from fairlead.errors import DataError, UnsupportedError, UsageError
from fairlead.rewards.base import Rewards

PROMPTS = ["one", "two"]
SAMPLING = Sampling(n=2, seed=3)


class Listing:
    """Answers "0 one", "1 one", ... to the prompt "one"."""

    fingerprint = "listing"

    def generate(self, prompts, sampling):
        return [[Completion(f"{k} {prompt}") for k in range(sampling.n)] for prompt in prompts]


@dataclass(frozen=True)
class Table:
    """A reward by the number that an answer begins with; None abstains."""

    values: tuple[float | None, ...]

    def __call__(self, prompts, completions):
        found = [self.values[int(text.split()[0])] for text in completions]
        return Rewards(np.array([0.0 if v is None else v for v in found]), np.array([v is None for v in found]))


def test_each_answer_is_chosen_among_draws_of_its_own():
    best = fairlead.decoder("best_of_n", engine=Listing(), reward=Table((1, 3, 2, 5, 5, 4)), n=3)
    (one, two) = best.generate(PROMPTS, SAMPLING)
    assert [c.text for c in one] == ["1 one", "3 one"]
    assert [c.text for c in two] == ["1 two", "3 two"]
    assert one[1].extra == {"candidates": ["3 one", "4 one", "5 one"], "rewards": [5.0, 5.0, 4.0], "chosen": 0}


def test_worst_of_n_and_abstentions():
    worst = fairlead.decoder("worst_of_n", engine=Listing(), reward=Table((1, None, -2, -2)), n=4)
    ((answer,),) = worst.generate(["one"], Sampling())
    assert answer.text == "2 one"
    assert answer.extra["rewards"] == [1.0, None, -2.0, -2.0]


def test_no_draw_that_costs_too_much_is_chosen_however_much_it_is_worth():
    def chosen(costs, values=(1, 9, 3, 2), budget=0.0):
        best = fairlead.decoder(
            "best_of_n", engine=Listing(), reward=Table(values), cost=Table(costs), budget=budget, n=4
        )
        ((answer,),) = best.generate(["one"], Sampling())
        assert answer.extra["costs"] == list(costs)
        return answer.extra["chosen"]

    assert chosen((-1.0, 0.5, 0.0, -2.0)) == 2
    assert chosen((-1.0, 0.5, 0.0, -2.0), budget=0.5) == 1
    assert chosen((3.0, 2.0, 0.5, 0.5)) == 2
    assert chosen((3.0, None, 0.5, 0.5)) == 1
    assert chosen((-1.0, 2.0, -1.0, -1.0), values=(None, 9, 2, 3)) == 3
    assert chosen((1.0, 2.0, -1.0, 0.5), values=(5, 9, None, 3)) == 2  # none is both valued and within: the cheapest
    with pytest.raises(UsageError, match="no cost"):
        fairlead.decoder("best_of_n", engine=Listing(), reward="harbor", budget=0.5)


def test_a_prompt_without_any_value_is_an_error():
    best = fairlead.decoder("best_of_n", engine=Listing(), reward=Table((None, None)), n=2)
    with pytest.raises(DataError, match="prompt 1 of 2"):
        best.generate(PROMPTS, Sampling())


def test_no_draws_and_no_logprobs():
    with pytest.raises(UsageError, match="n is 0"):
        fairlead.decoder("best_of_n", engine=Listing(), reward="harbor", n=0)
    with pytest.raises(UnsupportedError, match="log-probs"):
        fairlead.decoder("best_of_n", engine=Listing(), reward="harbor").logprobs(["one"], ["x"])


def test_n_of_one_is_the_engine_itself():
    model = fairlead.engine("harbor:aligned-300k")
    prompts = [[{"role": "user", "content": "hello"}]]
    sampling = Sampling(max_tokens=12, n=2, seed=1)
    ours = fairlead.decoder("best_of_n", engine=model, reward={"name": "harbor_proxy"}, n=1).generate(prompts, sampling)
    assert [c.text for c in ours[0]] == [c.text for c in model.generate(prompts, sampling)[0]]


def test_win_rate_over_one_draw_is_n_over_n_plus_1():
    """On a continuous reward the best of n beats a fresh draw with probability n / (n + 1)."""
    rng = np.random.default_rng(0)

    @dataclass(frozen=True)
    class Noise:
        def __call__(self, prompts, completions):
            return Rewards(rng.random(len(completions)), np.zeros(len(completions), dtype=bool))

    for n in (1, 2, 4):
        best = fairlead.decoder("best_of_n", engine=Listing(), reward=Noise(), n=n)
        (answers,) = best.generate(["x"], Sampling(n=4000))
        values = np.array([a.extra["rewards"][a.extra["chosen"]] for a in answers])
        assert np.mean(values > rng.random(4000)) == pytest.approx(n / (n + 1), abs=0.03)


def test_fingerprint_changes_with_settings_and_parts():
    def of(**changes):
        return fairlead.decoder("best_of_n", **{"engine": Listing(), "reward": "harbor", **changes}).fingerprint

    assert of() == of()
    assert len({of(), of(n=2), of(reward="harbor_proxy"), of(engine="harbor:base-300k")}) == 4
