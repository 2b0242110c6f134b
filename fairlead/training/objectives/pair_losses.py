"""Losses of a preference pair: functions of beta, the two log-ratios to the reference, and the lengths.

With a = log pi(chosen) - log ref(chosen), d the same of the rejected one, the margin is beta * (a - d). Log-ratios are
sums over tokens; `ipo` and `sigmoid_norm` divide them by length. The losses in `SURVEYED` also depend on all pairs of
the step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "OF_THE_DIFFERENCE",
    "PAIR_LOSSES",
    "SMOOTHED",
    "SURVEYED",
    "Pairs",
    "aot",
    "aot_unpaired",
    "apo_down",
    "apo_zero",
    "bce",
    "discopop",
    "exo",
    "hinge",
    "ipo",
    "ipo_sum",
    "nca",
    "robust",
    "sft",
    "sigmoid",
    "sigmoid_norm",
    "sppo",
]


@dataclass(frozen=True)
class Pairs:
    """Log-ratios of P pairs, and what the losses may scale them by."""

    chosen: Tensor
    """a, float32 [P]: summed log-ratio of the chosen completion to the reference, or what a divergence makes of it."""
    rejected: Tensor
    """d, float32 [P]."""
    policy_margin: Tensor
    """log pi(chosen) - log pi(rejected), float32 [P]."""
    reference_margin: Tensor
    """The same of the reference, float32 [P], no gradient."""
    chosen_logprob: Tensor
    """log pi(chosen), float32 [P], every token at full weight."""
    chosen_length: Tensor
    """Tokens of the chosen completion, [P]."""
    rejected_length: Tensor
    """Tokens of the rejected completion, [P]."""
    beta: float
    """Temperature."""
    smoothing: float
    """Share of pairs assumed to be labelled the wrong way round."""
    step: Mapping[str, Tensor] = field(default_factory=dict)
    """Of every pair of the step, what `SURVEYED` lists: [pairs of the step] each, no gradient."""

    @property
    def margin(self) -> Tensor:
        """beta * (a - d), [P]."""
        return self.beta * (self.chosen - self.rejected)

    @property
    def mean_margin(self) -> Tensor:
        """a / length - d / length, [P], without beta."""
        return self.chosen / self.chosen_length - self.rejected / self.rejected_length


def sigmoid(p: Pairs) -> Tensor:
    """-log sigmoid(margin), mixed with its mirror image by `smoothing` (conservative DPO)."""
    return _smoothed(p.margin, p.smoothing)


def sigmoid_norm(p: Pairs) -> Tensor:
    """`sigmoid` on length-normalised log-ratios."""
    return -F.logsigmoid(p.beta * p.mean_margin)


def hinge(p: Pairs) -> Tensor:
    """max(0, 1 - margin)."""
    return F.relu(1 - p.margin)


def ipo(p: Pairs) -> Tensor:
    """Squared distance of the length-normalised log-ratio to 1 / (2 beta) (arXiv 2310.12036)."""
    return (p.mean_margin - 1 / (2 * p.beta)) ** 2


def ipo_sum(p: Pairs) -> Tensor:
    """`ipo` as published: squared distance of the summed log-ratio to 1 / (2 beta) (arXiv 2310.12036, equation 17)."""
    return (p.chosen - p.rejected - 1 / (2 * p.beta)) ** 2


def robust(p: Pairs) -> Tensor:
    """Unbiased under labels flipped at rate `smoothing` (arXiv 2403.00409)."""
    kept, flipped = (1 - p.smoothing) * F.logsigmoid(p.margin), p.smoothing * F.logsigmoid(-p.margin)
    return (flipped - kept) / (1 - 2 * p.smoothing)


def exo(p: Pairs) -> Tensor:
    """Reverse KL from the smoothed label to sigmoid(margin): infinite unless `smoothing` > 0 (arXiv 2402.00856)."""
    doubt = math.log(p.smoothing) if p.smoothing else -math.inf
    right = torch.sigmoid(p.margin) * (F.logsigmoid(p.margin) - math.log(1 - p.smoothing))
    wrong = torch.sigmoid(-p.margin) * (F.logsigmoid(-p.margin) - doubt)
    return right + wrong


def nca(p: Pairs) -> Tensor:
    """Noise-contrastive: raises the chosen completion's own likelihood, too (arXiv 2402.05369)."""
    a, d = p.beta * p.chosen, p.beta * p.rejected
    return -F.logsigmoid(a) - 0.5 * F.logsigmoid(-a) - 0.5 * F.logsigmoid(-d)


