"""A reward model less its own doubt: its last layer knows which answers are unlike those it was trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np

from fairlead.errors import DataError, UsageError
from fairlead.messages import Prompt
from fairlead.rewards.base import Rewards, check_lengths
from fairlead.rewards.model import ModelReward
from fairlead.rewards.posterior import Posterior, elliptical_spread, fit_posterior
from fairlead.rewards.rollouts import Rollouts, read_rollouts

__all__ = ["LaplaceReward"]


@dataclass(frozen=True)
class LaplaceReward:
    """The mean of a reward less a multiple of its standard deviation, both from one reward model. Never abstains."""

    model: str
    """Folder, `harbor:NAME` or hub id of a reward model, as for the reward `model`."""
    pairs: str | tuple[str, ...]
    """The preference records that it was trained on: they say what it knows."""
    deviations: float = 1.0
    """Standard deviations (or elliptical spreads) taken off."""
    spread: Literal["laplace", "elliptical"] = "laplace"
    """laplace: the last layer is fitted anew to the pairs, and its posterior gives mean and deviation. elliptical: the
    model's own score, and the distance of an answer's features from those of the pairs."""
    ridge: float = 1.0
    """Precision of the last layer's weights before any pair was seen; of elliptical, what is added to the diagonal."""
    reference: str | tuple[str, ...] | None = None
    """Records with a base model's answers to every prompt: values and doubt are then of being better than their mean.
    None to take an answer by itself, whose doubt includes what its prompt alone brings."""
    micro_tokens: int = 8192
    """Most tokens of one forward pass."""

    sources: ClassVar[tuple[str, ...]] = ("pairs", "reference")
    learned: ClassVar[tuple[str, ...]] = ("model",)

    def __post_init__(self) -> None:
        if not self.deviations >= 0:
            raise UsageError(f"laplace.deviations is {self.deviations}", fix="use 0 or more")
        if not self.ridge > 0:
            raise UsageError(f"laplace.ridge is {self.ridge}", fix="use a number above 0")
        _ = self._model

    def __call__(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> Rewards:
        """Value completion i as an answer to prompt i.

        Raises:
            UsageError: not one prompt per completion, or a prompt without reference answers.
            DataError: records that are not preferences.
        """
        mean, deviation = self.moments(prompts, completions)
        return Rewards(mean - self.deviations * deviation, np.zeros(len(mean), dtype=bool))

    def moments(self, prompts: Sequence[Prompt], completions: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation of every completion's reward, float64 [N] each."""
        check_lengths(prompts, completions)
        features, scores = self._model.read(prompts, completions)
        if self.reference is not None:
            zeros = [self._zeros[self._answers.find(prompt)] for prompt in prompts]
            features = features - np.array([feature for feature, _ in zeros]).reshape(features.shape)
            scores = scores - np.array([score for _, score in zeros])
        return _SPREADS[self.spread](self, features, scores)

    @cached_property
    def posterior(self) -> Posterior:
        """The last layer after the pairs."""
        better, worse = self._known
        return fit_posterior(better - worse, self.ridge)

    @cached_property
    def _model(self) -> ModelReward:
        return ModelReward(self.model, micro_tokens=self.micro_tokens)

    @cached_property
    def _known(self) -> tuple[np.ndarray, np.ndarray]:
        """Features of the chosen and of the rejected answers, float64 [P, H] each."""
        from fairlead import records

        read = records.read(self.pairs if isinstance(self.pairs, str) else list(self.pairs))
        if read.kind != "preference":
            raise DataError(f"{read.kind} records", place=str(read.source), fix="give the pairs it was trained on")
        rows: list[Any] = list(read)
        prompts = [row.prompt for row in rows]
        sides = ([_text(getattr(row, side)) for row in rows] for side in ("chosen", "rejected"))
        better, worse = (self._model.read(prompts, said)[0] for said in sides)
        return better, worse

    @cached_property
    def _answers(self) -> Rollouts:
        assert self.reference is not None
        return read_rollouts(self.reference)

    @cached_property
    def _zeros(self) -> dict[str, tuple[np.ndarray, float]]:
        """key of a prompt -> mean features and mean score of its reference answers."""
        found = {}
        for key, texts in self._answers.answers.items():
            features, scores = self._model.read([self._answers.prompts[key]] * len(texts), texts)
            found[key] = (features.mean(0), float(scores.mean()))
        return found


def _laplace(method: LaplaceReward, features: np.ndarray, _: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return method.posterior.mean(features), np.sqrt(method.posterior.variance(features))


def _elliptical(method: LaplaceReward, features: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return scores, elliptical_spread(features, np.concatenate(method._known), method.ridge)


_SPREADS: dict[str, Callable[[LaplaceReward, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]] = {
    "laplace": _laplace,
    "elliptical": _elliptical,
}


def _text(completion: Any) -> str:
    return completion if isinstance(completion, str) else completion[-1]["content"]
