"""DPO and its variants: exact values, invariants, refusals."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from known_scores import CHOSEN, REFERENCE, REJECTED, mean, scores
from worker import one_step

import fairlead
from fairlead.errors import UsageError
from fairlead.fields import build, to_plain
from fairlead.training.config import TrainConfig
from fairlead.training.objectives.base import token_sums
from fairlead.training.objectives.dpo import DPO
from fairlead.training.objectives.pair_losses import OF_THE_DIFFERENCE, PAIR_LOSSES, SMOOTHED, SURVEYED, Pairs

MPO = {"sigmoid": 0.8, "bce": 0.2, "sft": 1.0}
VARIANTS = [
    *({"loss": name, "smoothing": 1e-3 if name == "exo" else 0.0} for name in PAIR_LOSSES),
    *({"loss": name, "smoothing": 0.1} for name in SMOOTHED),
    *({"loss": name, "smoothing": 1e-3 if name == "exo" else 0.0, "divergence": "js"} for name in OF_THE_DIFFERENCE),
    *({"divergence": name} for name in ("forward_kl", "alpha")),
    *({"loss": name, "ld_alpha": 0.5} for name in ("sigmoid", "ipo", "bce", "aot", "aot_unpaired")),
    *({"loss": loss, "weighting": True} for loss in ("sigmoid", "sppo", MPO)),
    *({"loss": loss} for loss in (MPO, {"aot": 1.0, "sft": 0.5}, {"sigmoid": 0.5, "hinge": 2.0})),
]


def titled(fields) -> str:
    return " ".join(f"{k}={v}" for k, v in fields.items() if v)


def random_scores(pairs=6, width=9, seed=0):
    """Pairs whose rows, lengths and masks are mixed; some tokens inside a completion are not trained."""
    rng = torch.Generator().manual_seed(seed)
    rows = 2 * pairs
    length = torch.randint(2, width + 1, (rows,), generator=rng)
    mask = (torch.arange(width) < length[:, None]) & (torch.rand(rows, width, generator=rng) < 0.9)
    mask[:, 0] = True
    values, reference, collision = (torch.where(mask, -3 * torch.rand(rows, width, generator=rng), 0.0) for _ in "prc")
    order = torch.randperm(rows, generator=rng)
    given = scores()
    return dataclasses.replace(
        given,
        policy=values.requires_grad_(),
        mask=mask,
        group=order // 2,
        reference=reference,
        collision=collision,
        fields={"chosen": order % 2 == 0},
    )


def rows_of(given, rows, padding=0):
    def take(value):
        return F.pad(value[rows], (0, padding)) if value.ndim == 2 else value[rows]

    tensors = {k: take(v) for k, v in vars(given).items() if isinstance(v, torch.Tensor)}
    return dataclasses.replace(given, **tensors, fields={k: take(v) for k, v in given.fields.items()})


def surveyed(objective, given):
    """What the loop does before a step's losses."""
    found = objective.survey(given) if objective.needs.survey else {}
    return dataclasses.replace(given, survey={k: v.detach() for k, v in found.items()})


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, 0.678872),
        ({"loss": "hinge"}, 0.970000),
        ({"loss": "ipo"}, 23.254725),
        ({"loss": "ipo", "beta": 0.5}, 0.721389),
        ({"loss": "sigmoid_norm"}, 0.684091),
        ({"loss": "robust", "smoothing": 0.1}, 0.675122),
        ({"loss": "exo", "smoothing": 1e-3}, 2.710222),
        ({"loss": "nca"}, 1.379257),
        ({"loss": "bce"}, 1.371857),
        ({"loss": "sppo"}, 47.450001),
        ({"loss": "apo_zero"}, 0.992500),
        ({"loss": "apo_down"}, 1.001258),
        ({"loss": "discopop"}, 0.844331),
        ({"loss": "aot"}, 0.678310),
        ({"loss": "aot", "smoothing": 0.1}, 0.681310),
        ({"loss": "aot_unpaired"}, 0.678460),
        ({"loss": "sft"}, 0.8),
        ({"loss": MPO}, 1.617469),
        ({"ld_alpha": 0.5}, 0.667823),
        ({"divergence": "forward_kl"}, 0.674564),
        ({"divergence": "js"}, 0.684836),
        ({"divergence": "alpha"}, 0.676792),
        ({"loss": "ipo_sum"}, ((1.0 - 5) ** 2 + (-0.4 - 5) ** 2) / 2),
    ],
)
def test_dpo(fields, expected):
    loss = fairlead.objective("dpo", **fields)(scores())
    assert mean(loss) == pytest.approx(expected, abs=5e-6)
    assert float(loss.count) == 2


