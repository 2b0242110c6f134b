"""Calibrated rewards: ranks among rollouts, what maps and ties keep, transforms, and what is refused."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import numpy as np
import pytest

import fairlead
from fairlead.errors import DataError, UnknownNameError, UsageError
from fairlead.rewards.base import Rewards
from fairlead.rewards.calibrated import CalibratedReward
from fairlead.theory.transforms import Transform

MODEL = "harbor:base-300k"


@dataclass(frozen=True)
class Told:
    """Reads the number that a text is, put through a map; abstains on anything else."""

    power: bool = False

    def __call__(self, prompts, completions) -> Rewards:
        found = np.array([float(c) if c.replace(".", "").isdigit() else math.nan for c in completions])
        return Rewards(np.exp(found) if self.power else found, np.isnan(found))


def rollouts(path, answers, models=None):
    rows = [
        {
            "id": f"{prompt}-{i}",
            "prompt": prompt,
            "completion": text,
            **({"models": {"model": models}} if models else {}),
        }
        for prompt, said in answers.items()
        for i, text in enumerate(said)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def known(tmp_path):
    return rollouts(tmp_path / "rollouts.jsonl", {"p": ("0.1", "1.5", "2.0", "1.0"), "q": ("7", "7", "9", "7")})


def value(text, known, prompt="p", **fields):
    return CalibratedReward(Told(fields.pop("power", False)), known, **fields)([prompt], [text]).values[0]


def test_the_rank_among_the_rollouts(known):
    assert value("1.5", known, transform="identity") == 0.625
    assert value("1.5", known, transform="identity", power=True) == 0.625
    assert value("0", known, transform="identity") == 0
    assert value("3", known, transform="identity") == 1
    assert [value(text, known, "q", transform="identity") for text in ("7", "8", "9")] == [0.375, 0.75, 0.875]


def test_the_base_is_worth_one_half_on_average(known):
    reward = CalibratedReward(Told(), known, transform="identity")
    for prompt, answers in (("p", ("0.1", "1.5", "2.0", "1.0")), ("q", ("7", "7", "9", "7"))):
        assert reward([prompt] * 4, answers).values.mean() == pytest.approx(0.5)


@pytest.mark.parametrize("kind", ["exp", "neg_exp", "log", "best_of_n", "worst_of_n"])
def test_transforms_of_ranks(known, kind):
    fields = {"transform": kind, "sharpness": 3.0, "beta": 0.3}
    raw, scaled = (CalibratedReward(Told(), known, normalise=n, **fields) for n in (False, True))
    shape = Transform(kind, 3.0, 4, 0.3, least=0.125 if kind == "log" else 0.0)
    texts, ranks = ["0", "0.1", "1.5", "3"], np.array([0, 0.125, 0.625, 1])
    np.testing.assert_allclose(raw(["p"] * 4, texts).values, shape(ranks))
    found = scaled(["p"] * 4, texts).values
    assert (found[0], found[-1]) == (0, 1)
    np.testing.assert_allclose(found * scaled.width, shape(ranks) - shape(np.array(0.0)))


def test_answers_without_a_value_have_none(known, tmp_path):
    reward = CalibratedReward(Told(), known)
    assert reward(["p", "p"], ["1", "one"]).abstained.tolist() == [False, True]
    mute = rollouts(tmp_path / "mute.jsonl", {"p": ("0.1", "1.5"), "q": ("a", "b")})
    assert CalibratedReward(Told(), mute)(["q"], ["c"]).abstained.all()
    with pytest.raises(UsageError, match="abstains on all rollouts of 'q'"):
        CalibratedReward(Told(), mute)(["q"], ["1"])


def test_a_prompt_without_rollouts_is_named(known):
    with pytest.raises(UsageError, match="'who\\?'"):
        CalibratedReward(Told(), known)(["who?"], ["1"])


def test_rollouts_of_another_model_are_refused(tmp_path):
    fresh = rollouts(tmp_path / "other.jsonl", {"p": ("1", "2")}, models="another")
    with pytest.raises(DataError, match=r"answers of another, and not of harbor:base-300k"):
        CalibratedReward(Told(), fresh, base=MODEL)(["p"], ["1"])
    silent = rollouts(tmp_path / "silent.jsonl", {"p": ("1", "2")})
    with pytest.raises(DataError, match="do not tell which model"):
        CalibratedReward(Told(), silent, base=MODEL)(["p"], ["1"])
    assert CalibratedReward(Told(), silent)(["p"], ["3"]).values[0] == 1


def test_a_generate_step_leaves_what_it_reads(tmp_path):
    from fairlead.steps.base import Context
    from fairlead.steps.generate import Generate

    step = Generate(model=MODEL, data="harbor:prompts?n=4", n=6, max_tokens=24, reward="harbor")
    made = str(tmp_path / step(Context(tmp_path, tmp_path / "cache.sqlite", quiet=True)).outputs["records"])
    reward = fairlead.reward("calibrated", reward="harbor", rollouts=made, transform="identity", base=MODEL)
    records = fairlead.read(made)
    texts = [record.completion[0]["content"] for record in records]
    found = reward([record.prompt for record in records], texts).values
    assert found.mean() == pytest.approx(0.5)
    again = fairlead.reward("calibrated", reward="harbor", rollouts=made, transform="identity", rescore=True)
    assert again([record.prompt for record in records], texts).values.tolist() == found.tolist()


def test_what_makes_no_sense():
    with pytest.raises(UsageError, match="transform"):
        fairlead.reward("calibrated", reward="harbor", rollouts="x", transform="expo")
    with pytest.raises(UsageError, match="depends on beta"):
        fairlead.reward("calibrated", reward="harbor", rollouts="x", transform="best_of_n")
    with pytest.raises(UsageError, match="sharpness"):
        fairlead.reward("calibrated", reward="harbor", rollouts="x", sharpness=0)
    with pytest.raises(UnknownNameError, match="harbor"):
        fairlead.reward("calibrated", reward="harbour", rollouts="x")
