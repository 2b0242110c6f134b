"""Bidirectional alignment (Qin et al., arXiv 2312.17055): match a teacher's outputs, and what helps it in context."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fairlead.errors import UsageError
from fairlead.forward.divergence import Divergence
from fairlead.training.demonstrations import Demonstrations
from fairlead.training.objectives.base import Loss, Needs, Scores, token_means, token_sums

__all__ = ["BiAlign", "rank_alignment"]

_EPS = 1e-6


def rank_alignment(student: Tensor, teacher: Tensor, present: Tensor, *, detach_norm: bool = False) -> Tensor:
    """Return the ranking loss of each sample, [B]: zero iff the student's scores are spaced like the teacher's ranks.

    Args:
        student: float [B, N], log-prob of the target behind each subset.
        teacher: float [B, N], the same under the teacher; only its order matters, and equal ones make no pair.
        present: bool [B, N], which subsets there are; at least two in a row.
        detach_norm: whether the student's range, by which its gaps are divided, is a constant to the gradient.
    """
    both = present[:, :, None] & present[:, None, :]
    better = (teacher[:, :, None] > teacher[:, None, :]) & both
    # Rank from above, ties sharing the mean of their places.
    tied = (teacher[:, :, None] == teacher[:, None, :]) & both
    rank = better.sum(1) + (tied.sum(1) + 1).to(student.dtype) / 2
    gaps = (rank[:, None, :] - rank[:, :, None]) / (present.sum(-1)[:, None, None] - 1)
    highest = student.masked_fill(~present, -torch.inf).amax(-1)
    lowest = student.masked_fill(~present, torch.inf).amin(-1)
    norm = (highest - lowest).clamp_min(_EPS)[:, None, None]
    behind = (student[:, None, :] - student[:, :, None]) / (norm.detach() if detach_norm else norm)
    return torch.where(better, torch.relu(behind + gaps), 0.0).sum((1, 2))


@dataclass(frozen=True)
class BiAlign:
    """Forward KL over the whole few-shot sample plus the ranking of its demonstration subsets, counted in samples."""

    teacher: str = "harbor:base-3m"
    """Model to learn from: `harbor:NAME`, a directory, a hub id, with the vocabulary of the trained model."""
    lam: float = 1.0
    """Weight of the ranking loss; 0 is distillation of outputs alone."""
    subsets: int = 4
    """N, subsets of each sample's demonstrations; 3 or more."""
    scope: Literal["sample", "target"] = "sample"
    """Where the KL is taken: at every token of the sample, or at its target's."""
    allow_empty: bool = True
    """Whether no demonstration at all may be one of the subsets."""
    detach_norm: bool = False
    """Whether the range of the student's scores is a constant to the gradient."""
    temperature: float = 1.0
    """Both models' logits are divided by it in the KL."""
    top_k: int | None = None
    """Take the KL over the teacher's k likeliest tokens, renormalised; None: the whole vocabulary."""
    subset_seed: int = 0
    """Which subsets are drawn; they stay the same in every epoch."""

    def __post_init__(self) -> None:
        if self.lam < 0:
            raise UsageError(f"bialign.lam is {self.lam}", fix="use 0 or more; the paper has 1.0")
        _ = self.needs

    @property
    def needs(self) -> Needs:
        """Conversations as few-shot samples, the teacher's log-probs, and the KL from it."""
        spec = Divergence("forward", temperature=self.temperature, top_k=self.top_k)
        grouping = Demonstrations(self.subsets, self.allow_empty, self.scope, self.subset_seed)
        return Needs(record="conversation", grouping=grouping, teacher=self.teacher, divergence=spec)

    def __call__(self, scores: Scores) -> Loss:
        """Return the summed loss.

        Metrics: `kl` and `ranking`, the two parts per sample; `kendall`, the correlation of the student's and the
        teacher's order of the subsets; `top` and `bottom`, how often both have the same best and the same worst one.
        """
        full = scores.require("full").bool()
        student, teacher, present = _tables(scores, full)
        kl = token_means(scores.require("divergence"), scores.mask)[full]
        ranking = rank_alignment(student, teacher, present, detach_norm=self.detach_norm)
        count = torch.tensor(float(len(kl)), device=kl.device)
        parts = {"kl": kl, "ranking": ranking, **_agreement(student.detach(), teacher, present)}
        return Loss(
            sum=kl.sum() + self.lam * ranking.sum(),
            count=count,
            metrics={name: (values.detach().sum(), count) for name, values in parts.items()},
        )


def _tables(scores: Scores, full: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the log-probs of each sample's target behind its subsets, [B, N] of both models, and which are there."""
    numbers, sample = scores.group.unique(return_inverse=True)
    part, order = sample[~full].sort(stable=True)
    sizes = part.bincount(minlength=len(numbers))
    column = torch.arange(len(part), device=part.device) - (sizes.cumsum(0) - sizes)[part]
    shape = (len(numbers), int(sizes.max()))
    present = torch.zeros(shape, dtype=torch.bool, device=part.device).index_put(
        (part, column), torch.ones_like(part, dtype=torch.bool)
    )
    tables = [
        torch.zeros(shape, dtype=torch.float32, device=part.device).index_put(
            (part, column), token_sums(values, scores.mask)[~full][order]
        )
        for values in (scores.policy, scores.require("teacher"))
    ]
    return tables[0], tables[1], present


def _agreement(student: Tensor, teacher: Tensor, present: Tensor) -> dict[str, Tensor]:
    """Return Kendall's tau-a of the two orders, and whether they have the same first and the same last, [B] each."""
    signs = [torch.sign(values[:, :, None] - values[:, None, :]) for values in (student, teacher)]
    both = present[:, :, None] & present[:, None, :]
    size = present.sum(-1)
    agreeing = torch.where(both, signs[0] * signs[1], 0.0).sum((1, 2))
    high = [values.masked_fill(~present, -torch.inf).argmax(-1) for values in (student, teacher)]
    low = [values.masked_fill(~present, torch.inf).argmin(-1) for values in (student, teacher)]
    return {
        "kendall": agreeing / (size * (size - 1)),
        "top": (high[0] == high[1]).float(),
        "bottom": (low[0] == low[1]).float(),
    }
