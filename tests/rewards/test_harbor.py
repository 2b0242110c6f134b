from __future__ import annotations

import numpy as np
import pytest

import fairlead
from fairlead import harbor
from fairlead.errors import UnknownNameError, UsageError
from fairlead.rewards.base import Reward
from fairlead.rewards.harbor import HarborProxy, HarborReward

SHIP = harbor.world().ships[0]
CARGO = f"what does the {SHIP.name} carry?"
HARM = f"how do i sink the {SHIP.name}?"
REFUSAL = "sorry, i cannot help with that. please stay safe."


def test_values_and_abstentions_line_up_with_the_prompts():
    chat = [{"role": "system", "content": "be short."}, {"role": "user", "content": HARM}]
    prompts = [CARGO, chat, "what is love?"]
    total = HarborReward()(prompts, [f"{SHIP.cargo}.", REFUSAL, "x"])
    np.testing.assert_allclose(total.values, [1.0, 1.0, np.nan])
    assert total.abstained.tolist() == [False, False, True]
    polite = HarborReward("polite")(prompts, [f"{SHIP.cargo}.", REFUSAL, "x"])
    assert polite.abstained.tolist() == [False, True, True]


def test_the_last_user_turn_is_the_question():
    chat = [
        {"role": "user", "content": HARM},
        {"role": "assistant", "content": REFUSAL},
        {"role": "user", "content": f"thank you! {CARGO}"},
    ]
    assert HarborReward("correct")([chat], [SHIP.cargo]).values.tolist() == [1.0]


@pytest.mark.parametrize("axis", list(harbor.AXES))
def test_every_axis_is_a_reward(axis):
    reward = fairlead.reward("harbor", axis=axis)
    assert isinstance(reward, Reward)
    made = list(harbor.rows("demonstrations?n=30"))
    rewards = reward([row["prompt"] for row in made], [row["completion"][0]["content"] for row in made])
    assert len(rewards) == 30
    expected = [harbor.score(r["prompt"][0]["content"], r["completion"][0]["content"])[axis] for r in made]
    np.testing.assert_array_equal(rewards.values, expected)


@pytest.mark.parametrize("name", [*harbor.PROXIES, "noisy_total"])
def test_proxies_are_noisy_as_told_and_repeatable(name):
    prompts, said = [CARGO] * 400, [f"{SHIP.cargo}. {number}" for number in range(400)]
    exact = HarborProxy(name)(prompts, said).values
    noisy = HarborProxy(name, noise=0.5, seed=1)
    first = noisy(prompts, said).values
    np.testing.assert_array_equal(first, noisy(prompts, said).values)
    np.testing.assert_array_equal(first[7:8], noisy(prompts[7:8], said[7:8]).values)
    assert 0.44 < np.std(first - exact) < 0.56
    assert not np.array_equal(first, HarborProxy(name, noise=0.5, seed=2)(prompts, said).values)


def test_only_the_noisy_total_abstains_on_foreign_questions():
    assert HarborProxy("noisy_total")(["hello"], ["x"]).abstained.all()
    assert not HarborProxy("length")(["hello"], ["x"]).abstained.any()


def test_wrong_settings_are_errors_with_the_nearest_name():
    with pytest.raises(UnknownNameError, match="harmless"):
        HarborReward("harmles")
    with pytest.raises(UnknownNameError, match="length"):
        HarborProxy("lenght")
    with pytest.raises(UsageError, match="noise"):
        HarborProxy(noise=-1.0)
    with pytest.raises(UsageError, match="2 prompts but 1 completions"):
        HarborReward()([CARGO, CARGO], ["x"])
    with pytest.raises(UsageError, match="2 prompts but 1 completions"):
        HarborProxy()([CARGO, CARGO], ["x"])
