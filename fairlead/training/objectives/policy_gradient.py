"""Policy gradients from rewards of the policy's own completions: one loss of which the named algorithms are settings.

GRPO (arXiv 2402.03300), Dr. GRPO (2503.20783), DAPO (2503.14476), GSPO (2507.18071), CISPO (2506.13585), RLOO
(2402.14740), PPO (1707.06347), REINFORCE, REINFORCE++ (2501.03262) and RAFT (2304.06767).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from fairlead.errors import UsageError
from fairlead.training.advantages import (
    Baseline,
    Scale,
    combined,
    gae,
    group_advantages,
    overlong_penalty,
    token_rewards,
    whitened,
)
from fairlead.training.objectives import policy_losses as losses
from fairlead.training.objectives.base import Loss, Needs, Scores, token_sums
from fairlead.training.objectives.online import Advantages, Rollout

__all__ = ["PolicyGradient"]


@dataclass(frozen=True)
class PolicyGradient:
    """Raise the log-probs of completions by what they are worth; the defaults are GRPO's with a mean over tokens."""

    baseline: Baseline = "group"
    """What a reward is compared with: the mean of its prompt's completions (group), that of the others (leave_one_out),
    of the whole rollout (batch), of the rollouts so far (moving_average), a value head's (value), nothing (none); or
    best: the best completion of each prompt is worth 1, the others 0."""
    scale: Scale = "group"
    """What the difference is divided by: the standard deviation of its group or of the batch, or nothing (none); whiten
    makes per-token worths and gives them mean 0 and variance 1 over the rollout."""
    combine: Literal["sum", "normalise"] = "sum"
    """How several rewards become one: their weighted sum, or each standardised in its group first (GDPO)."""
    weights: tuple[float, ...] = ()
    """Weight of each reward, in their order; none: 1 each."""
    loss: Literal["clip", "cispo", "plain"] = "clip"
    """What is made of ratio and advantage: PPO's clipped surrogate, CISPO's capped weight on the log-prob, or the
    log-prob times the advantage (plain: no ratio)."""
    ratio: Literal["token", "sequence_mean", "sequence_sum"] = "token"
    """Level of the ratio to the policy that drew: per token, the geometric mean of a completion's (GSPO), or their
    product (RLOO)."""
    clip_low: float = 0.2
    """The ratio is clipped at 1 - this from below."""
    clip_high: float = 0.2
    """The ratio is clipped at 1 + this from above; with `cispo` it is the cap itself, of useful size about 5."""
    cap: float | None = None
    """Largest ratio outside the clip, above 1 + clip_high: bounds the loss of bad tokens that became likelier."""
    dual_clip: float | None = None
    """Bound of the loss of bad tokens: at most this times their |advantage|, above 1 (dual-clip PPO uses 3)."""
    aggregation: Literal["token", "sequence", "constant", "sum"] = "token"
    """Mean over all tokens of the step (DAPO), over completions of their mean over tokens (GRPO), over completions of
    their sum over the longest length (constant: Dr. GRPO), or over completions of their sum."""
    kl: float = 0.0
    """Coefficient of the KL divergence from the reference, per token."""
    kl_place: Literal["loss", "reward"] = "loss"
    """Where the KL stands: a term of the loss, or taken from the reward (by k1)."""
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"
    """How it is estimated in the loss; through the gradient k2 is the reverse KL, k3 the forward KL, k1 nothing."""
    kl_clamp: float | None = 20.0
    """Largest |log-ratio| to the reference that k2 and k3 see; None sees all."""
    kl_correction: bool = False
    """Multiply the KL of the loss by the ratio to the policy that drew, which makes it right off-policy."""
    kl_target: float | None = None
    """With kl_place reward: KL per completion in nats that the coefficient is steered to (Ziegler et al. 2019)."""
    kl_horizon: float = 10_000.0
    """Completions over which the coefficient is steered."""
    gamma: float = 1.0
    """With a value head: discount per token."""
    decay: float = 0.95
    """With a value head: lambda of generalised advantage estimation."""
    value_weight: float = 0.1
    """With a value head: weight of its loss."""
    value_clip: float = 0.2
    """With a value head: how far it may move from what it said at the rollout; 0 for as far as it likes."""
    momentum: float = 0.9
    """With baseline moving_average: share of the old average that is kept."""
    overlong: float = 0.0
    """Share of the longest length within which a penalty rises from 0 to 1 (DAPO uses 0.2); 0 for none."""
    skip_truncated: bool = False
    """Learn nothing from completions that were cut at the longest length."""
    varied: bool = False
    """Replace prompts whose completions are all worth the same by others (DAPO's dynamic sampling)."""
    correction: Literal["none", "token_truncate", "token_mask", "sequence_truncate", "sequence_mask"] = "none"
    """Weigh the policy's term by how much likelier the trained model drew it than the engine that did; per token or
    completion; weights out of bounds are cut to them (truncate) or set to 0 (mask)."""
    correction_high: float = 3.0
    """Upper bound of those weights."""
    correction_low: float = 0.0
    """Lower bound of those weights."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "grpo": {"kl": 0.04, "aggregation": "sequence"},
        "dr_grpo": {"scale": "none", "aggregation": "constant"},
        "dapo": {"clip_high": 0.28, "overlong": 0.2, "varied": True},
        "gspo": {"ratio": "sequence_mean", "aggregation": "sequence", "clip_low": 3e-4, "clip_high": 4e-4},
        "cispo": {"loss": "cispo", "clip_high": 5.0},
        "rloo": {
            "baseline": "leave_one_out", "scale": "none", "ratio": "sequence_sum", "aggregation": "sequence",
            "kl": 0.05, "kl_place": "reward",
        },
        "reinforce": {"baseline": "batch", "scale": "none", "loss": "plain", "aggregation": "sum"},
        "reinforce_pp": {"baseline": "none", "scale": "whiten", "kl": 0.01, "kl_place": "reward"},
        "ppo": {"baseline": "value", "scale": "whiten", "kl": 0.2, "kl_place": "reward", "kl_target": 6.0},
        "raft": {"baseline": "best", "scale": "none", "loss": "plain"},
    }  # fmt: skip
    """Named algorithms as settings that differ from the defaults."""

    def __post_init__(self) -> None:
        losses.check(self)

    @property
    def needs(self) -> Needs:
        """Prompts, and the reference where there is a KL."""
        from_reward = self.kl > 0 and self.kl_place == "reward"
        return Needs(
            record="prompt",
            reference=self.kl > 0,
            old=from_reward,
            sampler=self.correction != "none",
            varied=self.varied,
        )

    def begin(self, rewards: int, completions: int) -> dict[str, Tensor]:
        """Return the state before the first rollout: the KL coefficient and the moving average, where they are used.

        Raises:
            UsageError: weights of another number of rewards, or one completion where several are compared.
        """
        if self.weights and len(self.weights) != rewards:
            raise UsageError(
                f"policy_gradient.weights has {len(self.weights)} numbers for {rewards} rewards", fix="give one each"
            )
        compared = self.baseline in ("group", "leave_one_out", "best") or self.scale == "group"
        if completions < 2 and (compared or self.combine == "normalise"):
            raise UsageError(
                "completions of one prompt are compared, and there is one of each",
                place="train.rollout.n",
                fix="draw 2 or more per prompt, or set baseline to batch, moving_average or value and scale to none",
            )
        state = {"kl": torch.tensor(float(self.kl))} if self.kl_target else {}
        return state | ({"average": torch.tensor(torch.nan)} if self.baseline == "moving_average" else {})

    def heads(self, rewards: int) -> int:
        """Return 1 where a value head is the baseline."""
        return int(self.baseline == "value")

    def advantages(self, rollout: Rollout, state: Mapping[str, Tensor]) -> Advantages:
        """Return the worth of every completion, [N], or token, [N, T].

        Metrics: `kl_completion` (nats per completion, k1) and `kl_coefficient` where the KL is taken from the reward.
        """
        weights = torch.tensor(self.weights or (1.0,) * rollout.rewards.shape[1], dtype=torch.float64)
        score = combined(rollout.rewards, rollout.group, weights, normalise=self.combine == "normalise")
        if self.overlong:
            cache = max(1, round(self.overlong * rollout.limit))
            score = score + overlong_penalty(rollout.lengths, rollout.limit, cache)
        return self.worth(score, rollout, state)

    def worth(self, score: Tensor, rollout: Rollout, state: Mapping[str, Tensor]) -> Advantages:
        """As `advantages`, of one score per completion, float64 [N]."""
        beta = float(state["kl"]) if "kl" in state else self.kl
        penalty, metrics, kept = None, {}, dict(state)
        if self.kl > 0 and self.kl_place == "reward":
            penalty, kl = losses.k1_of(rollout)
            metrics = {"kl_completion": kl, "kl_coefficient": beta}
            penalty = beta * penalty
            if self.kl_target:
                kept["kl"] = torch.tensor(losses.steered(beta, kl, self.kl_target, len(score), self.kl_horizon))
        if self.scale == "whiten" or self.baseline == "value":
            return Advantages(self._by_token(score, penalty, rollout), metrics, kept)
        if penalty is not None:
            score = score - token_sums(penalty, rollout.mask).double()
        if self.baseline == "moving_average":
            mean = float(score.nanmean())
            average = float(kept["average"].nan_to_num(mean))
            kept["average"] = torch.tensor(self.momentum * average + (1 - self.momentum) * mean)
            found = group_advantages(score - average, rollout.group, baseline="none", scale=self.scale)
        else:
            whole_batch = self.combine == "normalise"
            found = group_advantages(
                score,
                rollout.group,
                baseline="batch" if whole_batch else self.baseline,
                scale="batch" if whole_batch else self.scale,
            )
        return Advantages({"advantage": found.float()}, metrics, kept)

    def _by_token(self, score: Tensor, penalty: Tensor | None, rollout: Rollout) -> dict[str, Tensor]:
        rewards = token_rewards(score, rollout.mask, penalty)
        if self.baseline == "value":
            assert rollout.values is not None
            values = rollout.values[..., 0].double()
            found, returns = gae(rewards, values, rollout.mask, gamma=self.gamma, decay=self.decay)
            fields = {"return_0": returns.float(), "value_0": values.float()}
        else:
            found, _ = gae(rewards, torch.zeros_like(rewards), rollout.mask, decay=1.0)
            fields = {}
        known = rollout.mask & ~score.isnan()[:, None]
        found = whitened(found, known) if self.scale == "whiten" else torch.where(known, found, 0.0)
        return {"advantage": found.float(), **fields}

    def __call__(self, scores: Scores) -> Loss:
        """Return the summed loss.

        Scores without `old` log-probs are of the policy that drew. Metrics: `policy_loss`, `ratio`, `clip_low` and
        `clip_high` (shares of tokens), `entropy` (mean of -log p of the drawn tokens, nats), `old_kl` (k3 from the
        policy that drew), `kl` (k3 from the reference), `value_loss`, `sampler_gap` (mean absolute difference in nats
        from the log-probs that whoever drew told) and `corrected` (share of the correction's weights out of bounds).
        """
        mask = scores.mask
        if self.skip_truncated:
            mask = mask & ~scores.require("truncated").bool()[:, None]
        terms = losses.policy_terms(self, scores, mask)
        per_token = terms.loss
        if self.kl > 0 and self.kl_place == "loss":
            per_token = per_token + self.kl * losses.kl_terms(self, scores, mask, terms.ratio)
        if self.baseline == "value":
            value = losses.value_terms(self, scores, mask)
            terms.metrics["value_loss"] = (token_sums(value.detach(), mask).sum(), mask.sum().float())
            per_token = per_token + self.value_weight * value
        total, count = losses.aggregate(self, per_token, mask, scores)
        return Loss(total, count, losses.metrics_of(terms, scores, mask))
