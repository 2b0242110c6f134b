"""The parts of the policy-gradient loss: ratios, clips, KL estimators, value loss, aggregation. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fairlead.errors import UsageError
from fairlead.training.objectives.base import Scores, token_sums
from fairlead.training.objectives.online import Rollout

__all__ = [
    "Terms",
    "aggregate",
    "check",
    "estimate_kl",
    "k1_of",
    "kl_terms",
    "metrics_of",
    "policy_terms",
    "steered",
    "value_terms",
]


@dataclass
class Terms:
    """The policy's part of the loss, per token."""

    loss: Tensor
    """float32 [N, T]."""
    ratio: Tensor
    """float32 [N, T]: of the trained policy to the one that drew, at the level asked for."""
    metrics: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """name -> (sum, count)."""


def policy_terms(settings: Any, scores: Scores, mask: Tensor) -> Terms:
    """Return the policy's loss of every token, before the KL and the value loss.

    Args:
        settings: a `PolicyGradient`.
        scores: with the field `advantage`, [N] or [N, T].
        mask: bool [N, T], the tokens that count.
    """
    policy = torch.where(mask, scores.policy.float(), 0.0)
    old = _old(scores, policy)
    advantage = scores.require("advantage").float()
    advantage = advantage[:, None].expand_as(policy) if advantage.ndim == 1 else advantage
    log_ratio = torch.where(mask, policy - old, 0.0)
    ratio = torch.exp(_LEVELS[settings.ratio](log_ratio, mask))
    loss = _FORMS[settings.loss](settings, ratio, advantage, policy)
    terms = Terms(loss, ratio)
    low = (ratio < 1 - settings.clip_low) & (advantage < 0)
    high = (ratio > (settings.clip_high if settings.loss == "cispo" else 1 + settings.clip_high)) & (advantage > 0)
    if settings.loss != "plain":
        terms.metrics["clip_low"] = _share(low & (settings.loss == "clip"), mask)
        terms.metrics["clip_high"] = _share(high, mask)
    if settings.correction != "none":
        weight = _correction(settings, scores, old, mask, terms)
        terms.loss = terms.loss * weight
    return terms


def _old(scores: Scores, policy: Tensor) -> Tensor:
    old = scores.old if scores.old is not None else scores.fields.get("old")
    return policy.detach() if old is None else old.float()


_LEVELS = {
    "token": lambda log_ratio, mask: log_ratio,
    "sequence_mean": lambda log_ratio, mask: _spread(
        token_sums(log_ratio, mask) / mask.sum(-1).clamp_min(1), log_ratio
    ),
    "sequence_sum": lambda log_ratio, mask: _spread(token_sums(log_ratio, mask), log_ratio),
}


def _spread(values: Tensor, like: Tensor) -> Tensor:
    return values[:, None].expand_as(like)


def _clipped(settings: Any, ratio: Tensor, advantage: Tensor, policy: Tensor) -> Tensor:
    inside = torch.clamp(ratio, 1 - settings.clip_low, 1 + settings.clip_high)
    free = ratio if settings.cap is None else ratio.clamp_max(settings.cap)
    loss = -torch.minimum(free * advantage, inside * advantage)
    if settings.dual_clip is not None:
        loss = torch.where(advantage < 0, torch.minimum(loss, -settings.dual_clip * advantage), loss)
    return loss


def _capped(settings: Any, ratio: Tensor, advantage: Tensor, policy: Tensor) -> Tensor:
    return -ratio.clamp_max(settings.clip_high).detach() * advantage * policy


def _plain(settings: Any, ratio: Tensor, advantage: Tensor, policy: Tensor) -> Tensor:
    return -advantage * policy


_FORMS = {"clip": _clipped, "cispo": _capped, "plain": _plain}


