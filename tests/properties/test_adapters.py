"""Every catalogued objective trains a few steps with every type of adapter: the loss is finite and only it changes."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch

pytest.importorskip("peft")

from fairlead import catalog, models
from fairlead.forward.layout import Branch, Group
from fairlead.training import run
from fairlead.training.adapters import KINDS
from fairlead.training.config import TrainConfig
from fairlead.training.loop import accelerator_for
from fairlead.training.objectives.base import Needs
from fairlead.training.rollout_config import RolloutConfig
from fairlead.training.setup import Materials, gather

NAMES = [e.name for e in catalog.entries("objective")]
COMPLETIONS = {"conversation": 1, "preference": 2, "feedback": 1, "ranking": 4}
SHOTS = {"bialign": "harbor:shots?n=4"}
"""Data of objectives whose groups are more than a record's completions."""
LENGTH = {"name": "harbor_proxy", "proxy": "length", "noise": 1.0}
ROLLOUT = RolloutConfig(rewards={"reward": LENGTH, "cost": LENGTH}, n=2, max_tokens=4)
"""What objectives that learn from completions of their own draw."""
STEPS = 2
SPECS = {kind: {"type": kind, "num_virtual_tokens": 4} if KINDS[kind].virtual else kind for kind in KINDS}


def groups_for(needs: Needs, count: int = 4) -> list[Group]:
    """Random groups with every field that the objective reads of its records."""
    rng = np.random.default_rng(0)
    number = COMPLETIONS[needs.record]

    def group(k: int) -> Group:
        fields = {
            "preference": {"chosen": np.arange(number) == 0},
            "feedback": {"label": np.full(number, k % 2 == 0)},
            "ranking": {"rank_score": rng.dirichlet(np.ones(number))},
        }.get(needs.record, {})
        fields |= {column.name: 0.5 + rng.random(number) for column in needs.columns}
        ids = [rng.integers(10, 200, int(n)) for n in rng.integers(2, 7, number + 1)]
        branches = tuple(Branch(i, np.ones(len(i), dtype=bool)) for i in ids[1:])
        return Group(str(k), ids[0], branches, fields)

    return [group(k) for k in range(count)]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """Folder of a one-layer random Llama that speaks Harbor's template."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from fairlead.harbor.tokenizer import build_tokenizer

    folder = tmp_path_factory.mktemp("model") / "tiny"
    tokenizer = build_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module", autouse=True)
def _cheap(tmp_path_factory):
    """A cache of the test's own; models are read once; columns are those of the groups."""
    load = lru_cache(models.load_model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAIRLEAD_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(models, "load_model", lambda *given, **options: copy.deepcopy(load(*given, **options)))
        patch.setattr(run, "attach_columns", lambda part, columns, desk: part.groups)
        yield


@pytest.fixture(scope="module")
def materials(model) -> Materials:
    config = TrainConfig(model, "harbor:demonstrations?n=4", batch_size=4, max_steps=STEPS, learning_rate=1e-2)
    return gather(config)


@pytest.fixture(scope="module")
def accelerator(materials, tmp_path_factory):
    with accelerator_for(materials.config, tmp_path_factory.mktemp("run")) as one:
        yield one


@pytest.mark.parametrize("name", NAMES)
def test_objective_trains_with_every_adapter(name, materials, accelerator):
    teacher = {"teacher": materials.config.model} if name in SHOTS else {}
    objective = catalog.build("objective", name, **teacher)
    if objective.needs.record == "prompt":
        data = replace(materials.config, data="harbor:prompts?n=4", objective=name, rollout=ROLLOUT)
        materials = gather(data)
        groups = materials.groups
    elif name in SHOTS:
        data = replace(materials.config, data=SHOTS[name], objective={"name": name, **teacher})
        groups = gather(data).groups
    else:
        groups = groups_for(objective.needs)
    for kind, spec in SPECS.items():
        config = replace(materials.config, adapter=spec)
        prepared = run.prepare(replace(materials, config=config, objective=objective, groups=groups), accelerator)
        named = dict(prepared.plain.named_parameters())
        before = {n: p.detach().clone() for n, p in named.items()}
        for _ in range(STEPS):
            line = prepared.step()
            assert math.isfinite(line["loss"]), kind
        moved = {n for n, p in named.items() if not torch.equal(p, before[n])}
        assert moved, f"{kind} learns nothing"
        assert all(named[n].requires_grad for n in moved), f"{kind} changes frozen weights"
