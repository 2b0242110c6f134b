"""A reward as the rank among a base policy's answers to the same prompt, transformed for an inference-time win rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np

from fairlead import catalog
from fairlead.errors import DataError, UsageError
from fairlead.messages import Prompt, last_question
from fairlead.rewards.base import Reward, Rewards, RewardSpec, check_lengths
from fairlead.rewards.rollouts import Rollouts, read_rollouts
from fairlead.theory.transforms import Transform
from fairlead.theory.win_rates import mid_ranks

__all__ = ["CalibratedReward"]


@dataclass(frozen=True)
class CalibratedReward:
    """The share of a base policy's answers to the prompt that an answer beats, put through a transform (InfAlign).

    Abstains where the wrapped reward does.
    """

    reward: RewardSpec
    """The reward that is calibrated: a catalog name, a mapping of `name` and its fields, or a reward."""
    rollouts: str | tuple[str, ...]
    """Records with the base policy's answers to every prompt, 100 or so each: what a `generate` step with `n` and
    `keep: all` leaves. They must be drawn as the policy's reference draws."""
    transform: Literal["identity", "log", "exp", "neg_exp", "best_of_n", "worst_of_n"] = "exp"
    """What becomes of a rank u: u for the plain win rate; exp(sharpness u) for the best of n, -exp(-sharpness u) for
    the worst; log u for best-of-n distillation; best_of_n and worst_of_n are optimal for one `beta`."""
    sharpness: float = 10.0
    """How steep exp and neg_exp are; with few rollouts use less."""
    n: int = 4
    """Draws of which one is kept at inference, for best_of_n and worst_of_n."""
    beta: float | None = None
    """Strength of the KL for which best_of_n and worst_of_n are optimal, per unit of win rate."""
    normalise: bool = True
    """Whether values are moved and scaled to lie between 0 and 1; see `width` for what that makes of a beta."""
    base: str | None = None
    """The model whose answers the rollouts must be, where their rows tell: others are refused. None for no check."""
    rescore: bool = False
    """Whether rollouts are valued by `reward` although they bear scores."""

    sources: ClassVar[tuple[str, ...]] = ("rollouts",)

    def __post_init__(self) -> None:
        _ = self.wrapped
        try:
            _ = self._transform
        except UsageError as error:
            raise UsageError(error.what, place=error.place or "calibrated", fix=error.fix) from error

    def __call__(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> Rewards:
        """Value completion i as an answer to prompt i; returns N transformed ranks.

        Raises:
            UsageError: not one prompt per completion, a prompt without rollouts, or rollouts of another base model.
        """
        ranks = self.ranks(prompts, completions)
        values = np.full(len(ranks), np.nan)
        kept = ~ranks.abstained
        shape = self.bounded
        values[kept] = (shape.normalised if self.normalise else shape)(ranks.values[kept])
        return Rewards(values, ranks.abstained)

    def ranks(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> Rewards:
        """Return the shares of the base policy's answers that the completions beat, ties counting half: N in [0, 1]."""
        check_lengths(prompts, completions)
        raw = self.wrapped(prompts, completions)
        found = np.full(len(raw), np.nan)
        for i, prompt in enumerate(prompts):
            known = self.known[self.answers.find(prompt)]
            if raw.abstained[i]:
                continue
            if not len(known):
                what = f"the reward abstains on all rollouts of {last_question(prompt)[:80]!r}, and not on an answer"
                raise UsageError(what, place=self.answers.source, fix="use a reward that values them")
            found[i] = mid_ranks(raw.values[i], known)
        return Rewards(found, raw.abstained)

    @cached_property
    def wrapped(self) -> Reward:
        """The reward that is calibrated."""
        return catalog.from_spec("reward", self.reward)

    @cached_property
    def answers(self) -> Rollouts:
        """The base policy's answers.

        Raises:
            DataError: rollouts of another base model.
        """
        found = read_rollouts(self.rollouts)
        if self.base is not None:
            _check_base(found, self.base)
        return found

    @cached_property
    def known(self) -> dict[str, np.ndarray]:
        """key of a prompt -> values of its rollouts, ascending."""
        values = self.answers.valued(self.wrapped) if self.rescore else self.answers.told(self.wrapped)
        return {key: np.sort(found[~np.isnan(found)]) for key, found in values.items()}

    @property
    def bounded(self) -> Transform:
        """The transform as it is applied: ranks below half a rollout count as half a rollout where they must."""
        if self.transform != "log":
            return self._transform
        fewest = min(len(found) for found in self.known.values() if len(found))
        return replace(self._transform, least=0.5 / fewest)

    @property
    def width(self) -> float:
        """How much is divided away by `normalise`: train with beta / width where a formula says beta."""
        return self.bounded.width

    @property
    def _transform(self) -> Transform:
        return Transform(self.transform, self.sharpness, self.n, self.beta)


def _check_base(rollouts: Rollouts, base: str) -> None:
    from fairlead.engines.identity import fingerprint_of

    if rollouts.makers == {None}:
        what = f"the rows do not tell which model answered, so that it cannot be checked to be {base}"
        raise DataError(what, place=rollouts.source, fix="draw them with a `generate` step, or leave base out")
    wanted = fingerprint_of(base)
    if rollouts.makers != {wanted}:
        others = ", ".join(str(maker)[:12] for maker in sorted(rollouts.makers - {wanted}, key=str))
        what = f"answers of {others}, and not of {base} ({wanted[:12]})"
        raise DataError(what, place=rollouts.source, fix=f"draw the rollouts with {base}")
