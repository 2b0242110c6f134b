"""Rewards joined: the known answers, weights, groups, and abstentions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import fairlead
from fairlead.errors import UsageError
from fairlead.rewards.base import Rewards
from fairlead.rewards.combined import CombinedReward, harmonic_mean, z_scores

BLEU, MODEL = (0.1, 0.3, 0.2, 0.6), (-2.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class Listed:
    """Values by completion: None abstains."""

    values: tuple

    def __call__(self, prompts, completions):
        found = np.array([np.nan if (v := self.values[int(text)]) is None else v for text in completions], float)
        return Rewards(found, np.isnan(found))


def joined(*columns, prompts=None, **fields):
    reward = CombinedReward(tuple(map(Listed, columns)), **fields)
    n = len(columns[0])
    return reward(prompts or ["q"] * n, [str(i) for i in range(n)])


def test_known_z_scores_of_a_group():
    found = joined(BLEU, MODEL, how="z_scores")
    assert found.values == pytest.approx([-1.170014, 0, 0.122099, 1.047915], abs=1e-6)


def test_known_harmonic_mean():
    assert joined([0.4], [0.6], how="harmonic").values == pytest.approx([0.48])
    assert joined([0.0, 0.0], [0.0, 0.6], how="harmonic").values.tolist() == [0, 0]
    assert harmonic_mean(np.array([[0.4], [0.6]]), np.array([3.0, 1.0])) == pytest.approx([4 / (3 / 0.4 + 1 / 0.6)])


def test_weights():
    assert joined(BLEU, MODEL, weights=(2, 0.5)).values == pytest.approx([-0.8, 0.6, 0.9, 1.7])
    alone = joined(BLEU, MODEL, how="z_scores", weights=(1, 1e-12)).values
    assert alone == pytest.approx(z_scores(np.array(BLEU)))


def test_every_prompt_is_a_group_of_its_own_wherever_its_completions_stand():
    prompts = ["q", "other", "q", "other", "q", "q"]
    values = joined((0.1, 5, 0.3, 6, 0.2, 0.6), (-2, 9, 0, 8, 1, 1), prompts=prompts, how="z_scores").values
    assert values[[0, 2, 4, 5]] == pytest.approx(joined(BLEU, MODEL, how="z_scores").values)
    assert values[[1, 3]] == pytest.approx([0, 0], abs=1e-5)


def test_equal_values_are_zero():
    assert joined([1.0, 1.0], [3.0, 3.0], how="z_scores").values.tolist() == [0, 0]


def test_where_one_abstains_all_do_and_the_rest_are_the_group():
    found = joined((0.1, 7, 0.3, 0.2, 0.6), (-2, None, 0, 1, 1), how="z_scores")
    assert found.abstained.tolist() == [False, True, False, False, False]
    assert found.values[[0, 2, 3, 4]] == pytest.approx(joined(BLEU, MODEL, how="z_scores").values)
    for how in ("sum", "harmonic"):
        assert joined([1, None], [1, 1], how=how).abstained.tolist() == [False, True]
    assert joined([1, None], [1, 1], how="z_scores").abstained.all()


def test_a_completion_alone_has_no_z_score():
    with pytest.raises(UsageError, match="'other' has no z-score"):
        joined([1, 2, 3], [1, 2, 3], prompts=["q", "q", "other"], how="z_scores")


def test_a_negative_value_has_no_harmonic_mean():
    with pytest.raises(UsageError, match="-2 in a harmonic mean"):
        joined(BLEU, MODEL, how="harmonic")


def test_rewards_of_the_catalog_are_joined():
    parts = [{"name": "bleu", "references": {"q": "a b"}}, {"name": "rouge_l", "references": {"q": "a b"}}]
    found = fairlead.reward("combined", rewards=parts, how="harmonic")(["q", "q"], ["a b", "c"]).values
    assert found.tolist() == [1, 0]


@pytest.mark.parametrize("fields", [{"weights": (1.0,)}, {"weights": (1.0, -1.0)}, {"epsilon": 0.0}])
def test_settings_that_do_not_go_together(fields):
    with pytest.raises(UsageError):
        CombinedReward((Listed(()), Listed(())), **fields)
    with pytest.raises(UsageError, match="fewer than two"):
        CombinedReward((Listed(()),))


def test_a_reward_of_the_wrong_length_stops():
    @dataclass(frozen=True)
    class Short:
        def __call__(self, prompts, completions):
            return Rewards(np.zeros(1), np.zeros(1, bool))

    with pytest.raises(UsageError, match="Short valued 1 of 2"):
        CombinedReward((Short(), Short()))(["q", "q"], ["a", "b"])
