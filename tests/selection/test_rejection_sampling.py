"""The K best answers of each prompt: order, ties, what is left out before, and the bound on the divergence."""

from __future__ import annotations

import pytest

from fairlead.errors import DataError, UsageError
from fairlead.records import Conversation, PromptOnly
from fairlead.selection.rejection_sampling import RejectionSampling


def drawn(prompt: str, *answers: tuple[str, float | None], finish: str = "stop"):
    return [
        Conversation(f"{prompt}-{k}", prompt, a, {"reward": v, "finish": finish}) for k, (a, v) in enumerate(answers)
    ]


POOL = [
    *drawn("a", ("one", 0.1), ("two", 0.9), ("three", 0.9), ("Two ", 0.8)),
    *drawn("b", ("four", 0.2), ("", 5.0), ("five", None)),
    *drawn("c", ("six", 2.0), finish="length"),
]


def ids(selector):
    return [POOL[i].id for i in selector(POOL).indices]


def test_the_best_of_each_prompt_the_first_of_equals():
    assert ids(RejectionSampling()) == ["a-1", "b-0"]
    assert ids(RejectionSampling(best=2)) == ["a-1", "a-2", "b-0"]
    assert ids(RejectionSampling(best=9)) == ["a-1", "a-2", "b-0", "a-0"]


def test_what_is_left_out_says_why():
    found = RejectionSampling()(POOL)
    assert found.reasons == (
        "the prompt has better answers", "", "the prompt has better answers", "the prompt has this answer already",
        "", "empty", "no value", "cut at its limit",
    )  # fmt: skip
    assert found.metrics == {"prompts": 3, "prompts_kept": 2}


def test_a_threshold_may_leave_a_prompt_without_answers():
    assert ids(RejectionSampling(above=0.5)) == ["a-1"]


def test_in_the_scope_of_the_pool_easy_prompts_win():
    assert ids(RejectionSampling(scope="pool", keep=2)) == ["a-1", "a-2"]


def test_ranked_answers_of_one_prompt():
    values = [0.1, 0.9, 0.4, -1.0]
    pool = drawn("q", *((f"answer {k}", value) for k, value in enumerate(values)))
    assert RejectionSampling(best=2)(pool).indices.tolist() == [1, 2]
    more = drawn("q", *((f"answer {k}", value + 7) for k, value in enumerate(values)))
    assert RejectionSampling(best=2)(more).indices.tolist() == [1, 2]
    same = drawn("q", *((f"answer {k}", 1.0) for k in range(4)))
    assert RejectionSampling(best=2)(same).indices.tolist() == [0, 1]
    one = [*drawn("a", ("x", 0.3)), *drawn("b", ("y", -5.0))]
    assert sorted(RejectionSampling()(one).indices.tolist()) == [0, 1]


def test_settings_and_records_that_do_not_fit():
    with pytest.raises(UsageError, match="best is 0"):
        RejectionSampling(best=0)
    with pytest.raises(UsageError, match="would keep everything"):
        RejectionSampling(scope="pool")
    turns = ({"role": "user", "content": "q"}, {"role": "assistant", "content": "a"})
    with pytest.raises(DataError, match="without a prompt"):
        RejectionSampling()([Conversation("m", "", turns, {"reward": 1.0})])
    with pytest.raises(DataError, match="no column 'reward'"):
        RejectionSampling()([PromptOnly("p", "q")])