def test_dpo_metrics():
    metrics = {k: float(s / n) for k, (s, n) in fairlead.objective("dpo")(scores()).metrics.items()}
    assert metrics["reward_chosen"] == pytest.approx(0.035, abs=1e-6)
    assert metrics["reward_rejected"] == pytest.approx(0.005, abs=1e-6)
    assert metrics["margin"] == pytest.approx(0.03, abs=1e-6)
    assert metrics["accuracy"] == 0.5
    assert metrics["logprob_chosen"] == pytest.approx(-2.0)
    assert metrics["logprob_rejected"] == pytest.approx(-3.25)
    assert metrics["length_chosen"] == 2.5
    assert metrics["length_rejected"] == 3.0
    squares = [
        (row[0] - reference) ** 2 + sum(value**2 for value in row[1:])
        for row, reference in zip(CHOSEN + REJECTED, REFERENCE, strict=True)
    ]
    assert metrics["kl"] == pytest.approx(sum(squares) / 2 / 4, rel=1e-6)


def test_a_mixture_reports_its_parts():
    loss = fairlead.objective("dpo", loss=MPO)(scores())
    parts = {name: float(loss.metrics[f"loss_{name}"][0] / loss.metrics[f"loss_{name}"][1]) for name in MPO}
    assert parts == pytest.approx({"sigmoid": 0.678872, "bce": 1.371857, "sft": 0.8}, abs=5e-6)
    assert sum(MPO[name] * value for name, value in parts.items()) == pytest.approx(mean(loss), abs=1e-6)


@pytest.mark.parametrize("beta", [0.01, 0.1, 1.0, 10.0])
def test_policy_equal_to_reference_gives_ln_2(beta):
    own = [sum(row) for row in CHOSEN + REJECTED]
    assert mean(fairlead.objective("dpo", beta=beta)(scores(reference=own))) == pytest.approx(math.log(2), abs=1e-6)


def test_robust_without_noise_is_sigmoid():
    robust = fairlead.objective("dpo", loss="robust")(scores())
    assert mean(robust) == pytest.approx(mean(fairlead.objective("dpo")(scores())), abs=1e-7)


def test_exo_without_smoothing_is_infinite():
    zero = torch.zeros(1)
    pairs = Pairs(*[zero] * 5, zero + 1, zero + 1, beta=0.1, smoothing=0.0)
    assert PAIR_LOSSES["exo"](pairs).item() == math.inf


@pytest.mark.parametrize(("loss", "beta"), [("ipo", 0.25), ("ipo_sum", 0.125)])
def test_ipo_is_zero_at_its_target(loss, beta):
    """Two tokens each: 4 nats apart in sum, 2 per token."""
    loss = fairlead.objective("dpo", loss=loss, beta=beta)(
        scores(policy=[[1.0, 1.0], [-1.0, -1.0]], reference=[0.0, 0.0], groups=(0, 0), chosen=(1, 0))
    )
    assert mean(loss) == pytest.approx(0.0, abs=1e-7)


def test_swapping_a_pair_adds_its_margin():
    plain = mean(fairlead.objective("dpo")(scores()))
    swapped = mean(fairlead.objective("dpo")(scores(chosen=(0, 0, 1, 1))))
    assert swapped - plain == pytest.approx(0.1 * (1.0 - 0.4) / 2, abs=1e-6)