def bce(p: Pairs) -> Tensor:
    """Classifies each completion by itself, without a reward shift (`bco_pair` in TRL)."""
    return -F.logsigmoid(p.beta * p.chosen) - F.logsigmoid(-p.beta * p.rejected)


def sppo(p: Pairs) -> Tensor:
    """Squared distance of each log-ratio to +-1 / (2 beta), win probabilities taken as 0 and 1 (arXiv 2405.00675)."""
    return (p.chosen - 0.5 / p.beta) ** 2 + (p.rejected + 0.5 / p.beta) ** 2


def apo_zero(p: Pairs) -> Tensor:
    """Anchored: chosen up, rejected down, for a policy worse than the chosen answers (arXiv 2408.06266)."""
    return 1 - torch.sigmoid(p.beta * p.chosen) + torch.sigmoid(p.beta * p.rejected)


def apo_down(p: Pairs) -> Tensor:
    """Anchored: both down, the rejected further, for a policy better than the chosen answers (arXiv 2408.06266)."""
    return torch.sigmoid(p.beta * p.chosen) + 1 - torch.sigmoid(p.margin)


def discopop(p: Pairs) -> Tensor:
    """Logistic and exponential loss mixed by the margin at temperature 0.05 (arXiv 2406.08414)."""
    share = torch.sigmoid(p.margin / 0.05)
    # The exponential is far from its range wherever its share is not negligible; the cap keeps 0 * inf out.
    return -F.logsigmoid(p.margin) * (1 - share) + torch.exp(-p.margin.clamp_min(-80.0)) * share


def aot(p: Pairs) -> Tensor:
    """`sigmoid` between the step's policy margins and reference margins, each sorted (arXiv 2406.05882, paired)."""
    own, other = p.step["policy_margin"], p.step["reference_margin"]
    return _at_equal_rank(
        p.policy_margin, own, other, lambda policy, ref: _smoothed(p.beta * (policy - ref), p.smoothing)
    )


def aot_unpaired(p: Pairs) -> Tensor:
    """`sigmoid` between the step's chosen and rejected log-ratios, each sorted (arXiv 2406.05882, unpaired)."""
    chosen, rejected = p.step["chosen"], p.step["rejected"]
    raised = _at_equal_rank(p.chosen, chosen, rejected, lambda a, d: -F.logsigmoid(p.beta * (a - d)))
    lowered = _at_equal_rank(p.rejected, rejected, chosen, lambda d, a: -F.logsigmoid(p.beta * (a - d)))
    # Over the step both sides sum to the same loss; it counts once, and its gradient reaches both.
    both = raised + lowered
    return both - both.detach() / 2


def sft(p: Pairs) -> Tensor:
    """Negative log-likelihood of the chosen completion; its mean over pairs is the mean per token of the step."""
    return -p.chosen_logprob / p.step["chosen_length"].float().mean()


def _smoothed(margin: Tensor, smoothing: float) -> Tensor:
    return -(1 - smoothing) * F.logsigmoid(margin) - smoothing * F.logsigmoid(-margin)


def _at_equal_rank(values: Tensor, own: Tensor, other: Tensor, loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return `loss` of every value [P] with the one of `other` [n] that has the rank which the value has in `own` [n].

    Equal values share their partners evenly: whatever order they are sorted in, their losses have the same sum. The
    rank is that of the nearest value, for a second forward may round differently.
    """
    ranked, partners = own.sort().values, other.sort().values
    gap = (values.detach()[:, None] - ranked).abs()
    here = (gap == gap.amin(-1, keepdim=True)).float()
    return (here * loss(values[:, None], partners[None])).sum(-1) / here.sum(-1)


PAIR_LOSSES: dict[str, Callable[[Pairs], Tensor]] = {
    f.__name__: f
    for f in (
        *(sigmoid, sigmoid_norm, hinge, ipo, ipo_sum, robust, exo, nca, bce, sppo, apo_zero, apo_down, discopop),
        *(aot, aot_unpaired, sft),
    )
}
"""name -> loss of each pair, [P]."""
SMOOTHED = ("sigmoid", "robust", "exo", "aot")
"""Losses that `smoothing` means something to."""
OF_THE_DIFFERENCE = ("sigmoid", "sigmoid_norm", "hinge", "ipo", "ipo_sum", "robust", "exo", "discopop")
"""Losses of a - d alone: another divergence than the reverse KL may take the log-ratios' place."""
SURVEYED = {
    "aot": ("policy_margin", "reference_margin"),
    "aot_unpaired": ("chosen", "rejected"),
    "sft": ("chosen_length",),
}
"""Loss -> the attributes of `Pairs` that it must know of all pairs of the step."""
