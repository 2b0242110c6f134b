"""Direct preference optimisation (Rafailov et al., arXiv 2305.18290, equation 7) and its variants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fairlead.errors import UsageError
from fairlead.training.objectives.base import Loss, Needs, Scores, pair_rows, token_sums
from fairlead.training.objectives.pair_losses import OF_THE_DIFFERENCE, PAIR_LOSSES, SMOOTHED, SURVEYED, Pairs
from fairlead.training.objectives.pair_ratios import DIVERGENCES, own_likelihood, shared_length_weights

__all__ = ["DPO"]

PairLoss = Literal[
    "sigmoid",
    "sigmoid_norm",
    "hinge",
    "ipo",
    "ipo_sum",
    "robust",
    "exo",
    "nca",
    "bce",
    "sppo",
    "apo_zero",
    "apo_down",
    "discopop",
    "aot",
    "aot_unpaired",
    "sft",
]


@dataclass(frozen=True)
class DPO:
    """Preference loss on the policy's log-ratio to the reference, counted in pairs."""

    beta: float = 0.1
    """Temperature: nats of log-ratio per unit of reward."""
    loss: PairLoss | dict[PairLoss, float] = "sigmoid"
    """Which function of the two log-ratios: a name of the table below, or several with their weights."""
    smoothing: float = 0.0
    """Share of pairs assumed to be labelled the wrong way round, in [0, 0.5); used by sigmoid, robust, exo and aot."""
    divergence: Literal["reverse_kl", "forward_kl", "js", "alpha"] = "reverse_kl"
    """How far from the reference is measured; others than the reverse KL suit losses of the difference a - d alone."""
    alpha: float = 0.5
    """Coefficient of the alpha divergence; 1 is its limit, the reverse KL."""
    ld_alpha: float = 1.0
    """Weight of the tokens that the longer completion has more than the shorter, in [0, 1] (LD-DPO); 1 weighs none."""
    weighting: bool = False
    """Multiply each pair's loss by how likely the policy would say both completions itself (WPO)."""

    def __post_init__(self) -> None:
        if self.beta <= 0:
            raise UsageError(f"dpo.beta is {self.beta}", fix="use a positive temperature such as 0.1")
        if not self.parts or any(weight <= 0 for weight in self.parts.values()):
            raise UsageError(f"dpo.loss is {self.loss!r}", fix="give each loss a weight above 0, as in {sigmoid: 0.8}")
        self._check_smoothing()
        self._check_ratios()

    @property
    def parts(self) -> dict[str, float]:
        """The losses with their weights."""
        return {self.loss: 1.0} if isinstance(self.loss, str) else {str(k): v for k, v in self.loss.items()}

    @property
    def needs(self) -> Needs:
        """Pairs, their reference, and for the weighting how likely the policy's own words are."""
        sorted_or_shared = bool(set(self.parts) & set(SURVEYED))
        return Needs(record="preference", reference=True, collision=self.weighting, survey=sorted_or_shared)

    def survey(self, scores: Scores) -> dict[str, Tensor]:
        """Return what the losses must know of every pair of the step: [P] each (nothing for most losses)."""
        names = {name for part in self.parts for name in SURVEYED.get(part, ())}
        pairs = self._pairs(scores, *pair_rows(scores)) if names else None
        return {name: getattr(pairs, name).detach() for name in sorted(names)}

    def __call__(self, scores: Scores) -> Loss:
        """Return the summed pair loss.

        Scores without a survey are taken for the whole step. Metrics: rewards of both, margin, accuracy, log-probs and
        lengths of both, `kl` (half the summed squared log-ratio of the tokens, mean over completions), `weight`, and
        each part of a mixture by its name.
        """
        chosen, rejected = pair_rows(scores)
        pairs = self._pairs(scores, chosen, rejected, scores.survey or self.survey(scores))
        weight = self._weights(scores, chosen, rejected)
        losses = {name: PAIR_LOSSES[name](pairs) * (1.0 if name == "sft" else weight) for name in self.parts}
        total = torch.stack([self.parts[name] * values for name, values in losses.items()]).sum()
        metrics = self._metrics(scores, chosen, rejected)
        if self.weighting:
            metrics["weight"] = weight
        if len(losses) > 1:
            metrics |= {f"loss_{name}": values.detach() for name, values in losses.items()}
        return Loss(
            sum=total,
            count=_count(chosen),
            metrics={name: (values.sum(), _count(values)) for name, values in metrics.items()},
        )

    def _pairs(
        self, scores: Scores, chosen: Tensor, rejected: Tensor, step: Mapping[str, Tensor] | None = None
    ) -> Pairs:
        policy, reference = self._sums(scores, chosen, rejected)
        ratio = DIVERGENCES[self.divergence](policy - reference, self.alpha)
        length = scores.mask.sum(-1)
        return Pairs(
            chosen=ratio[chosen],
            rejected=ratio[rejected],
            policy_margin=policy[chosen] - policy[rejected],
            reference_margin=reference[chosen] - reference[rejected],
            chosen_logprob=token_sums(scores.policy[chosen], scores.mask[chosen]),
            chosen_length=length[chosen],
            rejected_length=length[rejected],
            beta=self.beta,
            smoothing=self.smoothing,
            step=step or {},
        )

    def _sums(self, scores: Scores, chosen: Tensor, rejected: Tensor) -> tuple[Tensor, Tensor]:
        """Return summed log-probs [N] of policy and reference, the longer one's last tokens weighed by `ld_alpha`."""
        policy, reference = scores.policy, scores.require("reference")
        if self.ld_alpha != 1:
            weights = shared_length_weights(scores.mask, chosen, rejected, self.ld_alpha)
            policy, reference = policy * weights, reference * weights
        return token_sums(policy, scores.mask), token_sums(reference, scores.mask)

    def _weights(self, scores: Scores, chosen: Tensor, rejected: Tensor) -> Tensor:
        if not self.weighting:
            return torch.ones(len(chosen), device=scores.policy.device)
        own = own_likelihood(scores.policy, scores.require("collision"), scores.mask)
        return torch.exp(own[chosen] + own[rejected])

    def _metrics(self, scores: Scores, chosen: Tensor, rejected: Tensor) -> dict[str, Tensor]:
        policy, reference = (sums.detach() for sums in self._sums(scores, chosen, rejected))
        rewards = self.beta * (policy - reference)
        plain = token_sums(scores.policy.detach(), scores.mask)
        length = scores.mask.sum(-1).float()
        ratio = scores.policy.detach().float() - scores.require("reference").float()
        return {
            "reward_chosen": rewards[chosen],
            "reward_rejected": rewards[rejected],
            "margin": rewards[chosen] - rewards[rejected],
            "accuracy": (rewards[chosen] > rewards[rejected]).float(),
            "logprob_chosen": plain[chosen],
            "logprob_rejected": plain[rejected],
            "length_chosen": length[chosen],
            "length_rejected": length[rejected],
            "kl": token_sums(ratio**2 / 2, scores.mask),
        }

    def _check_smoothing(self) -> None:
        if not 0 <= self.smoothing < 0.5:
            raise UsageError(f"dpo.smoothing is {self.smoothing}", fix="use a share in [0, 0.5)")
        if self.smoothing and not set(self.parts) & set(SMOOTHED):
            raise UsageError(
                f"dpo.loss {self.loss!r} has no smoothing", fix=f"use {', '.join(SMOOTHED)}, or smoothing 0"
            )
        if "exo" in self.parts and not self.smoothing:
            raise UsageError("dpo.loss 'exo' is infinite without smoothing", fix="set dpo.smoothing, such as 1e-3")

    def _check_ratios(self) -> None:
        compared = set(self.parts) - {"sft"}
        if self.divergence != "reverse_kl" and not (compared and compared <= set(OF_THE_DIFFERENCE)):
            raise UsageError(
                f"dpo.loss {self.loss!r} is no loss of the difference alone, as divergence {self.divergence!r} needs",
                fix=f"use {', '.join(OF_THE_DIFFERENCE)} (sft may join them), or divergence reverse_kl",
            )
        if self.alpha != 0.5 and self.divergence != "alpha":
            raise UsageError(f"dpo.alpha is {self.alpha}", fix="set divergence to alpha, or leave alpha out")
        if not 0 <= self.ld_alpha <= 1:
            raise UsageError(f"dpo.ld_alpha is {self.ld_alpha}", fix="use a weight in [0, 1]")
        if not compared and (self.ld_alpha != 1 or self.weighting):
            raise UsageError("dpo.loss 'sft' compares nothing", fix="leave ld_alpha and weighting out, or add a loss")
        if self.weighting and compared & {"aot", "aot_unpaired"}:
            raise UsageError(
                f"dpo.loss {self.loss!r} sorts pairs apart, so there is no pair to weigh",
                fix="set weighting to false, or use another loss",
            )


def _count(values: Tensor) -> Tensor:
    return torch.tensor(float(len(values)), device=values.device)