@pytest.mark.parametrize("loss", ["aot", "aot_unpaired"])
def test_sorting_a_single_pair_is_sigmoid(loss):
    one = rows_of(scores(), torch.tensor([0, 2]))
    sigmoid, sorted_one = (fairlead.objective("dpo", loss=name)(one) for name in ("sigmoid", loss))
    assert mean(sorted_one) == pytest.approx(mean(sigmoid), abs=1e-7)
    gradients = [torch.autograd.grad(part.sum, one.policy, retain_graph=True)[0] for part in (sigmoid, sorted_one)]
    torch.testing.assert_close(*gradients)


def sort_both(name, given, beta=0.1):
    """The sorted losses as their paper writes them, with gradient through the sort."""
    sums, reference = (token_sums(values, given.mask) for values in (given.policy, given.reference))
    chosen = given.fields["chosen"]
    by_group = [rows[given.group[rows].argsort()] for rows in (chosen.nonzero()[:, 0], (~chosen).nonzero()[:, 0])]
    first, second = {
        "aot": (sums[by_group[0]] - sums[by_group[1]], reference[by_group[0]] - reference[by_group[1]]),
        "aot_unpaired": tuple((sums - reference)[rows] for rows in by_group),
    }[name]
    return -F.logsigmoid(beta * (first.sort().values - second.sort().values)).sum()


@pytest.mark.parametrize("name", ["aot", "aot_unpaired"])
def test_sorted_losses_equal_a_sort_with_gradient(name):
    given, objective = random_scores(pairs=12), fairlead.objective("dpo", loss=name)
    plain = sort_both(name, given)
    loss = objective(surveyed(objective, given)).sum
    torch.testing.assert_close(loss, plain)
    torch.testing.assert_close(torch.autograd.grad(loss, given.policy)[0], torch.autograd.grad(plain, given.policy)[0])


@pytest.mark.parametrize("name", ["aot", "aot_unpaired"])
def test_equal_margins_share_their_partners(name):
    given = random_scores(pairs=4)
    given = rows_of(given, torch.cat([torch.arange(8), torch.arange(8)]))
    given.group[8:] += 4
    objective = fairlead.objective("dpo", loss=name)
    loss = objective(surveyed(objective, given)).sum
    torch.testing.assert_close(loss, sort_both(name, given))
    slope = torch.autograd.grad(loss, given.policy)[0]
    torch.testing.assert_close(slope[:8], slope[8:])


@pytest.mark.parametrize("name", ["aot", "aot_unpaired"])
def test_a_survey_that_was_rounded_otherwise_gives_the_same_ranks(name):
    given, objective = random_scores(pairs=8), fairlead.objective("dpo", loss=name)
    exact = surveyed(objective, given)
    noisy = dataclasses.replace(exact, survey={k: v * (1 + 1e-6) for k, v in exact.survey.items()})
    torch.testing.assert_close(objective(noisy).sum, objective(exact).sum, rtol=1e-5, atol=0)


@pytest.mark.parametrize("fields", VARIANTS, ids=titled)
class TestVariants:
    def test_batch_split(self, fields):
        objective = fairlead.objective("dpo", **fields)
        given = surveyed(objective, random_scores())
        whole = objective(given)
        parts = [objective(rows_of(given, (given.group % 3 == k).nonzero()[:, 0])) for k in range(3)]
        torch.testing.assert_close(sum(p.sum for p in parts), whole.sum, atol=1e-5, rtol=1e-5)
        assert sum(p.count for p in parts) == whole.count
        slopes = [torch.autograd.grad(value, given.policy)[0] for value in (sum(p.sum for p in parts), whole.sum)]
        torch.testing.assert_close(*slopes, atol=1e-6, rtol=1e-5)
        for name, (total, count) in whole.metrics.items():
            torch.testing.assert_close(sum(p.metrics[name][0] for p in parts), total, atol=1e-4, rtol=1e-5)
            assert sum(p.metrics[name][1] for p in parts) == count

    def test_order_numbers_and_padding(self, fields):
        objective = fairlead.objective("dpo", **fields)
        given = random_scores()
        order = torch.randperm(len(given.group), generator=torch.Generator().manual_seed(1))
        other = rows_of(given, order, padding=4)
        other.group = 50 - 3 * other.group
        torch.testing.assert_close(objective(other).sum, objective(given).sum)
        slope = torch.autograd.grad(objective(given).sum, given.policy)[0]
        assert (slope[~given.mask] == 0).all()
        assert torch.isfinite(slope).all()

    def test_a_small_step_down_the_gradient_lowers_the_loss(self, fields):
        objective, given = fairlead.objective("dpo", **fields), random_scores()
        before = objective(given).sum
        slope = torch.autograd.grad(before, given.policy)[0]
        after = objective(dataclasses.replace(given, policy=(given.policy - 1e-3 * slope).detach())).sum
        assert after < before

    def test_needs_and_fields(self, fields):
        objective = fairlead.objective("dpo", **fields)
        assert objective.needs.reference
        assert objective.needs.collision is bool(fields.get("weighting"))
        losses = fields.get("loss", "sigmoid")
        wanted = set(SURVEYED) & ({losses} if isinstance(losses, str) else set(losses))
        assert objective.needs.survey is bool(wanted)
        assert build(DPO, to_plain(objective), owner="dpo") == objective


