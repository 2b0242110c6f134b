"""The careful value of one reward model: its moments, what is familiar and what is not, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import fairlead
from fairlead.errors import DataError, UsageError
from fairlead.training.config import TrainConfig
from fairlead.training.loop import train

PAIRS = "harbor:preferences?n=128"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    config = TrainConfig(
        model="harbor:base-300k",
        data=PAIRS,
        objective={"name": "reward_model", "centring": 0.01},
        learning_rate=2e-3,
        batch_size=16,
    )
    return str(train(config, tmp_path_factory.mktemp("reward") / "run", quiet=True).model)


@pytest.fixture(scope="module")
def held_out():
    return list(fairlead.read("harbor:preferences?n=60&split=test"))


def text(answer) -> str:
    return answer if isinstance(answer, str) else answer[-1]["content"]


@pytest.mark.parametrize("spread", ["laplace", "elliptical"])
def test_ranks_held_out_pairs_and_doubts_what_is_unlike_them(trained, held_out, spread):
    reward = fairlead.reward("laplace", model=trained, pairs=PAIRS, spread=spread)
    prompts = [record.prompt for record in held_out]
    chosen, rejected = (
        reward.moments(prompts, [text(getattr(r, side)) for r in held_out]) for side in ("chosen", "rejected")
    )
    assert (chosen[0] > rejected[0]).mean() > 0.7
    strange = reward.moments(prompts[:20], ["red red good good the the the ! ! ! red red red red"] * 20)
    assert strange[1].mean() > 1.2 * chosen[1].mean()


def test_the_value_is_the_mean_less_deviations(trained, held_out):
    prompts, said = [r.prompt for r in held_out[:4]], [text(r.chosen) for r in held_out[:4]]
    careful = fairlead.reward("laplace", model=trained, pairs=PAIRS, deviations=2.0)
    mean, deviation = careful.moments(prompts, said)
    np.testing.assert_allclose(careful(prompts, said).values, mean - 2 * deviation)
    own = fairlead.reward("laplace", model=trained, pairs=PAIRS, deviations=0.0, spread="elliptical")
    plain = fairlead.reward("model", model=trained)
    np.testing.assert_allclose(own(prompts, said).values, plain(prompts, said).values, atol=1e-5)


def test_beside_a_reference_only_the_difference_counts(trained, tmp_path):
    import json

    asked, known = [{"role": "user", "content": "what is 4 plus 5?"}], ("it is 9.", "happy to help. it is 9.")
    rows = [
        {"id": str(i), "prompt": asked, "completion": [{"role": "assistant", "content": t}]}
        for i, t in enumerate(known)
    ]
    path = tmp_path / "reference.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    reward = fairlead.reward("laplace", model=trained, pairs=PAIRS, reference=str(path))
    mean, deviation = reward.moments([asked] * 2, known)
    assert mean.sum() == pytest.approx(0, abs=1e-6)
    assert deviation[0] == pytest.approx(deviation[1], rel=1e-6)
    with pytest.raises(UsageError, match="no rollouts of the prompt 'other'"):
        reward(["other"], ["it is 9."])


def test_what_makes_no_sense(trained):
    for bad in ({"deviations": -1}, {"ridge": 0}):
        with pytest.raises(UsageError, match=next(iter(bad))):
            fairlead.reward("laplace", model=trained, pairs=PAIRS, **bad)
    with pytest.raises(DataError, match="conversation records"):
        fairlead.reward("laplace", model=trained, pairs="harbor:demonstrations?n=4")(["p"], ["a"])
