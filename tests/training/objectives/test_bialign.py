"""BiAlign: the ranking loss by hand, its invariances and gradients, and both parts through the loop."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import fairlead
from fairlead.errors import UsageError
from fairlead.training.config import TrainConfig
from fairlead.training.loop import train
from fairlead.training.objectives.base import Scores, token_means
from fairlead.training.objectives.bialign import rank_alignment

TEACHER, STUDENT = [-1.0, -2.0, -0.5, -3.0], [-1.4, -1.2, -0.8, -2.0]


def ranking(student, teacher, **fields):
    student = torch.as_tensor(student, dtype=torch.float64)[None]
    teacher = torch.as_tensor(teacher, dtype=torch.float64)[None]
    return rank_alignment(student, teacher, torch.ones_like(teacher, dtype=torch.bool), **fields)[0]


def one_by_one(student, teacher) -> float:
    """The definition, pair by pair."""
    size = len(teacher)
    ranks = [1 + sum(t > one for t in teacher) + (sum(t == one for t in teacher) - 1) / 2 for one in teacher]
    norm = max(max(student) - min(student), 1e-6)
    total = 0.0
    for i in range(size):
        for j in range(size):
            if teacher[i] > teacher[j]:
                total += max(0.0, (student[j] - student[i]) / norm + (ranks[j] - ranks[i]) / (size - 1))
    return total


def made(lengths=(5, 3), subsets=4, seed=0) -> Scores:
    """Random scores of samples with whole sample and subsets."""
    rng = torch.Generator().manual_seed(seed)
    rows = len(lengths) * (subsets + 1)
    full = torch.arange(rows) % (subsets + 1) == 0
    group = torch.arange(rows) // (subsets + 1)
    mask = torch.arange(max(lengths)) < torch.where(full, torch.tensor(lengths)[group], 2)[:, None]
    policy, teacher = (torch.where(mask, -2 * torch.rand(mask.shape, generator=rng), 0.0) for _ in range(2))
    divergence = torch.where(mask, torch.rand(mask.shape, generator=rng), 0.0).requires_grad_()
    fields = {"full": full}
    return Scores(policy.requires_grad_(), mask, group, teacher=teacher, divergence=divergence, fields=fields)


class TestRanking:
    def test_known_answer(self):
        assert ranking(STUDENT, TEACHER).item() == pytest.approx(1.0, abs=1e-9)

    def test_even_spacing_in_the_teacher_s_order_is_free_and_reversed_is_worst(self):
        assert ranking([-2.0, -3.0, -1.0, -4.0], TEACHER).item() == pytest.approx(0, abs=1e-12)
        assert ranking([-3.0, -2.0, -4.0, -1.0], TEACHER).item() == pytest.approx(6.66666667, abs=1e-8)

    def test_scale_and_shift_of_the_student_do_not_matter(self):
        assert ranking([s / 7 for s in STUDENT], TEACHER).item() == pytest.approx(1, abs=1e-9)
        assert ranking([s - 5 for s in STUDENT], TEACHER).item() == pytest.approx(1, abs=1e-9)

    def test_a_student_that_tells_nothing_apart_pays_all_margins(self):
        assert ranking([-1.0] * 4, TEACHER).item() == pytest.approx((3 * 1 + 2 * 2 + 1 * 3) / 3, abs=1e-9)

    def test_tied_subsets_make_no_pair_and_share_a_rank(self):
        teacher = [-1.0, -1.0, -2.0]
        assert ranking([-1.0, -1.0, -2.0], teacher).item() == pytest.approx(0, abs=1e-9)
        assert ranking([-1.0, -5.0, -9.0], teacher).item() == pytest.approx(one_by_one([-1.0, -5.0, -9.0], teacher))
        assert ranking(STUDENT, [-1.0] * 4).item() == 0

    def test_equals_the_definition_and_permutes(self):
        rng = torch.Generator().manual_seed(0)
        for k in range(1000):
            size = 3 + k % 4
            student = torch.randn(size, generator=rng, dtype=torch.float64)
            teacher = torch.randn(size, generator=rng, dtype=torch.float64)
            found = ranking(student, teacher).item()
            assert found == pytest.approx(one_by_one(student.tolist(), teacher.tolist()), abs=1e-7)
            order = torch.randperm(size, generator=rng)
            assert ranking(student[order], teacher[order]).item() == pytest.approx(found, abs=1e-9)

    def test_samples_of_different_sizes_beside_each_other(self):
        student = torch.tensor([[*STUDENT], [-1.0, -3.0, -2.0, 9.0]])
        teacher = torch.tensor([[*TEACHER], [-1.0, -2.0, -3.0, 9.0]])
        present = torch.tensor([[True] * 4, [True, True, True, False]])
        found = rank_alignment(student, teacher, present)
        wanted = torch.tensor([1.0, one_by_one([-1.0, -3.0, -2.0], [-1.0, -2.0, -3.0])])
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)

    def test_gradient_keeps_shift_and_scale(self):
        student = torch.tensor([STUDENT], dtype=torch.float64, requires_grad=True)
        teacher, present = torch.tensor([TEACHER], dtype=torch.float64), torch.ones(1, 4, dtype=torch.bool)
        flowing = torch.autograd.grad(rank_alignment(student, teacher, present).sum(), student)[0]
        assert flowing.abs().max() > 0
        assert flowing.sum().item() == pytest.approx(0, abs=1e-12)
        assert (flowing * student).sum().item() == pytest.approx(0, abs=1e-12)
        fixed = torch.autograd.grad(rank_alignment(student, teacher, present, detach_norm=True).sum(), student)[0]
        assert fixed.sum().item() == pytest.approx(0, abs=1e-12)
        assert (fixed * student).sum().abs().item() > 0.1

    @pytest.mark.parametrize(("student", "loss"), [([-1.0, -2.0], 0.0), ([-2.0, -1.0], 2.0)])
    def test_two_subsets_have_no_gradient(self, student, loss):
        values = torch.tensor([student], dtype=torch.float64, requires_grad=True)
        found = rank_alignment(values, torch.tensor([[-1.0, -3.0]]), torch.ones(1, 2, dtype=torch.bool))
        assert found.item() == pytest.approx(loss, abs=1e-12)
        assert torch.autograd.grad(found.sum(), values)[0].abs().max() < 1e-12


class TestObjective:
    def test_both_parts_are_means_over_samples(self):
        scores = made()
        parts = fairlead.objective("bialign", lam=0.3)(scores)
        kl = token_means(scores.divergence, scores.mask)[scores.fields["full"]]
        own, taught = (
            (v * scores.mask).sum(-1)[~scores.fields["full"]].view(2, 4) for v in (scores.policy, scores.teacher)
        )
        rank = torch.stack([ranking(s.tolist(), t.tolist()).float() for s, t in zip(own, taught)])
        torch.testing.assert_close(parts.sum, kl.sum() + 0.3 * rank.sum(), atol=1e-5, rtol=1e-5)
        assert parts.count == 2
        assert (parts.metrics["ranking"][0] / 2).item() == pytest.approx(rank.mean().item(), abs=1e-5)

    def test_without_ranking_it_is_distillation_of_outputs(self):
        """With samples of one length, the gradient is that of gkd on the whole samples."""
        scores = made(lengths=(5, 5))
        found = torch.autograd.grad(fairlead.objective("bialign", lam=0.0)(scores).sum / 2, scores.divergence)[0]
        full = scores.fields["full"]
        whole = dataclasses.replace(scores, mask=scores.mask & full[:, None])
        loss = fairlead.objective("gkd", kind="forward")(whole)
        torch.testing.assert_close(found, torch.autograd.grad(loss.sum / loss.count, scores.divergence)[0])

    def test_agreement(self):
        scores = made()
        same = dataclasses.replace(scores, teacher=scores.policy.detach())
        metrics = {k: (s / n).item() for k, (s, n) in fairlead.objective("bialign")(same).metrics.items()}
        assert [metrics[k] for k in ("kendall", "top", "bottom")] == [1, 1, 1]
        turned = dataclasses.replace(scores, teacher=-scores.policy.detach())
        metrics = {k: (s / n).item() for k, (s, n) in fairlead.objective("bialign")(turned).metrics.items()}
        assert [metrics[k] for k in ("kendall", "top", "bottom")] == [-1, 0, 0]

    @pytest.mark.parametrize("fields", [{"subsets": 2}, {"lam": -1.0}, {"temperature": 0.0}, {"top_k": 1}])
    def test_settings_that_make_no_sense(self, fields):
        with pytest.raises(UsageError):
            fairlead.objective("bialign", **fields)


CONFIG = TrainConfig(
    model="harbor:base-300k", data="harbor:shots?n=12&k=3", batch_size=12, max_steps=1, learning_rate=0.0
)


def spec(**fields):
    return {"name": "bialign", "teacher": "harbor:base-1m", **fields}


def test_equal_models_have_no_divergence_and_still_a_ranking_loss(tmp_path):
    config = dataclasses.replace(CONFIG, objective=spec(teacher="harbor:base-300k"))
    done = train(config, tmp_path / "run", quiet=True).metrics
    assert done["kl"] == pytest.approx(0, abs=1e-6)
    assert done["ranking"] > 0
    assert done["kendall"] > 0.99
    assert done["top"] == done["bottom"] == 1


def test_the_scope_is_the_whole_sample_or_its_target(tmp_path):
    whole, target = (
        train(dataclasses.replace(CONFIG, objective=spec(scope=scope)), tmp_path / scope, quiet=True).metrics
        for scope in ("sample", "target")
    )
    assert whole["kl"] != pytest.approx(target["kl"], abs=1e-3)
    assert whole["ranking"] == pytest.approx(target["ranking"], abs=1e-4)


@pytest.mark.slow
def test_training_agrees_more_with_the_teacher_than_outputs_alone(tmp_path):
    found = {}
    for lam in (0.0, 1.0):
        config = dataclasses.replace(
            CONFIG,
            data="harbor:shots?n=48&k=3",
            objective=spec(lam=lam),
            learning_rate=1e-3,
            batch_size=8,
            max_steps=18,
        )
        config = dataclasses.replace(config, evaluation_data="harbor:shots?n=48&k=3")
        found[lam] = train(config, tmp_path / str(lam), quiet=True).metrics
    assert found[1.0]["evaluation_ranking"] < found[0.0]["evaluation_ranking"] - 0.1