def test_the_longer_completion_weighs_less():
    """Rows of 3 and 2 tokens: the third of the longer one has half its weight, in policy and reference."""
    given = scores(policy=CHOSEN[:1] + REJECTED[:1], reference=[0.0, 0.0], groups=(0, 0), chosen=(1, 0))
    given.reference = torch.tensor([[-1.0, -1.0, -2.0], [-1.0, -1.0, 0.0]])
    ratio_chosen, ratio_rejected = (0.5 + 0.0 + 0.5 * 0.5), (-1.0 - 1.5)
    expected = math.log1p(math.exp(-0.1 * (ratio_chosen - ratio_rejected)))
    assert mean(fairlead.objective("dpo", ld_alpha=0.5)(given)) == pytest.approx(expected, abs=1e-6)


def test_pairs_that_the_policy_would_not_say_weigh_less():
    given = scores()
    given.collision = torch.where(given.mask, -0.5, 0.0)
    weights = [math.exp(-1.0 + 0.5 - 2.25 + 0.5), math.exp(-0.5 + 0.5 - 0.5 + 0.5)]
    each = [math.log1p(math.exp(-0.1)), math.log1p(math.exp(0.04))]
    loss = fairlead.objective("dpo", weighting=True)(given)
    assert mean(loss) == pytest.approx(sum(w * v for w, v in zip(weights, each, strict=True)) / 2, abs=1e-6)
    assert float(loss.metrics["weight"][0]) == pytest.approx(sum(weights), abs=1e-6)
    slope = torch.autograd.grad(loss.sum, given.policy)[0]
    expected = -0.1 * weights[0] * (1 - math.exp(-each[0]))
    assert float(slope[0, 0]) == pytest.approx(expected, abs=1e-6)  # the weight itself has no gradient


def test_sft_weighs_tokens_not_pairs():
    """The token mean of the step, also when the pairs come in two passes."""
    objective = fairlead.objective("dpo", loss="sft")
    given = surveyed(objective, scores())
    parts = [objective(rows_of(given, (given.group == k).nonzero()[:, 0])) for k in (0, 1)]
    assert sum(p.sum.item() for p in parts) / sum(p.count.item() for p in parts) == pytest.approx(4.0 / 5)


def test_divergences_near_the_reference_are_the_reverse_kl():
    near = [[value + 1e-3 * k for k, value in enumerate(row)] for row in CHOSEN + REJECTED]
    given = scores(policy=near, reference=[sum(row) for row in CHOSEN + REJECTED])
    values = [mean(fairlead.objective("dpo", divergence=name)(given)) for name in ("reverse_kl", "forward_kl", "alpha")]
    assert values == pytest.approx([values[0]] * 3, abs=1e-6)
    limit = fairlead.objective("dpo", divergence="alpha", alpha=1.0)(scores())
    assert mean(limit) == pytest.approx(mean(fairlead.objective("dpo")(scores())))


