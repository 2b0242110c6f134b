"""Several rewards as one careful one: what they agree on counts, what one of them alone believes does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np

from fairlead import catalog
from fairlead.errors import UsageError
from fairlead.estimates import per_prompt
from fairlead.messages import Prompt
from fairlead.rewards.base import Reward, Rewards, RewardSpec, check_lengths
from fairlead.rewards.ensembles import Careful, careful_values, standardised
from fairlead.rewards.rollouts import Rollouts, read_rollouts

__all__ = ["RewardEnsemble"]


@dataclass(frozen=True)
class RewardEnsemble:
    """A careful value from several rewards, two or more; abstains where any of them does."""

    members: tuple[RewardSpec, ...]
    """The rewards of the ensemble: catalog names, or {name, fields...}."""
    rule: Literal["mean", "median", "lcb", "worst", "penalised"] = "lcb"
    """The mean; the median; the mean less `deviations` standard deviations (M - 1 below); the lowest member; or the
    mean less `variance_weight` times the variance (M below)."""
    deviations: float = 1.0
    """Standard deviations that lcb takes off."""
    variance_weight: float = 0.5
    """Times that penalised takes the variance off: .5 for best of n, .1 for training."""
    reference: str | tuple[str, ...] | None = None
    """Records with a base model's answers to every prompt, as a `generate` step with `n` and `keep: all` leaves them:
    each member's mean over a prompt's answers is its zero there. Rewards trained on pairs are free by a constant per
    prompt, which would pass for disagreement. None to take values as they are."""
    standardise: bool = True
    """With a reference: whether each member is put in units of how much it values the answers to one prompt apart."""

    sources: ClassVar[tuple[str, ...]] = ("reference",)

    def __post_init__(self) -> None:
        if len(self.members) < 2:
            raise UsageError("reward_ensemble.members has fewer than two", fix="name two rewards or more")
        for name in ("deviations", "variance_weight"):
            if not getattr(self, name) >= 0:
                raise UsageError(f"reward_ensemble.{name} is {getattr(self, name)}", fix="use 0 or more")
        _ = self.judges

    def __call__(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> Rewards:
        """Value completion i as an answer to prompt i.

        Raises:
            UsageError: not one prompt per completion, or a prompt without reference answers.
        """
        values = _RULES[self.rule](self, self.values(prompts, completions))
        return Rewards(values, np.isnan(values))

    def values(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> np.ndarray:
        """Return what every member finds the completions worth, moved and scaled: float64 [M, N], NaN for no value."""
        check_lengths(prompts, completions)
        found = np.stack([judge(prompts, completions).values for judge in self.judges])
        if self.reference is None:
            return found
        places = [self._places[self._answers.find(prompt)] for prompt in prompts]
        found = found - self._zeros[:, places]
        return standardised(found, self._known) if self.standardise else found

    def careful(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> Careful:
        """Return mean, standard deviation and the careful values side by side, float64 [N] each."""
        return self._careful(self.values(prompts, completions))

    @cached_property
    def judges(self) -> tuple[Reward, ...]:
        """The members."""
        return tuple(catalog.from_spec("reward", spec) for spec in self.members)

    def _careful(self, values: np.ndarray) -> Careful:
        return careful_values(values, deviations=self.deviations, variance_weight=self.variance_weight)

    @cached_property
    def _answers(self) -> Rollouts:
        assert self.reference is not None
        return read_rollouts(self.reference)

    @cached_property
    def _places(self) -> Mapping[str, int]:
        return {key: place for place, key in enumerate(self._answers.answers)}

    @cached_property
    def _known(self) -> np.ndarray:
        """Every member's values of the reference answers, [M, prompts, most answers]; NaN where there is none."""
        widest = max(len(texts) for texts in self._answers.answers.values())
        found = np.full((len(self.judges), len(self._places), widest), np.nan)
        for member, judge in enumerate(self.judges):
            for key, values in self._answers.valued(judge).items():
                found[member, self._places[key], : len(values)] = values
        return found

    @cached_property
    def _zeros(self) -> np.ndarray:
        """Every member's mean over the reference answers to each prompt, [M, prompts]."""
        return np.stack([per_prompt(values) for values in self._known])


def _median(_: RewardEnsemble, values: np.ndarray) -> np.ndarray:
    return np.median(values, axis=0)


_RULES: dict[str, Callable[[RewardEnsemble, np.ndarray], np.ndarray]] = {
    "median": _median,
    "mean": lambda method, values: method._careful(values).mean,
    "lcb": lambda method, values: method._careful(values).lcb,
    "worst": lambda method, values: method._careful(values).worst,
    "penalised": lambda method, values: method._careful(values).penalised,
}
