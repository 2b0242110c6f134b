"""Ensembles of rewards: the known careful values, reference answers, scales, abstentions, and what is refused."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import numpy as np
import pytest

import fairlead
from fairlead.errors import UnknownNameError, UsageError
from fairlead.rewards.base import Rewards
from fairlead.rewards.reward_ensemble import RewardEnsemble

TEXTS = ("one", "two", "three")
MEMBERS = ((1, 0.8, 0.2), (0.9, 1.5, 0.3), (1.1, 0.1, 0.25), (1, 1.4, 0.25))


@dataclass(frozen=True)
class Table:
    """Looks values up; adds an offset that only the prompt's length sets, and scales."""

    values: tuple[float, ...]
    offset: float = 0.0
    scale: float = 1.0

    def __call__(self, prompts, completions) -> Rewards:
        known = dict(zip(TEXTS, self.values))
        found = np.array(
            [self.scale * (known.get(text, math.nan) + self.offset * len(p)) for p, text in zip(prompts, completions)]
        )
        return Rewards(found, np.isnan(found))


TABLES = tuple(Table(values) for values in MEMBERS)


def valued(members=TABLES, texts=TEXTS, prompt="p", **fields):
    return RewardEnsemble(members, **fields)([prompt] * len(texts), texts).values


def answers(path, prompts=("p", "longer"), texts=TEXTS):
    rows = [{"id": f"{p}-{t}", "prompt": p, "completion": t} for p in prompts for t in texts]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("rule", "known"),
    [
        ("mean", (1, 0.95, 0.25)),
        ("median", (1, 1.1, 0.25)),
        ("lcb", (0.9183503, 0.3045028, 0.2091752)),
        ("worst", (0.9, 0.1, 0.2)),
        ("penalised", (0.9975, 0.79375, 0.249375)),
    ],
)
def test_known_values(rule, known):
    assert valued(rule=rule) == pytest.approx(known, abs=1e-7)


def test_the_spread_can_be_had():
    found = RewardEnsemble(TABLES).careful(["p"] * 3, TEXTS)
    assert found.sd == pytest.approx([0.0816497, 0.6454972, 0.0408248], abs=1e-7)
    assert found.lcb == pytest.approx(found.mean - found.sd)
    assert valued(deviations=2.0) == pytest.approx(found.mean - 2 * found.sd)


def test_a_reference_takes_offsets_away(tmp_path):
    path = answers(tmp_path / "base.jsonl")
    free = tuple(Table(values, offset=7.0 * i) for i, values in enumerate(MEMBERS))
    for prompt in ("p", "longer"):
        fields = {"prompt": prompt, "reference": path, "standardise": False}
        found = valued(free, **fields)
        assert found == pytest.approx(valued(**fields))
        centred = np.array(MEMBERS) - np.mean(MEMBERS, axis=1, keepdims=True)
        assert found == pytest.approx(centred.mean(0) - centred.std(0, ddof=1))


def test_scales_are_made_equal(tmp_path):
    path = answers(tmp_path / "base.jsonl")
    same = tuple(Table(MEMBERS[0], offset=i, scale=10.0**i) for i in range(3))
    found = RewardEnsemble(same, reference=path).careful(["p"] * 3, TEXTS)
    assert found.sd == pytest.approx([0, 0, 0], abs=1e-9)
    assert valued(same).tolist() != pytest.approx(valued(same[:2]).tolist())


def test_whoever_abstains_silences_all():
    partial = (Table(MEMBERS[0]), Table((1.0, math.nan, 2.0)))
    for rule in ("mean", "median", "lcb", "worst", "penalised"):
        found = RewardEnsemble(partial, rule=rule)(["p"] * 3, TEXTS)
        assert found.abstained.tolist() == [False, True, False]


def test_from_the_catalog():
    members = [{"name": "harbor_proxy", "proxy": "noisy_total", "noise": 0.5, "seed": i} for i in range(4)]
    question = [{"role": "user", "content": "what is 4 plus 5?"}]
    found = {
        rule: fairlead.reward("reward_ensemble", members=members, rule=rule)([question], ["it is 9."]).values[0]
        for rule in ("mean", "lcb", "worst")
    }
    exact = fairlead.reward("harbor")([question], ["it is 9."]).values[0]
    assert max(found["worst"], found["lcb"]) < found["mean"]
    assert found["mean"] == pytest.approx(exact, abs=1.0)


def test_what_makes_no_sense(tmp_path):
    with pytest.raises(UsageError, match="fewer than two"):
        RewardEnsemble(TABLES[:1])
    with pytest.raises(UsageError, match="deviations"):
        RewardEnsemble(TABLES, deviations=-1)
    with pytest.raises(UnknownNameError, match="harbor"):
        RewardEnsemble(("harbour", "harbor"))
    with pytest.raises(UsageError, match="no rollouts of the prompt 'new'"):
        valued(prompt="new", reference=answers(tmp_path / "base.jsonl"))
    with pytest.raises(UsageError, match="tell the reference's answers"):
        valued((Table((1.0, 1.0, 1.0)), *TABLES), reference=answers(tmp_path / "base.jsonl"))