@pytest.mark.parametrize("divergence", ["forward_kl", "js", "alpha"])
@pytest.mark.parametrize("right", [True, False])
def test_far_divergences_stay_finite(divergence, right):
    policy = [[-5000.0], [-1.0]] if right else [[-1.0], [-5000.0]]
    bad = scores(policy=policy, reference=[-2500.0, -2500.0], groups=(0, 0), chosen=(1, 0))
    loss = fairlead.objective("dpo", divergence=divergence, beta=1.0)(bad)
    assert torch.isfinite(loss.sum)
    assert torch.isfinite(torch.autograd.grad(loss.sum, bad.policy)[0]).all()


@pytest.mark.parametrize("loss", PAIR_LOSSES)
@pytest.mark.parametrize("right", [True, False])
def test_far_pairs_stay_finite(loss, right):
    policy = [[-5000.0], [-1.0]] if right else [[-1.0], [-5000.0]]
    bad = scores(policy=policy, reference=[-2500.0, -2500.0], groups=(0, 0), chosen=(1, 0))
    loss = fairlead.objective("dpo", loss=loss, beta=1.0, smoothing=1e-3 if loss in SMOOTHED else 0.0)(bad)
    loss.sum.backward()
    assert torch.isfinite(loss.sum)
    assert torch.isfinite(bad.policy.grad).all()


def test_groups_that_are_no_pairs_are_refused():
    with pytest.raises(UsageError, match="one chosen and one rejected"):
        fairlead.objective("dpo")(scores(groups=(0, 1, 0, 2)))
    given = scores()
    given.reference = None
    with pytest.raises(UsageError, match="reference"):
        fairlead.objective("dpo")(given)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"beta": 0}, "beta"),
        ({"smoothing": 0.5}, "smoothing"),
        ({"loss": "hinge", "smoothing": 0.1}, "smoothing"),
        ({"loss": "sigmoidal"}, "sigmoid"),
        ({"bta": 0.1}, "beta"),
        ({"loss": "exo"}, "smoothing"),
        ({"loss": {}}, "weight"),
        ({"loss": {"sigmoid": 0.0}}, "weight"),
        ({"loss": {"sigmoid": -1.0}}, "weight"),
        ({"loss": {"sigmoidal": 1.0}}, "sigmoid"),
        ({"loss": {"hinge": 1.0, "sft": 1.0}, "smoothing": 0.1}, "smoothing"),
        ({"loss": "bce", "divergence": "js"}, "difference"),
        ({"loss": "aot", "divergence": "js"}, "difference"),
        ({"loss": MPO, "divergence": "forward_kl"}, "difference"),
        ({"loss": "sft", "divergence": "forward_kl"}, "difference"),
        ({"divergence": "kl"}, "reverse_kl"),
        ({"alpha": 0.7}, "alpha"),
        ({"ld_alpha": 1.5}, "ld_alpha"),
        ({"loss": "sft", "ld_alpha": 0.5}, "compares nothing"),
        ({"loss": "aot", "weighting": True}, "sorts"),
        ({"loss": {"aot_unpaired": 1.0, "sft": 1.0}, "weighting": True}, "sorts"),
    ],
)
def test_bad_fields_are_named(fields, word):
    with pytest.raises(UsageError, match=word):
        fairlead.objective("dpo", **fields)


@pytest.mark.parametrize(
    "fields",
    [{"loss": "aot"}, {"loss": "aot_unpaired"}, {"loss": MPO}, {"weighting": True, "ld_alpha": 0.5}],
    ids=titled,
)
def test_a_step_does_not_depend_on_its_passes(fields, tiny_model, tmp_path):
    def step(**changes):
        spec = {"name": "dpo", **fields}
        return one_step(
            TrainConfig(model=tiny_model, data="harbor:preferences?n=6", objective=spec, batch_size=6, **changes),
            tmp_path,
        )

    together, apart = step(), step(micro_tokens=1)
    assert together["loss"] == pytest.approx(apart["loss"], abs=1e-6)
    for name, gradient in together["gradients"].items():
        torch.testing.assert_close(gradient, apart["gradients"][name], atol=1e-6, rtol=1e-5, msg=name)
