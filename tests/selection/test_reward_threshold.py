"""Thresholds and sizes, by a column or a reward; abstentions are told apart."""

from __future__ import annotations

import numpy as np
import pytest

import fairlead
from fairlead.errors import DataError, UsageError
from fairlead.records import Conversation, PromptOnly
from fairlead.selection.reward_threshold import RewardThreshold

POOL = [PromptOnly(str(k), "q", {"value": value}) for k, value in enumerate([0.5, 2.0, 1.0, 2.0, 0.0])]


def test_the_best_above_a_threshold():
    assert RewardThreshold(column="value", above=1.0)(POOL).indices.tolist() == [1, 3, 2]
    assert RewardThreshold(column="value", above=1.0, keep=1)(POOL).indices.tolist() == [1]
    found = RewardThreshold(column="value", keep=0.4)(POOL)
    assert found.indices.tolist() == [1, 3]
    assert found.left_out == {"others are worth more": 3}


def test_a_reward_values_prompt_and_answer():
    pool = fairlead.read("harbor:pool?n=60")
    found = RewardThreshold(reward={"name": "harbor", "axis": "polite"}, above=0.5)(pool)
    exact = fairlead.reward("harbor", axis="polite")(
        [r.prompt for r in pool], [r.completion[0]["content"] for r in pool]
    )
    wanted = [i for i in range(60) if not exact.abstained[i] and exact.values[i] >= 0.5]
    assert sorted(found.indices.tolist()) == wanted
    assert found.left_out["the reward abstained"] == int(exact.abstained.sum())
    assert np.array_equal(np.isnan(found.scores), exact.abstained)


def test_whole_conversations_are_refused():
    turns = ({"role": "user", "content": "q"}, {"role": "assistant", "content": "a"})
    with pytest.raises(DataError, match="whole conversations"):
        RewardThreshold(reward="harbor", keep=1)([Conversation("c", "", turns)])


@pytest.mark.parametrize("fields", [{}, {"column": "a"}, {"column": "a", "reward": "harbor", "keep": 1}, {"keep": 2}])
def test_settings_that_do_not_go_together(fields):
    with pytest.raises(UsageError, match="reward_threshold"):
        RewardThreshold(**fields)
