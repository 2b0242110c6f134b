"""Generalised knowledge distillation (Agarwal et al., arXiv 2306.13649): a divergence to the teacher at every token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fairlead.forward.divergence import Divergence
from fairlead.training.objectives.base import Loss, Needs, Scores, token_sums

__all__ = ["GKD"]


@dataclass(frozen=True)
class GKD:
    """Divergence of teacher and student on every trained token, counted in tokens."""

    teacher: str = "harbor:aligned-3m"
    """Model to learn from: `harbor:NAME`, a directory, a hub id, with the vocabulary of the trained model."""
    kind: Literal["forward", "reverse", "jsd"] = "jsd"
    """forward: KL(teacher || student). reverse: KL(student || teacher). jsd: generalised Jensen-Shannon."""
    beta: float = 0.5
    """Weight of the teacher in jsd's mixture, in (0, 1); near 0 it behaves as forward, near 1 as reverse KL."""
    temperature: float = 1.0
    """Both models' logits are divided by it."""
    top_k: int | None = None
    """Compare only the teacher's k likeliest tokens; None: the whole vocabulary."""
    tail: Literal["renormalise", "bucket"] = "renormalise"
    """With `top_k`: make both sum to 1 over the k tokens, or let all other tokens be one more outcome."""

    def __post_init__(self) -> None:
        _ = self.needs

    @property
    def needs(self) -> Needs:
        """Conversations, and the divergence from the teacher."""
        spec = Divergence(self.kind, self.beta, self.temperature, self.top_k, self.tail)
        return Needs(record="conversation", teacher=self.teacher, divergence=spec)

    def __call__(self, scores: Scores) -> Loss:
        """Return the summed divergence; metrics: `nll` of the tokens under the student and under the teacher."""
        count = scores.mask.sum().float()
        own = token_sums(scores.policy.detach(), scores.mask).sum()
        taught = token_sums(scores.require("teacher"), scores.mask).sum()
        return Loss(
            sum=token_sums(scores.require("divergence"), scores.mask).sum(),
            count=count,
            metrics={"nll": (-own, count), "teacher_nll": (-taught, count)},
        )
