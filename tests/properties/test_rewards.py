"""What every catalogued reward keeps; a new one joins with its catalog line, and its fields below if it needs any."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import fairlead
from fairlead import catalog, fields, models
from fairlead.errors import UnknownFieldError, UsageError
from fairlead.rewards.base import Reward

GOOD = "harbor:demonstrations?n=8&quality=clean&kinds=fact"
PAIRS = "harbor:preferences?n=24"
_BLEU = {"name": "bleu", "references": GOOD}
NEEDED = {
    "keywords": {"words": ["captain", "red"]},
    "length_limit": {"at_most": 6},
    "bleu": {"references": GOOD},
    "rouge_l": {"references": GOOD},
    "combined": {"rewards": [_BLEU, {"name": "rouge_l", "references": GOOD}], "how": "harmonic"},
    "reward_ensemble": {"members": [_BLEU, {"name": "rouge_l", "references": GOOD}]},
    "calibrated": {"reward": _BLEU, "rollouts": "{rollouts}"},
    "model": {"model": "{scorer}"},
    "laplace": {"model": "{scorer}", "pairs": PAIRS},
}
"""name -> the fields of a working instance; {rollouts} and {scorer} are made for the suite."""


@pytest.fixture(scope="module")
def asked():
    return [record.prompt for record in fairlead.read(GOOD, kind="prompt")]


@pytest.fixture(scope="module")
def said(asked):
    told = [record.completion[0]["content"] for record in fairlead.read(GOOD)]
    return [*told[:4], "the captain is red.", "", " \n", "i do not know. 3 é 猫 <answer>"]


@pytest.fixture(scope="module")
def places(tmp_path_factory, asked) -> dict[str, str]:
    """Answers by prompt, and a reward model that has learnt nothing."""
    folder = tmp_path_factory.mktemp("places")
    texts = ("the captain is red.", "sorry.", "the port is tunis.")
    rows = [
        {"id": f"{i}-{k}", "prompt": prompt, "completion": [{"role": "assistant", "content": text}]}
        for i, prompt in enumerate(asked)
        for k, text in enumerate(texts)
    ]
    (folder / "rollouts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    torch.manual_seed(0)
    for part in (models.load_model("harbor:base-300k", head="score"), models.load_tokenizer("harbor:base-300k")):
        part.save_pretrained(folder / "scorer")
    return {"rollouts": str(folder / "rollouts.jsonl"), "scorer": str(folder / "scorer")}


@pytest.fixture(params=[entry.name for entry in catalog.entries("reward")])
def name(request) -> str:
    return request.param


@pytest.fixture
def build(name, places):
    def made(**changes) -> Reward:
        given = {
            key: value.format(**places) if isinstance(value, str) else value
            for key, value in NEEDED.get(name, {}).items()
        }
        return catalog.build("reward", name, **given | changes)

    return made


def test_what_a_reward_needs_is_told_here(name):
    lacking = [f.name for f in fields.describe(catalog.find("reward", name).load()) if f.required]
    assert name in NEEDED or not lacking, f"give {name} its fields in NEEDED: {lacking}"


def test_fields_come_back_from_plain_values(name, build):
    reward = build()
    assert isinstance(reward, Reward)
    assert catalog.build("reward", name, **fields.to_plain(reward)) == reward
    assert all(field.doc for field in fields.describe(type(reward)))
    with pytest.raises(UnknownFieldError, match="no field 'sead'"):
        build(sead=1)


def test_every_completion_gets_a_value_or_an_abstention(build, asked, said):
    found = build()(asked, said)
    assert found.values.shape == found.abstained.shape == (len(said),)
    assert np.array_equal(np.isnan(found.values), found.abstained)
    assert np.isfinite(found.values[~found.abstained]).all()
    assert (~found.abstained).any()


def test_equal_calls_give_equal_values(build, asked, said):
    reward = build()
    values = reward(asked, said).values
    for other in (reward, build()):
        assert np.array_equal(other(asked, said).values, values, equal_nan=True)


def test_the_order_of_completions_and_who_stands_beside_do_not_matter(build, asked, said):
    reward = build()
    together = reward(asked, said).values
    order = np.random.default_rng(0).permutation(len(said))
    turned = reward([asked[i] for i in order], [said[i] for i in order]).values
    alone = np.concatenate([reward([p], [t]).values for p, t in zip(asked, said, strict=True)])
    np.testing.assert_allclose(turned, together[order], atol=1e-5)
    np.testing.assert_allclose(alone, together, atol=1e-5)


def test_nothing_is_worth_nothing(build):
    assert len(build()([], [])) == 0


def test_lists_of_unequal_length_are_refused(build, asked, said):
    with pytest.raises(UsageError, match="completions"):
        build()(asked, said[:-1])


def test_what_it_reads_is_a_field(name):
    cls = catalog.find("reward", name).load()
    assert set(getattr(cls, "sources", ())) <= {field.name for field in fields.describe(cls)}
    assert set(getattr(cls, "adjustable", ())) <= {field.name for field in fields.describe(cls)}
    assert not set(getattr(cls, "sources", ())) & set(getattr(cls, "adjustable", ()))
