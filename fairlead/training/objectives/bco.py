"""Binary classifier optimisation from thumbs up and down (Jung et al., arXiv 2404.04656).

Equation 7 with the reward shift as a moving average per class; matching of prompts as in the paper's first version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from fairlead.errors import UsageError
from fairlead.training.density import DensityRatio
from fairlead.training.objectives.base import Loss, Needs, Scores, token_sums
from fairlead.training.thumbs import Thumbs, log_ratios

__all__ = ["BCO"]

State = Mapping[str, Tensor]
Totals = Mapping[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class BCO:
    """The policy as a classifier of its answers, with the implicit reward less a shift as logit; counted in answers."""

    beta: float = 0.1
    """Temperature: reward per nat of log-ratio."""
    delta_mode: Literal["class_ema", "pooled_running", "none"] = "class_ema"
    """The shift: midpoint of a moving average of each class's mean reward; mean of all rewards so far; or 0 (plain
    binary cross-entropy)."""
    decay: float = 0.9
    """What a moving average keeps of itself per step, in [0, 1); 0 takes the step's own class means."""
    start: float = 0.0
    """Value of both moving averages before the first step, in units of reward."""
    reduction: Literal["class_balanced", "row_mean"] = "class_balanced"
    """Mean over thumbs up plus mean over thumbs down, or mean over all answers of the step."""
    matching: Literal["none", "hidden", "sentence"] = "none"
    """Weigh thumbs down so that their prompts are distributed like those of thumbs up, told apart by the starting
    model's hidden states or by a sentence-embedding model."""
    embedder: str | None = None
    """Sentence-embedding model of `matching: sentence`: a path or a hub id."""

    def __post_init__(self) -> None:
        if self.beta <= 0:
            raise UsageError(f"bco.beta is {self.beta}", fix="use a positive temperature such as 0.1")
        if not 0 <= self.decay < 1:
            raise UsageError(f"bco.decay is {self.decay}", fix="use a value in [0, 1) such as 0.9")
        if (self.matching == "sentence") != (self.embedder is not None):
            raise UsageError(
                f"bco.matching is {self.matching!r} and bco.embedder is {self.embedder!r}",
                fix="give an embedder with matching 'sentence', and only there",
            )

    @property
    def needs(self) -> Needs:
        """Feedback and a reference; with matching, a weight per answer."""
        columns = () if self.matching == "none" else (DensityRatio(self.embedder),)
        return Needs(record="feedback", reference=True, grouping=Thumbs(), columns=columns, survey=True)

    def init(self) -> dict[str, Tensor]:
        """Return what the shift is computed from before the first step."""
        return _SHIFTS[self.delta_mode].init(self)

    def remember(self, state: State, totals: Totals) -> dict[str, Tensor]:
        """Return it after a step."""
        return _SHIFTS[self.delta_mode].after(self, state, totals)

    def survey(self, scores: Scores) -> dict[str, Tensor]:
        """Return every answer's `reward` [N], whether it is `up` [N] and its `weight` [N]."""
        reward = self.beta * log_ratios(scores).detach()
        return {"reward": reward, "up": scores.require("label").bool(), "weight": self._weight(scores)}

    def __call__(self, scores: Scores, state: State) -> Loss:
        """Return the summed loss; the shift is read after this step's rewards went into it.

        On held-out answers the shift is the remembered one.

        Metrics: `delta`, `reward_up`, `reward_down`, `reward_size` (mean |r|), `accuracy` (share of answers on their
        side of the shift), `error_term` (mean of exp(delta - r) over ups plus mean of exp(r - delta) over downs),
        `logprob_up`, `logprob_down`; with matching `weight_down` and its `effective_share`.
        """
        up, weight = scores.require("label").bool(), self._weight(scores)
        reward = self.beta * log_ratios(scores)
        step = _Step(scores.survey)
        if scores.training:
            state = self.remember(state, step.totals)
        delta = _SHIFTS[self.delta_mode].value(state).to(reward)
        margin = torch.where(up, reward - delta, delta - reward)
        share = step.class_share(up) if self.reduction == "class_balanced" else 1.0
        losses = -F.logsigmoid(margin) * weight * share
        count = torch.tensor(float(len(reward)), device=reward.device)
        return Loss(sum=losses.sum(), count=count, metrics=self._metrics(scores, step, reward.detach(), delta))

    def _metrics(self, scores: Scores, step: _Step, reward: Tensor, delta: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        up, logprob = scores.require("label").bool(), token_sums(scores.policy, scores.mask).detach()
        margin, share = torch.where(up, reward - delta, delta - reward), step.class_share(up)
        ups, downs, every = up.sum().float(), (~up).sum().float(), torch.ones_like(reward).sum()
        metrics = {
            "delta": (delta * every, every),
            "reward_up": (reward[up].sum(), ups),
            "reward_down": (reward[~up].sum(), downs),
            "reward_size": (reward.abs().sum(), every),
            "accuracy": ((margin > 0).float().sum(), every),
            # Bounded so that one hopeless answer does not make the mean infinite.
            "error_term": (((-margin).clamp_max(60.0).exp() * share).sum(), every),
            "logprob_up": (logprob[up].sum(), ups),
            "logprob_down": (logprob[~up].sum(), downs),
        }
        if self.matching != "none":
            metrics["weight_down"] = (self._weight(scores)[~up].sum(), downs)
            metrics["effective_share"] = (step.effective_share * downs, downs)
        return metrics

    def _weight(self, scores: Scores) -> Tensor:
        up = scores.require("label").bool()
        ones = torch.ones(len(up), device=up.device)
        return ones if self.matching == "none" else torch.where(up, ones, scores.require("weight").float()).detach()


class _Step:
    """What is known of all answers of the step."""

    def __init__(self, survey: Mapping[str, Tensor]):
        if "reward" not in survey:
            raise UsageError(
                "scores carry no survey of the step", fix="call the objective's `survey` for the step first"
            )
        self.reward, self.up, self.weight = survey["reward"], survey["up"].bool(), survey["weight"]

    @property
    def totals(self) -> Totals:
        return {
            name: (self.reward[rows].sum(), rows.sum().float())
            for name, rows in (("reward_up", self.up), ("reward_down", ~self.up))
        }

    @property
    def effective_share(self) -> Tensor:
        weight = self.weight[~self.up]
        return weight.sum() ** 2 / (len(weight) * (weight**2).sum()).clamp_min(1e-12)

    def class_share(self, up: Tensor) -> Tensor:
        """Return answers of the step per answer of each row's class, [N]: sums so weighed are class means by count."""
        every = float(len(self.up))
        ups, downs = self.up.sum().clamp_min(1), (~self.up).sum().clamp_min(1)
        return torch.where(up, every / ups, every / downs)


class _Shift(Protocol):
    def init(self, of: BCO) -> dict[str, Tensor]: ...
    def after(self, of: BCO, state: State, totals: Totals) -> dict[str, Tensor]: ...
    def value(self, state: State) -> Tensor: ...


class _ClassEma:
    def init(self, of: BCO) -> dict[str, Tensor]:
        return {name: torch.tensor(of.start) for name in ("reward_up", "reward_down")}

    def after(self, of: BCO, state: State, totals: Totals) -> dict[str, Tensor]:
        return {name: self._moved(of, mean, *totals[name]) for name, mean in state.items()}

    def _moved(self, of: BCO, mean: Tensor, total: Tensor, count: Tensor) -> Tensor:
        """A class that the step lacks leaves its average alone."""
        mean = mean.to(total.device)
        new = of.decay * mean + (1 - of.decay) * total / count.clamp_min(1)
        return torch.where(count > 0, new, mean).float()

    def value(self, state: State) -> Tensor:
        return (state["reward_up"] + state["reward_down"]) / 2


class _PooledRunning:
    def init(self, of: BCO) -> dict[str, Tensor]:
        return {"mean": torch.zeros(()), "seen": torch.zeros(())}

    def after(self, of: BCO, state: State, totals: Totals) -> dict[str, Tensor]:
        total, count = (sum(part) for part in zip(totals["reward_up"], totals["reward_down"]))
        mean, before = (state[name].to(count) for name in ("mean", "seen"))
        seen = before + count
        return {"mean": (mean + (total - mean * count) / seen.clamp_min(1)).float(), "seen": seen.float()}

    def value(self, state: State) -> Tensor:
        return state["mean"]


class _NoShift:
    def init(self, of: BCO) -> dict[str, Tensor]:
        return {}

    def after(self, of: BCO, state: State, totals: Totals) -> dict[str, Tensor]:
        return {}

    def value(self, state: State) -> Tensor:
        return torch.zeros(())


_SHIFTS: dict[str, _Shift] = {"class_ema": _ClassEma(), "pooled_running": _PooledRunning(), "none": _NoShift()}
