"""Weak-to-strong losses: exact values, the threshold and its ties, split steps, refusals, and the two regimes."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
import torch.nn.functional as F

import fairlead
from fairlead.errors import DataError, UsageError
from fairlead.training.config import TrainConfig
from fairlead.training.objectives.base import Scores
from fairlead.training.objectives.hardening import balanced, harden, threshold_two

LOGITS = [[0.2, 1.0], [1.5, -0.5], [0.0, 0.4], [0.9, 0.1]]
WEAK = [[0.3, 0.7], [0.8, 0.2], [0.6, 0.4], [0.1, 0.9]]


def made(logits=LOGITS, weak=WEAK, progress=0.0) -> Scores:
    """Items whose label words have one token each, with `logits` as log-probs."""
    values, soft = torch.as_tensor(logits), torch.as_tensor(weak)
    count, classes = values.shape
    flat = values.reshape(-1, 1).clone().requires_grad_()
    item, label = torch.arange(count * classes) // classes, torch.arange(count * classes) % classes
    fields = {"rank_score": soft.reshape(-1), "label_row": item.float(), "label_class": label.float()}
    return Scores(flat, torch.ones_like(flat, dtype=torch.bool), item, fields=fields, progress=progress)


def part_of(scores: Scores, rows) -> Scores:
    fields = {name: values[rows] for name, values in scores.fields.items()}
    return dataclasses.replace(
        scores, policy=scores.policy[rows], mask=scores.mask[rows], group=scores.group[rows], fields=fields
    )


def surveyed(method, scores: Scores) -> Scores:
    with torch.no_grad():
        return dataclasses.replace(scores, survey=method.survey(scores))


def mean(method, scores: Scores) -> float:
    loss = method(surveyed(method, scores))
    return float((loss.sum / loss.count).detach())


def objective(**fields):
    return fairlead.objective("weak_to_strong", **fields)


@pytest.mark.parametrize(
    ("fields", "progress", "expected"),
    [
        ({"loss": "xent"}, 0.5, 0.74553615),
        ({}, 0.0, 0.74553615),
        ({}, 0.05, 0.64553615),
        ({}, 0.1, 0.54553615),
        ({}, 0.5, 0.54553615),
        ({"alpha_max": 0.0}, 0.5, 0.74553615),
        ({"warmup": 0.0}, 0.0, 0.54553615),
        ({"loss": "product"}, 0.5, 0.60467957),
    ],
)
def test_known_values(fields, progress, expected):
    assert mean(objective(**fields), made(progress=progress)) == pytest.approx(expected, abs=1e-6)


def test_the_weight_rises_along_a_line_and_never_jumps():
    method = objective(alpha_max=0.6, warmup=0.2)
    assert [method.coefficient(f) for f in (0.0, 0.05, 0.1, 0.2, 0.9)] == pytest.approx([0.0, 0.15, 0.3, 0.6, 0.6])
    assert objective(warmup=0.0).coefficient(0.0) == 0.5


def test_threshold_and_hardened_classes():
    first = torch.tensor(LOGITS).softmax(1)[:, 0]
    level = torch.tensor(WEAK)[:, 1].mean()
    assert float(torch.quantile(first, level)) == pytest.approx(0.58894273, abs=1e-6)
    assert threshold_two(first, level).tolist() == [1, 0, 1, 0]


def test_items_on_the_threshold_are_told_apart_by_their_order():
    half = torch.full((4,), 0.5)
    assert threshold_two(half, torch.tensor(0.5)).tolist() == [1, 1, 0, 0]
    # Three of five are tied: two items belong into class 1, and one is there already.
    assert threshold_two(torch.tensor([0.5, 0.1, 0.5, 0.9, 0.5]), torch.tensor(0.4)).tolist() == [1, 1, 0, 0, 0]
    # A single item on the threshold is no tie: the rule gives it class 0.
    assert threshold_two(torch.tensor([0.1, 0.2, 0.3]), torch.tensor(0.5)).tolist() == [1, 0, 0]


def test_the_loss_of_ties_splits_them():
    method = objective(warmup=0.0, alpha_max=1.0)
    scores = surveyed(method, made([[0.0, 0.0]] * 4, [[0.5, 0.5]] * 4))
    slope = torch.autograd.grad(method(scores).sum, scores.policy)[0].reshape(4, 2)
    assert slope[:, 1].tolist() == pytest.approx([-0.5, -0.5, 0.5, 0.5])


@pytest.mark.parametrize("fields", [{"loss": "xent"}, {"warmup": 0.0}, {"loss": "product", "student_power": 0.5}])
def test_targets_are_distributions_and_take_no_gradient(fields):
    """With a detached target that sums to 1 the slope is softmax - target, which sums to 0 over the classes."""
    method, scores = objective(**fields), made()
    scores = surveyed(method, scores)
    loss = method(scores)
    slope = torch.autograd.grad(loss.sum / loss.count, scores.policy)[0].reshape(4, 2)
    target = torch.tensor(LOGITS).softmax(1) - 4 * slope
    assert slope.sum(1).tolist() == pytest.approx([0.0] * 4, abs=1e-6)
    assert target.sum(1).tolist() == pytest.approx([1.0] * 4, abs=1e-5)
    again = -(target * torch.tensor(LOGITS).log_softmax(1)).sum(1).mean()
    assert float(again) == pytest.approx(float((loss.sum / loss.count).detach()), abs=1e-5)


def test_two_labels_are_a_soft_preference():
    """The loss of a Bradley-Terry pair with a soft label is the case of two label words."""
    margins, preferred = [0.5, -0.2], [0.8, 0.4]
    scores = made([[m, 0.0] for m in margins], [[p, 1 - p] for p in preferred])
    assert mean(objective(loss="xent"), scores) == pytest.approx(0.62610793, abs=1e-6)


@pytest.mark.parametrize("fields", [{}, {"hardening": "argmax"}, {"loss": "product"}, {"loss": "xent"}])
@pytest.mark.parametrize("classes", [2, 5])
def test_a_split_and_shuffled_step_is_the_same_step(fields, classes):
    rng = torch.Generator().manual_seed(classes)
    logits, weak = torch.randn(9, classes, generator=rng), torch.rand(9, classes, generator=rng).softmax(1)
    logits[3:6] = 0.0
    method, whole = objective(**fields), made(logits, weak, progress=0.5)
    expected = method(surveyed(method, whole)).sum.detach()
    order = torch.randperm(9 * classes, generator=rng)
    order = order[torch.argsort(torch.isin(whole.group[order], torch.tensor([1, 4, 8])).long(), stable=True)]
    passes = [part_of(whole, order[: 6 * classes]), part_of(whole, order[6 * classes :])]
    with torch.no_grad():
        found = [method.survey(one) for one in passes]
    survey = {name: torch.cat([one[name] for one in found]) for name in found[0]}
    parts = [method(dataclasses.replace(one, survey=survey)) for one in passes]
    torch.testing.assert_close(sum(p.sum.detach() for p in parts), expected)
    assert [float(p.count) for p in parts] == [6, 3]


def test_items_may_have_different_numbers_of_labels():
    row, label = torch.tensor([0, 0, 1, 1, 1]), torch.tensor([0, 1, 0, 1, 2])
    log_p, soft = torch.tensor([0.4, 0.6, 0.2, 0.3, 0.5]).log(), torch.tensor([0.5, 0.5, 1.0, 0.0, 0.0])
    assert harden("argmax", row, label, log_p, soft).tolist() == [0, 1, 0, 0, 1]
    with pytest.raises(UsageError, match="argmax"):
        harden("balanced", row, label, log_p, soft)


def test_many_classes_keep_the_balance_of_the_labels():
    """A student that has fallen for class 0 is pulled back to the shares of the weak labels."""
    rng = torch.Generator().manual_seed(0)
    truth = torch.arange(300) % 3
    logits = 2.5 * F.one_hot(truth, 3) + torch.randn(300, 3, generator=rng) + torch.tensor([4.0, 0.0, 0.0])
    hard = balanced(logits.softmax(1), torch.full((300, 3), 1 / 3))
    assert (logits.argmax(1) == truth).float().mean() < 0.5
    assert (hard == truth).float().mean() > 0.85
    assert torch.bincount(hard).tolist() == pytest.approx([100, 100, 100], abs=12)


def test_a_class_that_the_labels_never_name_is_never_chosen():
    hard = balanced(torch.tensor([[0.1, 0.1, 0.8], [0.2, 0.1, 0.7]]), torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    assert 2 not in hard.tolist()


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"alpha_max": 1.5}, "alpha_max"),
        ({"warmup": -0.1}, "warmup"),
        ({"weak_power": -1.0}, "weak_power"),
        ({"student_power": float("nan")}, "student_power"),
        ({"loss": "entropy"}, "xent"),
        ({"hardening": "soft"}, "balanced"),
    ],
)
def test_bad_fields_are_named(fields, word):
    with pytest.raises(UsageError, match=word):
        objective(**fields)


# --- through the loop -------------------------------------------------------------------------------------------------

ROWS = [
    {
        "id": f"item-{i}",
        "prompt": f"is the {name} red?",
        "completions": ["yes.", "no."],
        "scores": [0.9 - 0.1 * i, 0.1 + 0.1 * i],
    }
    for i, name in enumerate(["lock", "door", "rope", "anchor", "book", "hat"])
]


def run(folder, rows, objective, **settings):
    data = folder / "items.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = TrainConfig("harbor:base-300k", str(data), objective, **settings)
    return fairlead.train(config, folder / "run", quiet=True)


@pytest.mark.parametrize("loss", ["xent", "confidence", "product"])
def test_a_step_does_not_depend_on_its_passes(tmp_path, loss):
    method = {"name": "weak_to_strong", "loss": loss, "warmup": 0.0}
    found = []
    for name, tokens in (("one", 4096), ("many", 24)):
        (tmp_path / name).mkdir()
        done = run(tmp_path / name, ROWS, method, batch_size=6, max_steps=3, learning_rate=1e-3, micro_tokens=tokens)
        found.append(done.metrics["loss"])
    assert found[0] == pytest.approx(found[1], abs=1e-5)


@pytest.mark.parametrize("scores", [[2.0, 1.0], [-0.5, 1.5], [0.5, 0.6]])
def test_scores_that_are_no_probabilities_name_their_record(tmp_path, scores):
    rows = [*ROWS[:2], {**ROWS[2], "scores": scores}]
    with pytest.raises(DataError, match=r"items\.jsonl.*no probabilities"):
        run(tmp_path, rows, "weak_to_strong", max_steps=1)


def test_labels_that_differ_have_no_balance(tmp_path):
    rows = [*ROWS[:2], {**ROWS[2], "completions": ["no.", "yes."]}]
    with pytest.raises(DataError, match="hardening: argmax"):
        run(tmp_path, rows, "weak_to_strong", max_steps=1)
    (tmp_path / "other").mkdir()
    done = run(tmp_path / "other", rows, {"name": "weak_to_strong", "hardening": "argmax"}, max_steps=1)
    assert done.steps == 1


# --- the two regimes --------------------------------------------------------------------------------------------------


def gaussians(count, rng):
    """Two classes in 64 dimensions, their means 0.18 from the origin in each."""
    label = torch.randint(0, 2, (count,), generator=rng)
    return torch.randn(count, 64, generator=rng) + 0.18 * (2.0 * label[:, None] - 1), label


def fit(features, targets, method, *, steps=80):
    """Fit a logistic model with one of the losses: a linear layer on the features, all rows at every step."""
    model = torch.nn.Linear(features.shape[1], 2)
    torch.nn.init.zeros_(model.weight)
    torch.nn.init.zeros_(model.bias)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for step in range(steps):
        logits = model(features)
        scores = made(logits.detach(), targets, progress=step / steps)
        scores.policy = logits.reshape(-1, 1)
        loss = method(surveyed(method, scores))
        optimizer.zero_grad()
        (loss.sum / loss.count).backward()
        optimizer.step()
    return lambda x: model(x).detach()


def simulate(seed, weak_dims, strong_dims):
    rng = torch.Generator().manual_seed(seed)
    (x0, y0), (x1, y1), (x2, y2) = (gaussians(n, rng) for n in (4000, 4000, 2000))
    xent, confidence = objective(loss="xent"), objective(alpha_max=0.5, warmup=0.2)

    def right(logits):
        return float((logits.argmax(1) == y2).float().mean())

    weak = fit(x0[:, weak_dims], F.one_hot(y0, 2).float(), xent)
    soft = weak(x1[:, weak_dims]).softmax(1)
    hard = F.one_hot(soft.argmax(1), 2).float()
    kinds = {"hard": (hard, xent), "soft": (soft, xent), "confidence": (soft, confidence)}
    kinds["ceiling"] = (F.one_hot(y1, 2).float(), xent)
    found = {"weak": right(weak(x2[:, weak_dims]))}
    for name, (targets, method) in kinds.items():
        found[name] = right(fit(x1[:, strong_dims], targets, method)(x2[:, strong_dims]))
    return found


def averaged(weak_dims, strong_dims):
    runs = [simulate(seed, weak_dims, strong_dims) for seed in range(3)]
    return {name: sum(one[name] for one in runs) / len(runs) for name in runs[0]}


@pytest.mark.slow
def test_a_student_that_cannot_see_the_errors_recovers_most_of_the_gap():
    found = averaged(slice(0, 4), slice(4, 64))
    expected = {"weak": 0.639, "hard": 0.846, "soft": 0.876, "confidence": 0.902, "ceiling": 0.914}
    assert found == pytest.approx(expected, abs=0.03)
    assert (found["hard"] - found["weak"]) / (found["ceiling"] - found["weak"]) == pytest.approx(0.76, abs=0.15)
    assert found["confidence"] > found["soft"]


@pytest.mark.slow
def test_a_student_that_sees_what_the_supervisor_saw_copies_it():
    found = averaged(slice(0, 4), slice(0, 64))
    assert {name: found[name] for name in ("hard", "soft")} == pytest.approx({"hard": 0.645, "soft": 0.639}, abs=0.03)
    assert (found["hard"] - found["weak"]) / (found["ceiling"] - found["weak"]) == pytest.approx(0.02, abs=0.15)
