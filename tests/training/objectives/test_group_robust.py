"""Group-robust policy gradients: the known steps of the weights, both kinds of group, mixtures, robust pair losses."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from torch.nn.functional import logsigmoid

import fairlead
from fairlead.errors import DataError, UsageError
from fairlead.forward.layout import Branch, Group
from fairlead.records import read
from fairlead.training.columns import Part
from fairlead.training.objectives.base import Scores
from fairlead.training.objectives.group_robust import GroupNumber, group_step
from fairlead.training.objectives.online import Rollout

NAN = math.nan


def robust(**fields):
    return fairlead.objective("group_robust", **fields)


def rollout(rewards, owner=None, group=None) -> Rollout:
    rewards = torch.tensor(rewards, dtype=torch.float64)
    rewards = rewards[:, None] if rewards.ndim == 1 else rewards
    rows = len(rewards)
    mask = torch.ones(rows, 2, dtype=torch.bool)
    numbers = torch.arange(rows) if group is None else torch.tensor(group)
    columns = {} if owner is None else {"annotator": torch.tensor(owner, dtype=torch.float64)}
    cut = torch.zeros(rows, dtype=torch.bool)
    return Rollout(rewards, tuple("abc"[: rewards.shape[1]]), numbers, mask, cut, 2, columns=columns)


def plain(**fields):
    return robust(baseline="none", scale="none", **fields)


def test_two_steps_of_group_dro():
    losses = torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64)
    shares = torch.full((3,), 1 / 3, dtype=torch.float64)
    for _ in range(2):
        shares = group_step(shares, losses, 0.1)
    torch.testing.assert_close(shares, torch.tensor([0.319873, 0.289433, 0.390694]).double(), atol=1e-6, rtol=0)
    assert float(shares @ losses) == pytest.approx(1.245977, abs=1e-6)


def test_the_same_steps_by_the_objective():
    for column, given in (
        (None, rollout([(-1.0, -0.5, -2.0)])),
        ("annotator", rollout([-1.0, -0.5, -2.0], [7, 9, 8])),
    ):
        method = plain(column=column)
        state = method.begin(3 if column is None else 1, 1)
        for _ in range(2):
            found = method.advantages(given, state)
            state = found.state
        expected = [0.319873, 0.289433, 0.390694] if column is None else [0.319873, 0.390694, 0.289433]
        assert state["shares"].tolist() == pytest.approx(expected, abs=1e-6)
        assert found.metrics["worst"] == -2
        name = "c" if column is None else "8"
        assert found.metrics[f"group_{name}"] == -2
        assert found.metrics[f"share_{name}"] == pytest.approx(0.390694, abs=1e-6)


def test_the_weighed_mean_of_groups_is_what_is_trained():
    """The mean over rows of the weighed advantages is the groups' means, weighed."""
    given = rollout([1.0, 2.0, 3.0, 10.0], [0, 0, 0, 1])
    method = plain(column="annotator", group_rate=0.0)
    worth = method.advantages(given, method.begin(1, 1)).fields["advantage"]
    assert float(worth.mean()) == pytest.approx(0.5 * 2 + 0.5 * 10)
    worst = plain(column="annotator", rule="maxmin")
    worth = worst.advantages(given, worst.begin(1, 1)).fields["advantage"]
    torch.testing.assert_close(worth, torch.tensor([4 / 3, 8 / 3, 4.0, 0.0]))


def test_maxmin_over_people_trains_on_the_worst_of_them():
    method = plain(rule="maxmin")
    found = method.advantages(rollout([(1.0, 0.0), (0.0, 0.5)]), method.begin(2, 1))
    torch.testing.assert_close(found.fields["advantage"], torch.tensor([0.0, 0.5]))
    assert (found.metrics["share_a"], found.metrics["share_b"]) == (0, 1)