def _correction(settings: Any, scores: Scores, old: Tensor, mask: Tensor, terms: Terms) -> Tensor:
    """Return the weights [N, T] for tokens that another engine drew: exp(log p of the trainer - log p of the engine).

    A token whose log-prob the engine did not tell (NaN) weighs 1.
    """
    told = scores.require("sampler").float()
    gap = torch.where(mask & ~told.isnan(), old - told, 0.0).detach()
    level, _, bound = settings.correction.partition("_")
    weight = torch.exp(gap if level == "token" else _spread(token_sums(gap, mask), gap))
    outside = (weight > settings.correction_high) | (weight < settings.correction_low)
    terms.metrics["corrected"] = _share(outside, mask)
    if bound == "mask":
        return torch.where(outside, 0.0, weight)
    return weight.clamp(settings.correction_low, settings.correction_high)


def estimate_kl(log_ratio: Tensor, estimator: str) -> Tensor:
    """Return an estimate of KL(policy || reference) per token from log(policy / reference) of drawn tokens.

    k1 = d, k2 = d^2 / 2, k3 = exp(-d) - 1 + d (Schulman, "Approximating KL divergence", 2020).
    """
    estimators = {
        "k1": lambda d: d,
        "k2": lambda d: d**2 / 2,
        "k3": lambda d: torch.exp(-d) - 1 + d,
    }
    return estimators[estimator](log_ratio)


def kl_terms(settings: Any, scores: Scores, mask: Tensor, ratio: Tensor) -> Tensor:
    """Return the KL term of every token, [N, T], through which the loss's gradient goes."""
    log_ratio = torch.where(mask, scores.policy.float() - scores.require("reference").float(), 0.0)
    if settings.kl_clamp is not None:
        log_ratio = log_ratio.clamp(-settings.kl_clamp, settings.kl_clamp)
    found = estimate_kl(log_ratio, settings.kl_estimator)
    return found * ratio if settings.kl_correction else found


def value_terms(settings: Any, scores: Scores, mask: Tensor) -> Tensor:
    """Return the clipped value loss of every token, [N, T], over all heads (PPO)."""
    said = scores.require("values").float()
    total = torch.zeros(mask.shape, device=mask.device)
    for k in range(said.shape[-1]):
        value, target, before = said[..., k], scores.require(f"return_{k}"), scores.require(f"value_{k}")
        error = (value - target) ** 2
        if settings.value_clip:
            near = before + (value - before).clamp(-settings.value_clip, settings.value_clip)
            error = torch.maximum(error, (near - target) ** 2)
        total = total + 0.5 * error
    return torch.where(mask, total, 0.0)


def aggregate(settings: Any, per_token: Tensor, mask: Tensor, scores: Scores) -> tuple[Tensor, Tensor]:
    """Return the sum and the count of per-token losses [N, T], as `settings.aggregation` says."""
    sums = token_sums(per_token, mask)
    rows = torch.tensor(float(len(sums)), device=mask.device)
    if settings.aggregation == "token":
        return sums.sum(), mask.sum().float()
    if settings.aggregation == "sequence":
        return (sums / mask.sum(-1).clamp_min(1)).sum(), rows
    if settings.aggregation == "constant":
        return (sums / scores.require("limit").float()).sum(), rows
    return sums.sum(), rows


