"""Completions from a server: their tokens and log-probs are the policy's own, or the run stops."""

from __future__ import annotations

import numpy as np
import pytest
from running_server import Running

import fairlead
from fairlead.engines.base import Completion, FinishReason
from fairlead.errors import RequestError, TrainingError, UsageError
from fairlead.forward.layout import Group
from fairlead.models import load_tokenizer
from fairlead.render import Renderer
from fairlead.training.config import TrainConfig
from fairlead.training.drawing import open_drawer
from fairlead.training.loop import train
from fairlead.training.rollout_config import RolloutConfig

MODEL = "harbor:base-300k"
PROMPT = [{"role": "user", "content": "who is the captain of the keb bo?"}]


@pytest.fixture(scope="module")
def server():
    running = Running({"base": fairlead.engine(MODEL)})
    yield f"{running.url}/v1#base"
    running.stop()


def drawer(server, **fields):
    tokenizer = load_tokenizer(MODEL)
    config = RolloutConfig(reward="harbor", n=2, max_tokens=12, server=server, **fields)
    return open_drawer(None, tokenizer, Renderer(tokenizer), config), config


def test_a_server_s_answers_become_the_policy_s_tokens(server):
    source, config = drawer(server)
    (drawn,) = source.draw([PROMPT], [Group("one", np.array([1]), ())], config.sampling(3))
    engine = fairlead.engine(MODEL)
    prompt = engine.prompt_ids(PROMPT)
    for one in drawn:
        known = ~np.isnan(one.logprobs)
        assert known[: len(one.ids) - 1].all()
        own = engine.logprobs_ids([prompt], [one.ids.tolist()])[0]
        np.testing.assert_allclose(one.logprobs[known], own[known], atol=1e-3)
        assert one.truncated == (one.ids[-1] not in engine.renderer.stops)


def test_training_on_a_server_s_answers(server, tmp_path):
    config = TrainConfig(
        model=MODEL,
        data="harbor:prompts?n=8",
        objective={"name": "policy_gradient", "correction": "sequence_mask"},
        rollout=RolloutConfig(reward={"name": "harbor"}, n=2, max_tokens=12, server=server),
        batch_size=4,
        max_steps=2,
        learning_rate=1e-3,
    )
    result = train(config, tmp_path, quiet=True)
    assert result.metrics["stale"] == 1.0
    assert 0 < result.metrics["sampler_gap"] < 1.0


class Silent:
    """A server's engine that leaves out, or changes, what it tells."""

    def __init__(self, completion):
        self.completion = completion

    def generate(self, prompts, sampling):
        return [[self.completion] for _ in prompts]


@pytest.mark.parametrize(
    ("completion", "words"),
    [
        (Completion("the captain is ines."), "no log-probs"),
        (Completion("the captain is ines.", logprobs=np.zeros(3, np.float32)), "3 tokens where"),
        (
            Completion("a b", logprobs=np.zeros(2, np.float32), extra={"tokens": ["a b", "x"]},
                       finish_reason=FinishReason.LENGTH),
            "other ones",
        ),
    ],
)  # fmt: skip
def test_what_a_server_must_tell(completion, words, server):
    source, config = drawer(server)
    source._engine = Silent(completion)
    with pytest.raises(TrainingError, match=words) as caught:
        source.draw([PROMPT], [Group("the-prompt", np.array([1]), ())], config.sampling(0))
    assert "the-prompt" in str(caught.value)


def test_settings_that_make_no_sense(server):
    with pytest.raises(UsageError, match="name of a model"):
        drawer(server.partition("#")[0])
    with pytest.raises(UsageError, match="number format"):
        drawer(server, dtype="bfloat16")
    with pytest.raises(RequestError, match="temperature"):
        drawer(server, temperature=0.5)
