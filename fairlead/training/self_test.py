"""Whether sampler and trainer agree: a rollout, trained on with a learning rate of zero, must keep a ratio of 1."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from fairlead.training.config import TrainConfig
from fairlead.training.loop import accelerator_for
from fairlead.training.run import prepare
from fairlead.training.setup import gather

__all__ = ["SelfTest", "self_test"]


@dataclass(frozen=True)
class SelfTest:
    """How far the trainer's log-probs are from those that whoever drew told."""

    completions: int
    """Completions drawn."""
    tokens: int
    """Tokens compared."""
    largest: float
    """Largest |ratio - 1| of a token; NaN where nothing was told."""
    mean: float
    """Mean of |log-ratio|, nats."""
    sequence: float
    """Largest |ratio - 1| of a whole completion."""
    moved: float
    """Largest change of a weight over one step of the optimizer, which must be 0."""
    layout: str
    """How the trainer lays a batch out."""


def self_test(config: TrainConfig) -> SelfTest:
    """Draw one rollout, compare the log-probs of its tokens, and step once with a learning rate of zero.

    Args:
        config: an online run; its learning rate, weight decay and number of steps are not used.

    Raises:
        FairleadError: whatever the run itself would stop at.
    """
    config = replace(config, learning_rate=0.0, weight_decay=0.0, max_steps=1, evaluation_data=None, keep="last")
    with (
        tempfile.TemporaryDirectory(prefix="fairlead-") as folder,
        accelerator_for(config, Path(folder)) as accelerator,
    ):
        run = prepare(gather(config), accelerator)
        assert run.rollouts is not None
        groups = run.rollouts.at(0)
        gaps = []
        for one in run.passes(groups):
            with torch.no_grad():
                scores, _ = run.scores([groups[i] for i in one.groups])
            gap = scores.policy.float() - scores.fields["sampler"].float()
            gaps += [row[known] for row, known in zip(gap, scores.mask & ~gap.isnan())]
        before = [p.detach().clone() for p in run.plain.parameters()]
        run.step()
        moved = max(float((p.detach() - q).abs().max()) for p, q in zip(run.plain.parameters(), before))
        every = torch.cat(gaps).double()
        return SelfTest(
            len(gaps),
            len(every),
            float((every.exp() - 1).abs().max()) if len(every) else float("nan"),
            float(every.abs().mean()) if len(every) else float("nan"),
            max((abs(float(torch.expm1(row.double().sum()))) for row in gaps if len(row)), default=float("nan")),
            moved,
            run.plain.layout,
        )