def metrics_of(terms: Terms, scores: Scores, mask: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Return all metrics as sums and counts over tokens."""
    tokens = mask.sum().float()
    policy = torch.where(mask, scores.policy.detach().float(), 0.0)
    found = {
        "policy_loss": (token_sums(terms.loss.detach(), mask).sum(), tokens),
        "ratio": (token_sums(terms.ratio.detach(), mask).sum(), tokens),
        "entropy": (-policy.sum(), tokens),
        "old_kl": (token_sums(estimate_kl(policy - _old(scores, policy), "k3"), mask).sum(), tokens),
    }
    told = scores.fields.get("sampler")
    if told is not None:
        gap = (_old(scores, policy) - told.float()).abs()
        known = mask & ~gap.isnan()
        found["sampler_gap"] = (token_sums(gap, known).sum(), known.sum().float())
    if scores.reference is not None:
        log_ratio = torch.where(mask, policy - scores.reference.float(), 0.0)
        found["kl"] = (token_sums(estimate_kl(log_ratio, "k3"), mask).sum(), tokens)
    return {name: (a.detach(), b) for name, (a, b) in (found | terms.metrics).items()}


def k1_of(rollout: Rollout) -> tuple[Tensor, float]:
    """Return log(drawing policy / reference) of every token, [N, T], and its sum per completion, averaged."""
    assert rollout.old is not None
    assert rollout.reference is not None
    found = torch.where(rollout.mask, (rollout.old - rollout.reference).double(), 0.0)
    return found, float(found.sum(-1).mean())


def steered(coefficient: float, kl: float, target: float, completions: int, horizon: float) -> float:
    """Return the next KL coefficient (Ziegler et al., arXiv 1909.08593, section 2.2)."""
    error = min(max(kl / target - 1, -0.2), 0.2)
    return coefficient * (1 + error * completions / horizon)


def _share(found: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    return (found & mask).sum().float(), mask.sum().float()


def check(settings: Any) -> None:
    """Refuse settings that cannot be, or that contradict each other.

    Raises:
        UsageError: naming the field.
    """
    ranges = [
        ("clip_low", 0 <= settings.clip_low <= 1, "in [0, 1]"),
        ("clip_high", settings.clip_high >= 0, ">= 0"),
        ("cap", settings.cap is None or settings.cap > 1 + settings.clip_high, "above 1 + clip_high"),
        ("dual_clip", settings.dual_clip is None or settings.dual_clip > 1, "above 1"),
        ("kl", settings.kl >= 0, ">= 0"),
        ("kl_clamp", settings.kl_clamp is None or settings.kl_clamp > 0, "> 0"),
        ("kl_target", settings.kl_target is None or settings.kl_target > 0, "> 0"),
        ("kl_horizon", settings.kl_horizon > 0, "> 0"),
        ("gamma", 0 < settings.gamma <= 1, "in (0, 1]"),
        ("decay", 0 <= settings.decay <= 1, "in [0, 1]"),
        ("value_weight", settings.value_weight >= 0, ">= 0"),
        ("value_clip", settings.value_clip >= 0, ">= 0"),
        ("momentum", 0 <= settings.momentum < 1, "in [0, 1)"),
        ("overlong", 0 <= settings.overlong <= 1, "in [0, 1]"),
        ("correction_low", 0 <= settings.correction_low < settings.correction_high, "below correction_high, from 0"),
    ]
    for name, holds, wanted in ranges:
        if not holds:
            raise UsageError(f"policy_gradient.{name} is {getattr(settings, name)}", fix=f"use a value {wanted}")
    _check_together(settings)


def _check_together(settings: Any) -> None:
    conflicts = [
        (settings.kl_target is not None and (settings.kl_place != "reward" or settings.kl == 0),
         "kl_target steers the KL that is taken from the reward", "set kl above 0 and kl_place to reward"),
        (settings.kl > 0 and settings.kl_place == "loss" and settings.kl_estimator == "k1",
         "k1 in the loss has no expected gradient", "use k2 (reverse KL), k3 (forward KL), or kl_place: reward"),
        (settings.ratio != "token" and settings.aggregation != "sequence",
         f"ratio {settings.ratio} is one number per completion", "set aggregation to sequence"),
        (settings.combine == "normalise" and (settings.baseline, settings.scale) != ("group", "group"),
         "combine normalise standardises in groups and then over the batch", "leave baseline and scale at group"),
        (settings.baseline == "best" and settings.scale != "none", "baseline best scales nothing", "set scale to none"),
        (settings.scale == "whiten" and settings.baseline not in ("none", "value"),
         f"scale whiten makes per-token worths, and baseline is {settings.baseline}", "set baseline to none or value"),
        (settings.baseline == "value" and settings.scale in ("group", "batch"),
         "a value head gives per-token worths", "set scale to whiten or none"),
        (settings.baseline == "value" and settings.combine == "normalise",
         "combine normalise standardises in groups", "set combine to sum"),
    ]  # fmt: skip
    for holds, what, fix in conflicts:
        if holds:
            raise UsageError(f"policy_gradient: {what}", fix=fix)
