"""Rollouts: groups drawn from the policy as it is, resumed to the same bytes, and faults that name their prompt."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_loop import kill_at, lines, weights

import fairlead
from fairlead import catalog
from fairlead.errors import DataError, TrainingError, UsageError
from fairlead.rewards.base import Rewards
from fairlead.training import rollouts
from fairlead.training.config import TrainConfig
from fairlead.training.loop import accelerator_for, train
from fairlead.training.plan import plan
from fairlead.training.rollout_config import RolloutConfig
from fairlead.training.run import prepare
from fairlead.training.self_test import self_test
from fairlead.training.setup import gather
from fairlead.training.valuing import value

LENGTH = {"name": "harbor_proxy", "proxy": "length", "noise": 1.0}


@pytest.fixture
def online(tiny_model) -> TrainConfig:
    drawn = RolloutConfig(reward=LENGTH, n=4, max_tokens=10)
    return TrainConfig(
        model=tiny_model,
        data="harbor:prompts?n=24",
        objective="policy_gradient",
        rollout=drawn,
        batch_size=4,
        max_steps=4,
        learning_rate=3e-3,
    )


def changed(config: TrainConfig, objective=None, **fields) -> TrainConfig:
    assert config.rollout is not None
    return replace(config, objective=objective or config.objective, rollout=replace(config.rollout, **fields))


def opened(config: TrainConfig, folder: Path):
    return accelerator_for(config, folder), gather(config)


@pytest.mark.parametrize(
    ("objective", "fields"), [("ppo", {"steps": 2, "updates": 2}), ({"name": "dapo", "overlong": 0.0}, {})]
)
def test_kill_and_resume_gives_the_same_bytes(objective, fields, online, tmp_path):
    """Also in the midst of a rollout: what was drawn by weights that are gone is kept."""
    config = replace(changed(online, objective, **fields), save_every=3, max_steps=8)
    train(config, tmp_path / "whole", quiet=True)
    kill_at(config, tmp_path / "broken", 4)
    resumed = train(config, tmp_path / "broken", quiet=True)
    assert resumed.steps == 8
    assert weights(tmp_path / "broken") == weights(tmp_path / "whole")
    told = [
        [{k: v for k, v in line.items() if "second" not in k} for line in lines(tmp_path / d)]
        for d in ("whole", "broken")
    ]
    assert told[0] == told[1]
    drawn = [(tmp_path / name / "rollouts.jsonl").read_text() for name in ("whole", "broken")]
    assert drawn[0] == drawn[1]


def test_what_a_run_tells(online, tmp_path):
    train(online, tmp_path, quiet=True)
    line = lines(tmp_path)[-1]
    assert line["ratio"] == pytest.approx(1.0, abs=1e-6)
    assert line["sampler_gap"] < 1e-5
    assert {"reward", "reward_std", "equal_groups", "length", "truncated", "entropy", "seconds_generating"} <= set(line)
    rows = [json.loads(row) for row in (tmp_path / "rollouts.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [step for step in (1, 2, 3, 4) for _ in range(4)]
    assert set(rows[0]) == {"step", "id", "prompt", "completion", "rewards", "advantage"}


def test_several_updates_move_away_from_who_drew(online, tmp_path):
    train(changed(online, steps=1, updates=2), tmp_path, quiet=True)
    told = lines(tmp_path)
    assert [line["stale"] for line in told] == [0, 1, 0, 1]
    assert [line["old_kl"] > 1e-9 for line in told] == [False, True, False, True]
    assert told[0]["reward"] == told[1]["reward"] != told[2]["reward"]


def test_every_prompt_of_a_rollout_is_trained_once_an_update(online, tmp_path):
    config = changed(online, steps=3, updates=2)
    context, materials = opened(config, tmp_path)
    with context as accelerator:
        source = prepare(materials, accelerator).rollouts
        parts = [[g.id for g in source.at(step)] for step in range(6)]
    first, second = ([id for part in some for id in part] for some in (parts[:3], parts[3:]))
    assert len(set(first)) == 12
    assert sorted(first) == sorted(second)
    assert first != second


def test_completions_follow_from_seed_and_place_alone(online, tmp_path):
    found = []
    for config in (online, replace(online, layout="padded"), replace(online, seed=1)):
        context, materials = opened(config, tmp_path)
        with context as accelerator:
            groups = prepare(materials, accelerator).rollouts.at(0)
            found.append([b.ids.tolist() for g in groups for b in g.branches])
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_trainer_s_log_probs_are_the_drawer_s(temperature, online, tmp_path):
    """Those at a temperature are computed by the trainer, and are log-probs of tempered logits."""
    config = changed(online, temperature=temperature, steps=2)
    context, materials = opened(config, tmp_path)
    with context as accelerator:
        run = prepare(materials, accelerator)
        groups = run.rollouts.at(0)
        with torch.no_grad():
            scores, _ = run.scores(groups)
        torch.testing.assert_close(scores.policy, scores.fields["old"], atol=1e-5, rtol=0)
        group, first = groups[0], groups[0].branches[0]
        ids = torch.tensor([[*group.prompt.tolist(), *first.ids.tolist()]])
        run.plain.model.set_attn_implementation("sdpa")
        logits = run.plain.model(ids).logits[0, len(group.prompt) - 1 : -1] / temperature
        own = logits.log_softmax(-1).gather(-1, torch.tensor(first.ids)[:, None])[:, 0]
        torch.testing.assert_close(scores.policy[0, : len(first.ids)], own.detach(), atol=1e-5, rtol=0)


def test_prompts_without_differences_are_replaced(online, tmp_path, monkeypatch):
    kinds = iter(range(10_000))

    def half_equal(prompts, texts):
        return Rewards(
            np.array([float(next(kinds) % 2) if len(p) and hash_of(p) % 2 else 1.0 for p in prompts]),
            [False] * len(texts),
        )

    def hash_of(prompt):
        return sum(map(ord, str(prompt)))

    monkeypatch.setattr(catalog, "from_spec", _with_reward(half_equal))
    train(replace(changed(online, "dapo", rounds=20), max_steps=2), tmp_path, quiet=True)
    for line in lines(tmp_path):
        assert line["prompts"] == 4
        assert 0 < line["equal_groups"] < 1


def _with_reward(reward):
    own = catalog.from_spec
    return lambda kind, spec, **named: reward if kind == "reward" else own(kind, spec, **named)


def test_nothing_to_learn_is_an_error_where_differences_are_wanted(online, tmp_path, monkeypatch):
    equal = lambda prompts, texts: Rewards(np.ones(len(texts)), np.zeros(len(texts), bool))  # noqa: E731
    monkeypatch.setattr(catalog, "from_spec", _with_reward(equal))
    with pytest.raises(TrainingError, match="worth the same"):
        train(replace(online, objective="dapo"), tmp_path / "dapo", quiet=True)
    result = train(online, tmp_path / "plain", quiet=True)
    assert result.metrics["equal_groups"] == 1.0
    assert result.metrics["grad_norm"] == 0.0


def test_completions_that_nothing_values(online, tmp_path, monkeypatch):
    def shy(prompts, texts):
        silent = np.arange(len(texts)) % 2 == 0
        return Rewards(np.where(silent, np.nan, np.arange(len(texts))), silent)

    monkeypatch.setattr(catalog, "from_spec", _with_reward(shy))
    result = train(online, tmp_path, quiet=True)
    assert result.metrics["abstained"] == 0.5
    rows = [json.loads(row) for row in (tmp_path / "rollouts.jsonl").read_text().splitlines()]
    assert all(row["advantage"] == 0 for row in rows if row["rewards"]["reward"] is None)


def test_value_names_the_fault():
    def wrong_length(prompts, texts):
        return Rewards(np.zeros(1), np.zeros(1, bool))

    def not_finite(prompts, texts):
        return Rewards(np.array([math.nan] * len(texts)), np.zeros(len(texts), bool))

    def fails_at_b(prompts, texts):
        if "b" in texts:
            raise KeyError("b")
        return Rewards(np.zeros(len(texts)), np.zeros(len(texts), bool))

    texts = [["a", "a"], ["b", "a"]]
    for reward, words in ((wrong_length, "1 values for 4"), (not_finite, "finite"), (fails_at_b, "prompt second")):
        with pytest.raises(TrainingError, match=words) as caught:
            value({"mine": reward}, ["first", "second"], ["p", "q"], texts)
        assert "mine" in str(caught.value)
    assert value({"mine": fails_at_b}, ["first"], ["p"], [["a", "a"]]).shape == (2, 1)


def test_held_out_prompts_are_measured_by_their_rewards(online, tmp_path):
    config = replace(online, evaluation_data="harbor:prompts?n=8&seed=5", keep="best", evaluate_every=2)
    result = train(config, tmp_path, quiet=True)
    assert result.metrics["evaluation_loss"] == pytest.approx(-result.metrics["evaluation_reward"])
    assert [line["step"] for line in lines(tmp_path) if line.get("split") == "evaluation"] == [2, 4]


def test_a_value_head_is_not_part_of_the_model(online, tmp_path):
    train(replace(online, objective="ppo"), tmp_path, quiet=True)
    answers = fairlead.engine(str(tmp_path / "model")).generate(["the ship"], fairlead.Sampling(max_tokens=3))
    assert len(answers) == 1
    from safetensors.torch import load_file

    assert not [name for name in load_file(tmp_path / "model" / "model.safetensors") if "value" in name]


def test_an_adapter_draws_its_own_completions(online, tmp_path):
    with pytest.raises(UsageError, match="adapter"):
        gather(replace(online, objective="grpo", adapter="lora"))
    config = replace(online, objective="grpo", adapter="lora", reference="live", max_steps=3)
    train(config, tmp_path, quiet=True)
    assert [line["kl"] > 0 for line in lines(tmp_path)] == [False, True, True]


def test_drawing_from_a_copy_in_another_format(online, tmp_path):
    config = changed(online, {"name": "policy_gradient", "correction": "token_truncate"}, dtype="bfloat16")
    train(config, tmp_path, quiet=True)
    assert 1e-5 < lines(tmp_path)[0]["sampler_gap"] < 0.1


def test_the_self_test(online, tiny_model):
    found = self_test(changed(online, n=3))
    assert found.completions == 12
    assert found.largest < 1e-4
    assert found.moved == 0.0
    apart = self_test(changed(online, dtype="bfloat16"))
    assert apart.largest > 1e-4


def test_a_plan_counts_completions_at_their_longest(online):
    known = plan(changed(online, n=2, max_tokens=7))
    assert known.completions == 48
    assert known.trained_tokens == 48 * 7
    assert "Draws 2 completions of at most 7 tokens" in known.sentences[0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"objective": "sft"}, "not of its own"),
        ({"rollout": None}, "how to draw"),
        ({"max_length": 16}, "leave no room for 10 tokens"),
    ],
)
def test_what_is_refused_before_anything_runs(changes, words, online):
    with pytest.raises((UsageError, DataError), match=words):
        gather(replace(online, **changes))


def test_long_prompts_are_dropped_and_counted_or_cut(online):
    sizes = [len(g.prompt) for g in gather(online).groups]
    limit = int(np.median(sizes)) + 10
    dropped = gather(replace(online, max_length=limit, too_long="drop"))
    assert len(dropped.lengths.dropped) == 24 - len(dropped.groups) == sum(size > limit - 10 for size in sizes)
    cut = gather(replace(online, max_length=limit, too_long="truncate_prompt"))
    assert max(len(g.prompt) for g in cut.groups) == limit - 10
    assert len(cut.lengths.truncated) == len(dropped.lengths.dropped)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"reward": LENGTH, "rewards": {"a": LENGTH}},
        {"reward": LENGTH, "n": 0},
        {"reward": LENGTH, "temperature": 0.0},
    ],
)
def test_settings_that_make_no_sense(fields):
    with pytest.raises(UsageError):
        RolloutConfig(**fields)


def test_ranks_share_a_rollout_in_the_stream_s_order():
    assert rollouts._interleaved([3, 2]) == [0, 3, 1, 4, 2]
