"""Rank responses to align (Yuan et al., arXiv 2304.05302, equations 1 to 4), with CycleAlign's weights by agreement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairlead.errors import DataError, UsageError
from fairlead.forward.layout import Group
from fairlead.records import Records
from fairlead.render import Renderer
from fairlead.training.columns import FromRecord
from fairlead.training.config import TooLong
from fairlead.training.groups import Lengths, group_of, group_records
from fairlead.training.objectives.base import Loss, Needs, Scores, token_sums
from fairlead.training.objectives.pair_likelihoods import Reduction

__all__ = ["RRHF", "OrderedRankings"]


@dataclass(frozen=True)
class OrderedRankings:
    """One group per ranking, each of which must order at least two of its answers."""

    def build(
        self, records: Records, renderer: Renderer, *, max_length: int, too_long: TooLong
    ) -> tuple[list[Group], Lengths]:
        """Return the groups and the length report.

        Raises:
            DataError: a ranking of ties only, or what `group_records` refuses.
        """
        return group_records(records, renderer, _ordered, max_length=max_length, too_long=too_long)


def _ordered(record: Any, renderer: Renderer) -> Group:
    if len(set(record.scores)) == 1:
        raise DataError(
            f"its {len(record.scores)} completions all have the score {record.scores[0]:g}: nothing is ranked",
            fix="leave the record out, or give its completions different scores",
        )
    rendered = [renderer.example(record.prompt, completion) for completion in record.completions]
    return group_of(record.id, rendered, rank_score=[np.float32(score) for score in record.scores])


@dataclass(frozen=True)
class RRHF:
    """Every better answer likelier per token than every worse one, and SFT on the best; counted in rankings."""

    weight: float = 1.0
    """Weight of the ranking term; >= 0."""
    sft_weight: float = 1.0
    """Weight of the best answer's negative log-likelihood; >= 0. Without it all log-probs sink together."""
    sft_reduction: Reduction = "sum"
    """Negative log-likelihood of the best answer: over all of its tokens (`sum`, the paper's) or per token (`mean`)."""
    length_penalty: float = 1.0
    """Power of the number of tokens that a log-prob is divided by before it is ranked; 1 is the mean, 0 the sum."""
    disagreement: float = 1.0
    """Weight of a pair that a second judge orders the other way or not at all, in [0, 1]; below 1 every record needs
    `second_scores`, a list with the second judge's score of every completion (CycleAlign, arXiv 2310.16271)."""

    @property
    def needs(self) -> Needs:
        """Rankings that rank something, with the second judge's scores where they count."""
        columns = (FromRecord("second_scores"),) if self.disagreement < 1 else ()
        return Needs(record="ranking", grouping=OrderedRankings(), columns=columns)

    def __post_init__(self) -> None:
        for name in ("weight", "sft_weight", "length_penalty"):
            if getattr(self, name) < 0:
                raise UsageError(f"rrhf.{name} is {getattr(self, name)}", fix="use a value >= 0")
        if self.weight == self.sft_weight == 0:
            raise UsageError("rrhf.weight and rrhf.sft_weight are both 0", fix="give one of them a positive value")
        if not 0 <= self.disagreement <= 1:
            raise UsageError(f"rrhf.disagreement is {self.disagreement}", fix="use a weight in [0, 1]")

    def __call__(self, scores: Scores) -> Loss:
        """Return the summed loss; equal scores are never a pair, and best answers that tie share the SFT term.

        Metrics: `rank_loss`, `nll` of the best (as reduced), `logprob_chosen` of the best, per ranking; `accuracy`, the
        share of pairs ordered rightly.
        """
        rank, ranking = scores.require("rank_score").float(), scores.group.unique(return_inverse=True)[1]
        number = int(ranking.max()) + 1
        logprob, length = token_sums(scores.policy, scores.mask), scores.mask.sum(-1)
        better = (ranking[:, None] == ranking) & (rank[:, None] > rank)
        p = logprob / length**self.length_penalty
        gap = p[:, None] - p
        violated = (torch.relu(-gap) * self._pair_weights(scores) * better).sum(-1)
        best = _share_of_best(rank, ranking, number)
        nll = -best * (logprob / length if self.sft_reduction == "mean" else logprob)
        count = torch.tensor(float(number), device=p.device)
        return Loss(
            sum=(self.weight * violated + self.sft_weight * nll).sum(),
            count=count,
            metrics={
                "rank_loss": (violated.detach().sum(), count),
                "nll": (nll.detach().sum(), count),
                "logprob_chosen": ((best * logprob).detach().sum(), count),
                "accuracy": ((better & (gap > 0)).float().sum(), better.float().sum()),
            },
        )

    def _pair_weights(self, scores: Scores) -> Tensor:
        """Return the weight of row i being better than row j, [N, N] (or one for all)."""
        if self.disagreement == 1:
            return torch.ones((), device=scores.policy.device)
        second = scores.require("second_scores").float()
        return torch.where(second[:, None] > second, 1.0, self.disagreement)


def _share_of_best(rank: Tensor, ranking: Tensor, number: int) -> Tensor:
    """Return each row's share of its ranking's SFT term: 1 for a single best answer, 0 for all but the best: [N]."""
    top = torch.full((number,), -torch.inf, device=rank.device).scatter_reduce(0, ranking, rank, "amax")
    best = (rank == top[ranking]).float()
    tied = torch.zeros(number, device=rank.device).index_add(0, ranking, best)
    return best / tied[ranking]