def test_the_best_mixture_for_the_worst_group():
    """Two policies worth (.9, .2) and (.3, .8) to two groups: exact ascent under group DRO ends at weight .416667."""
    utilities = torch.tensor([[0.9, 0.2], [0.3, 0.8]], dtype=torch.float64)
    shares, logits = torch.full((2,), 0.5, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    total = torch.zeros(2, dtype=torch.float64)
    steps = 4000
    for _ in range(steps):
        mixture = torch.softmax(logits, 0)
        worth = mixture @ utilities
        shares = group_step(shares, -worth, 0.05)
        logits = logits + 0.05 * utilities @ shares
        total += mixture
    mean = total / steps
    assert float(mean[0]) == pytest.approx(0.416667, abs=0.01)
    assert float((mean @ utilities).min()) == pytest.approx(0.55, abs=0.01)
    assert float((torch.tensor([0.5, 0.5], dtype=torch.float64) @ utilities).min()) == pytest.approx(0.5)


def test_new_groups_join_and_absent_ones_keep_their_weight():
    method = plain(column="annotator", group_rate=1.0)
    first = method.advantages(rollout([1.0, 0.0], [3, 5]), method.begin(1, 1))
    before = dict(zip(first.state["groups"].tolist(), first.state["shares"].tolist()))
    assert before[5] > before[3]
    second = method.advantages(rollout([0.0, 0.0], [3, 4]), first.state)
    after = dict(zip(second.state["groups"].tolist(), second.state["shares"].tolist()))
    assert sorted(after) == [3, 4, 5]
    assert after[5] == pytest.approx(before[5] * 2 / 3)
    assert sum(after.values()) == pytest.approx(1)
    assert math.isnan(second.metrics["group_5"])


def test_a_group_whose_completions_nobody_values_keeps_its_weight():
    method = plain(column="annotator", group_rate=1.0)
    found = method.advantages(rollout([NAN, 1.0, 0.0], [0, 1, 2]), method.begin(1, 1))
    assert found.state["shares"][0] == pytest.approx(1 / 3)
    assert found.fields["advantage"][0] == 0
    silent = method.advantages(rollout([NAN, NAN], [0, 1]), method.begin(1, 1))
    assert silent.state["shares"].tolist() == [0.5, 0.5]
    assert math.isnan(silent.metrics["worst"])


def test_per_token_worths_are_weighed_too():
    method = robust(column="annotator", rule="maxmin", baseline="none", scale="whiten")
    found = method.advantages(rollout([1.0, 2.0, 3.0], [0, 1, 1]), method.begin(1, 1)).fields["advantage"]
    assert found.shape == (3, 2)
    assert (found[0] != 0).all()
    assert (found[1:] == 0).all()


def numbers_of(folder, *owners) -> list[list[float]]:
    path = folder / "prompts.jsonl"
    rows = [
        {"id": f"r{k}", "prompt": f"say {k}"} | ({} if who is None else {"who": who}) for k, who in enumerate(owners)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    branch = Branch(np.zeros(2, dtype=np.int64), np.ones(2, dtype=bool))
    groups = [Group(f"r{k}", np.zeros(1, dtype=np.int64), (branch,) * 2) for k in range(1, len(owners))]
    return [found.tolist() for found in GroupNumber("who").supply(Part(groups, read(path, kind="prompt")), None)]


def test_groups_by_number_or_by_name(tmp_path):
    assert numbers_of(tmp_path, 4, 7, 2.5) == [[7, 7], [2.5, 2.5]]
    assert numbers_of(tmp_path, "sailors", "clerks", "sailors") == [[0, 0], [1, 1]]
    for wrong in (None, 3):
        with pytest.raises(DataError, match="line 3"):
            numbers_of(tmp_path, "sailors", "clerks", wrong)
    with pytest.raises(DataError, match="line 2"):
        numbers_of(tmp_path, 1, None)


def test_robust_pair_losses_with_a_known_share_of_wrong_labels():
    """DPO's `robust` is the unbiased form, `sigmoid` with smoothing the smoothed one: h = .7, e = .1."""
    fields = {"chosen": torch.tensor([True, False])}
    policy, mask = torch.tensor([[-1.0], [-8.0]]), torch.ones(2, 1, dtype=torch.bool)
    given = Scores(policy, mask, torch.zeros(2), reference=torch.zeros(2, 1), fields=fields)
    for loss, expected in (("robust", 0.315686), ("sigmoid", 0.473186)):
        found = fairlead.objective("dpo", loss=loss, smoothing=0.1, beta=0.1)(given)
        assert float(found.sum / found.count) == pytest.approx(expected, abs=1e-6)
    right, wrong = (-logsigmoid(torch.tensor(h)) for h in (0.7, -0.7))
    assert float((0.9 * right - 0.1 * wrong) / 0.8) == pytest.approx(0.315686, abs=1e-6)


@pytest.mark.parametrize(
    "fields", [{"group_rate": -1.0}, {"column": ""}, {"weights": [1.0, 2.0]}, {"combine": "normalise"}]
)
def test_settings_that_cannot_be(fields):
    with pytest.raises(UsageError, match="group_robust"):
        robust(**fields)


def test_one_reward_and_no_column_is_refused():
    with pytest.raises(UsageError, match="column"):
        robust().begin(1, 4)
    assert robust(column="annotator").begin(1, 4)["groups"].numel() == 0
